"""`client.scheduler`: operations of the scheduler by name, as libraries call them. May import: fastdist, pytest."""

from __future__ import annotations

from typing import Any

import pytest

from fastdist import Client, LocalCluster
from fastdist.utils_test import gen_cluster, inc


@gen_cluster(client=True)
async def test_operations_have_the_arguments_and_answers_of_dask(c: Any, s: Any, a: Any, b: Any) -> None:
    await c.submit(inc, 1, key="gone")
    x = c.submit(inc, 1, key="x", workers=[a.address])
    await x
    ops = c.scheduler
    assert await ops.nbytes(keys=["x"], summary=False) == {"x": 32} and (await ops.nbytes())["x"] == 32
    assert await ops.gather(keys=["x"]) == {"status": "OK", "data": {"x": 2}}
    assert await ops.gather(keys=["x", "nothing"]) == {"status": "error", "keys": ["nothing"]}
    await ops.replicate(keys=["x"], n=2)
    assert len((await ops.who_has(keys=["x"]))["x"]) == 2
    await ops.set_metadata(keys=["a", "b"], value=5)
    assert await ops.get_metadata(keys=["a"]) == {"b": 5} and await ops.get_metadata(keys="none", default=1) == 1
    with pytest.raises(KeyError):
        await ops.get_metadata(keys=["none"])
    await ops.log_event(topic="told", msg=7)
    assert [message for _, message in await ops.events(topic="told")] == [7] and "told" in await ops.events()
    assert set(await ops.worker_logs()) == {a.address, b.address} and isinstance(await ops.logs(n=1), tuple)
    assert isinstance(await ops.check_idle(), float)
    assert await ops.workers_to_close(n=1, attribute="name") in ([0], [1])
    retired = await ops.retire_workers(workers=[b.address])
    assert list(retired) == [b.address] and retired[b.address]["nthreads"] == 2
    with pytest.raises(NotImplementedError, match="no-such-operation"):
        await ops.no_such_operation()


def test_a_synchronous_client_runs_them_on_its_loop() -> None:
    with (
        LocalCluster(n_workers=1, processes=False, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        future = client.submit(inc, 1, key="x")
        assert client.sync(client.scheduler.gather, keys=[future.key])["status"] in ("OK", "error")
        client.sync(client.scheduler.set_metadata, keys="a", value=1)
        assert client.get_metadata("a") == 1
