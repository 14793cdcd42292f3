"""The parameters of Nanny that dask's has. May import: fastdist, pytest."""

from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path

import pytest

from fastdist import Nanny, Scheduler, Status, Worker
from fastdist.utils_test import gen_cluster, gen_test


def test_the_scheduler_may_be_given_by_host_and_port_or_by_file(tmp_path: Path) -> None:
    path = tmp_path / "scheduler.json"
    path.write_text(json.dumps({"address": "tcp://127.0.0.1:3"}))

    async def main() -> None:
        assert Nanny("tcp://127.0.0.1:1").scheduler_address == "tcp://127.0.0.1:1"
        assert Nanny("127.0.0.1", 2).scheduler_address == "tcp://127.0.0.1:2"
        assert Nanny(scheduler_file=path).scheduler_address == "tcp://127.0.0.1:3"
        assert Nanny().scheduler_address is None

    asyncio.run(main())


def test_the_scheduler_file_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "scheduler.json"
    path.write_text('{"addr')
    threading.Timer(0.1, path.write_text, ['{"address": "tcp://127.0.0.1:3"}']).start()
    assert Worker(scheduler_file=path, insecure=True).scheduler_address == "tcp://127.0.0.1:3"
    nanny = Nanny(scheduler_file=path, insecure=True)
    nanny.abandon()
    with pytest.raises(TimeoutError, match=r"no scheduler has written .*none within 0.1 s"):
        Worker(scheduler_file=tmp_path / "none", death_timeout="100 ms")
    with pytest.raises(TimeoutError, match=r"no scheduler has written .*none within 0.1 s"):
        Nanny(scheduler_file=tmp_path / "none", death_timeout="100 ms")


def test_what_is_not_built_is_refused_and_what_asks_for_nothing_is_taken() -> None:
    async def main() -> None:
        for options in ({"listen_address": "tcp://:9"}, {"services": {"x": 1}}, {"reconnect": False}):
            with pytest.raises(NotImplementedError, match=next(iter(options))):
                Nanny("tcp://127.0.0.1:1", **options)
        Nanny("tcp://127.0.0.1:1", quiet=True, reconnect=True, validate=False, services={}, worker_port=0)

    asyncio.run(main())


@gen_cluster(client=True, nthreads=[("127.0.0.1", 1)], Worker=Nanny)
async def test_gen_cluster_takes_nannies(c, s, nanny) -> None:  # type: ignore[no-untyped-def]
    assert nanny.status is Status.running and nanny.process.pid == nanny.pid
    assert nanny.worker_address in s.workers
    assert s.workers[nanny.worker_address].nanny and s.workers[nanny.worker_address].pid == nanny.pid
    assert await c.submit(pow, 2, 3) == 8
    assert nanny.local_directory == nanny.worker_dir and nanny.scheduler_addr == s.address
    assert await nanny.instantiate() is Status.running
    assert not hasattr(nanny, "no_such_thing")
    assert nanny.services == {}


@gen_test()
async def test_a_nanny_and_its_scheduler_share_an_event_loop() -> None:
    async with Scheduler(host="127.0.0.1") as s, Nanny(s.address, nthreads=1, name="mine", port="9800:9899") as nanny:
        assert s.aliases == {"mine": nanny.worker_address}
        assert 9800 <= int(nanny.worker_address.rpartition(":")[2]) <= 9899
    assert nanny.status is Status.closed
