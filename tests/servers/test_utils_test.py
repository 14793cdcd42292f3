"""What test suites of other projects use. May import: fastdist, pytest."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import threading
import time
from typing import Any

import pytest

from fastdist import Client, config, utils_test
from fastdist.utils_test import (  # noqa: F401
    SizeOf,
    a,
    async_poll_for,
    asyncinc,
    b,
    captured_logger,
    clean,
    cleanup,
    client,
    cluster,
    cluster_fixture,
    dec,
    gen_cluster,
    gen_test,
    inc,
    loop,
    loop_in_thread,
    map_varying,
    new_config,
    poll_for,
    popen,
    raises_with_cause,
    s,
    slowidentity,
    varying,
)


def test_every_name_is_there() -> None:
    assert all(hasattr(utils_test, name) for name in utils_test.__all__)


@gen_cluster(
    client=True,
    nthreads=[("127.0.0.1", 1, {"name": "x"}), ("127.0.0.1", 3)],
    config={"comm.timeouts.connect": "7s"},
)
async def test_gen_cluster_gives_a_client_a_scheduler_and_workers(c: Any, s: Any, a: Any, b: Any) -> None:  # noqa: F811
    assert await c.submit(inc, 1) == 2
    assert [a.name, b.name] == ["x", 1] and [a.nthreads, b.nthreads] == [1, 3]
    assert s.validate and set(s.workers) == {a.address, b.address}
    assert config.get("comm.timeouts.connect") == 7


@pytest.mark.parametrize("number", [1, 2])
@gen_cluster(nthreads=[])
async def test_gen_cluster_leaves_fixtures_and_parameters_to_pytest(s: Any, tmp_path: Any, number: int) -> None:  # noqa: F811
    assert len(s.workers) == 0 and tmp_path.exists() and number in (1, 2)


class TestInAClass:
    """Tests may be methods."""

    @gen_cluster(client=True, nthreads=[("127.0.0.1", 1)])
    async def test_self_stays_the_first_argument(self, c: Any, s: Any, a: Any, tmp_path: Any) -> None:  # noqa: F811
        assert isinstance(self, TestInAClass) and tmp_path.exists()
        assert await c.submit(dec, 1) == 0


@gen_test()
async def test_gen_test_runs_coroutines() -> None:
    assert await asyncinc(1, delay=0) == 2


def test_gen_test_has_a_timeout_and_takes_coroutine_functions_only() -> None:
    @gen_test(timeout=0.01)
    async def too_slow() -> None:
        await asyncio.sleep(10)

    with pytest.raises((TimeoutError, asyncio.TimeoutError)):
        too_slow()
    for decorate in (gen_test(), gen_cluster()):
        with pytest.raises(TypeError, match="coroutine function"):
            decorate(lambda: None)


def test_what_a_test_raises_comes_out_and_the_cluster_is_closed() -> None:
    seen = []

    @gen_cluster(client=True)
    async def fails(c: Any, s: Any, a: Any, b: Any) -> None:  # noqa: F811
        seen.extend([c, s, a, b])
        raise ZeroDivisionError("on purpose")

    with pytest.raises(ZeroDivisionError, match="on purpose"):
        fails()
    assert [getattr(each.status, "name", each.status) for each in seen] == ["closed"] * 4


def test_clusters_of_processes_and_their_client(
    client: Client, s: dict[str, Any], a: dict[str, Any], b: dict[str, Any], loop: Any  # noqa: F811
) -> None:
    assert client.submit(pow, 2, 3, workers=[a["address"]]).result() == 8
    assert {a["address"], b["address"]} == set(client.nthreads())
    assert client.loop is loop
    with Client(s["address"], set_as_default=False) as other:
        assert other.submit(pow, 2, 4).result() == 16
    called = threading.Event()
    loop.add_callback(called.set)
    assert called.wait(5)


def test_leaked_threads_are_found() -> None:
    go_on = threading.Event()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fastdist.testing.cleaning.PATIENCE", 0.05)
        thread = threading.Thread(target=go_on.wait, name="left-behind")
        with pytest.raises(AssertionError, match="left-behind"), clean():
            thread.start()
    go_on.set()
    thread.join()


def test_varying_gives_one_item_after_the_other() -> None:
    function = varying([1, ValueError("two"), 3])
    assert function() == 1
    with pytest.raises(ValueError, match="two"):
        function()
    assert function() == 3
    with pytest.raises(IndexError):
        function()
    apply, functions = map_varying([[1], [2]])
    assert [apply(each) for each in functions] == [1, 2]


def test_little_functions() -> None:
    assert slowidentity(1, delay=0) == 1 and slowidentity(1, 2, delay=0) == (1, 2)
    assert sys.getsizeof(SizeOf(1000)) in range(1000, 1064)
    with pytest.raises(ValueError, match="at least"):
        SizeOf(0)


def test_captured_logs_take_the_names_of_dask() -> None:
    with captured_logger("distributed.worker") as log:
        logging.getLogger("fastdist.worker").info("hello")
    assert log.getvalue() == "hello\n"


def test_waits_end() -> None:
    with pytest.raises(pytest.fail.Exception, match="did not hold"):
        poll_for(lambda: False, timeout=0.01, period=0.001)
    with pytest.raises(pytest.fail.Exception, match="did not hold"):
        asyncio.run(async_poll_for(lambda: False, timeout=0.01, period=0.001))
    start = time.monotonic()
    poll_for(lambda: True)
    assert time.monotonic() - start < 1


def test_settings_are_the_defaults_and_those_given() -> None:
    with config.set({"comm.timeouts.tcp": 3}), new_config({"distributed": {"comm": {"timeouts": {"connect": "9s"}}}}):
        assert config.get("comm.timeouts.connect") == 9
        assert config.get("comm.timeouts.tcp") != 3


def test_causes_are_checked() -> None:
    with raises_with_cause(KeyError, "outer", ValueError, "inner"):
        try:
            raise ValueError("inner")
        except ValueError as error:
            raise KeyError("outer") from error


def test_processes_end_with_their_block() -> None:
    program = "import time; print('up', flush=True); time.sleep(60)"
    with popen([sys.executable, "-c", program], capture_output=True) as p:
        assert p.stdout is not None and p.stdout.readline() == b"up\n"
    assert p.returncode not in (None, 0)
    assert isinstance(p, subprocess.Popen)


def test_fixtures_can_be_used_without_a_cluster(cleanup: None) -> None:  # noqa: F811
    with cluster(nworkers=0) as (scheduler, workers):
        assert scheduler["address"].startswith("tcp://127.0.0.1:") and workers == []
