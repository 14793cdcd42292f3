"""Small functions that libraries import from dask.distributed's modules, under the same names here."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import fastdist
from fastdist import Client, LocalCluster
from fastdist.compat import utils
from fastdist.compat.addresses import get_address_host, get_address_host_port, resolve_address


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with (
        LocalCluster(n_workers=1, processes=False, protocol="tcp://", dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        yield client


async def double(x: int, name: str = "") -> Any:
    await asyncio.sleep(0)
    return 2 * x, name, threading.current_thread() is threading.main_thread()


def test_sync_runs_a_coroutine_on_the_loop_of_another_thread(client: Client) -> None:
    assert fastdist.sync(client.loop, double, 2, name="n") == (4, "n", False)
    with pytest.raises(TimeoutError):
        fastdist.sync(client.loop, asyncio.sleep, 10, callback_timeout="10ms")

    async def on_the_loop_itself() -> Any:
        return fastdist.sync(client.loop, double, 2)

    with pytest.raises(RuntimeError, match="await the call instead"):
        fastdist.sync(client.loop, on_the_loop_itself)
    with pytest.raises(RuntimeError, match="does not run"):
        loop = asyncio.new_event_loop()
        try:
            fastdist.sync(loop, double, 2)
        finally:
            loop.close()


def test_a_loop_runner_has_a_loop_to_wait_on() -> None:
    runner = utils.LoopRunner()
    assert not runner.is_started() and runner.run_sync(double, 3)[0] == 6
    runner.start()
    assert runner.is_started() and runner.run_sync(double, 4)[0] == 8
    runner.stop()
    assert not runner.is_started()


def test_methods_block_or_are_awaited_as_their_user_is(client: Client) -> None:
    class Thing(utils.SyncMethodMixin):
        loop = client.loop

        def ask(self, **kwargs: Any) -> Any:
            return self.sync(double, 5, **kwargs)

    assert Thing().ask()[0] == 10
    assert asyncio.run(Thing().ask(asynchronous=True))[0] == 10
    assert not Thing().asynchronous


def test_operations_of_a_scheduler_are_called_by_name(client: Client) -> None:
    address = client.cluster.scheduler_address
    token = client.cluster.token

    async def ask() -> Any:
        async with fastdist.rpc(address) as scheduler:
            scheduler._token = token
            identity = await scheduler.identity()
            return identity["address"], repr(scheduler)

    assert asyncio.run(ask()) == (address, f"<rpc to {address!r}, 1 comms>")
    for arguments in ({"comm": object()}, {"serializers": ["x"]}):
        with pytest.raises(NotImplementedError, match=next(iter(arguments))):
            fastdist.rpc(address, **arguments)
    with pytest.raises(TypeError, match="address of a scheduler"):
        fastdist.rpc(5)


def test_the_state_of_a_thread_tells_whether_a_task_executes(client: Client) -> None:
    def look() -> Any:
        from fastdist.worker import thread_state

        return thread_state.key, sorted(thread_state.execution_state)

    assert client.submit(look, key="looks").result(10) == ("looks", ["scheduler", "worker"])
    assert not hasattr(utils.thread_state, "execution_state") and not hasattr(utils.thread_state, "key")


def test_the_queue_of_as_completed_can_be_emptied(client: Client) -> None:
    future = client.submit(abs, -1)
    done = fastdist.as_completed([future])
    fastdist.wait([future])
    with done.lock:
        done.futures.clear()
        while not done.queue.empty():
            assert done.queue.get() is future
    assert done.is_empty() and list(done) == []


def test_errors_are_logged_and_go_on(caplog: pytest.LogCaptureFixture) -> None:
    @utils.log_errors
    def divide(a: int, b: int) -> float:
        return a / b

    @utils.log_errors
    async def divide_later(a: int, b: int) -> float:
        return a / b

    with caplog.at_level(logging.ERROR):
        with pytest.raises(ZeroDivisionError):
            divide(1, 0)
        with pytest.raises(ZeroDivisionError):
            asyncio.run(divide_later(1, 0))
    assert divide(4, 2) == 2 and divide.__name__ == "divide"
    assert len(caplog.records) == 2 and "divide" in caplog.records[0].message


def test_addresses_and_names_are_taken_apart() -> None:
    assert get_address_host_port("tcp://127.0.0.1:8786") == ("127.0.0.1", 8786)
    assert get_address_host("tcp://[::1]:5") == "::1"
    assert resolve_address("tcp://127.0.0.1:5") == "tcp://127.0.0.1:5"
    with pytest.raises(ValueError, match="no scheme"):
        get_address_host_port("127.0.0.1:1", strict=True)
    assert utils.parse_ports("8000:8002") == [8000, 8001, 8002] and utils.parse_ports(None) == [None]
    assert utils.ensure_ip("127.0.0.1") == "127.0.0.1"
    assert utils.key_split(("x-0123456789abcdef0123456789abcdef", 1)) == "x"
    assert utils.import_term("math.pi") > 3
    assert utils.coerce_to_address(("localhost", 5)) == "tcp://localhost:5"


def test_exceptions_and_values_travel_as_messages() -> None:
    message = utils.error_message(ValueError("no"))
    kind, error, _ = utils.clean_exception(message["exception"])
    assert kind is ValueError and error.args == ("no",) and message["exception_text"] == "ValueError('no')"
    assert utils.deserialize(*utils.serialize({"a": [1]})) == {"a": [1]}
    with pytest.raises(NotImplementedError, match="pickle only"):
        utils.serialize(1, serializers=["dask"])
