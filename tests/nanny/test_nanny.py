"""The life of a worker process: start, end, restart, explanations."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from fastdist import config
from fastdist.comm import Role, listen
from fastdist.comm.token import Token
from fastdist.nanny import Nanny, restarts
from fastdist.nanny import nanny as nanny_module
from fastdist.nanny.launch import import_name, worker_configuration
from fastdist.status import Status
from fastdist.worker.memory import MemoryThresholds

TOKEN = Token.generate()
FAKE = "fake_worker:FakeWorker"

#: What is compared of a report; the rest depends on the machine.
EXPLAINED = ("op", "address", "exit_code", "signal", "executing", "reason")


def make_nanny(name: object = "quiet", address: str = "tcp://127.0.0.1:1", **options: Any) -> Nanny:
    options.setdefault("worker_class", FAKE)
    return Nanny(address, name=name, nthreads=1, token=TOKEN, **options)


def run(main: Callable[[], Any]) -> Any:
    return asyncio.run(asyncio.wait_for(main(), 30))


class FakeScheduler:
    """Collects the control messages that nannies send."""

    def __init__(self) -> None:
        self.messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.roles: list[Role] = []

    async def __aenter__(self) -> FakeScheduler:
        self._listener = await listen("tcp://127.0.0.1:0", token=TOKEN, on_comm=self._accept)
        self.address = self._listener.address
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._listener.close()

    def _accept(self, comm: Any) -> None:
        self.roles.append(comm.role)
        comm.start(lambda *frame: None, self._take, lambda error: None)

    def _take(self, message: dict[str, Any], buffers: list[Any]) -> None:
        if message["op"] != "register-nanny":
            self.messages.put_nowait(message)


def test_a_worker_runs_in_a_process_of_its_own_until_closed() -> None:
    async def main() -> None:
        async with make_nanny() as nanny:
            assert nanny.status is Status.running
            assert nanny.worker_address == f"pid://{nanny.pid}"
            assert nanny.pid is not None
            assert nanny.pid != os.getpid()
            process = psutil.Process(nanny.pid)
            folder = nanny.worker_dir
            assert os.listdir(folder) == ["file"]
        assert nanny.status is Status.closed
        assert not nanny.is_alive()
        assert not process.is_running()
        await asyncio.wait_for(nanny.finished(), 1)
        assert await nanny.close() == "OK"

    run(main)


def test_the_token_is_in_neither_arguments_nor_environment_and_the_variables_are_set() -> None:
    async def main() -> None:
        async with make_nanny(env={"OF_THE_USER": "1"}) as nanny:
            process = psutil.Process(nanny.pid)
            environ = process.environ()
            assert TOKEN.to_hex() not in " ".join([*process.cmdline(), *environ.values()])
            assert environ["OF_THE_USER"] == "1"
            assert environ["OMP_NUM_THREADS"] == os.environ.get("OMP_NUM_THREADS", "1")
            assert environ["MALLOC_TRIM_THRESHOLD_"] == "65536"
            assert os.getpgid(process.pid) == process.pid

    run(main)


def test_a_python_path_for_the_worker_is_searched_first_and_is_in_its_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def configured(environ: dict[str, str]) -> tuple[list[str], str | None]:
        message = worker_configuration(
            "tcp://127.0.0.1:1", token=None, insecure=True, nanny="n", worker_class=None, scratch="",
            log_level=30, options={}, environ=environ,
        )
        return message["sys_path"], message["restore_environ"]["PYTHONPATH"]

    monkeypatch.setattr("sys.path", ["/c", "/b"])
    monkeypatch.setenv("PYTHONPATH", "/b")
    given = os.pathsep.join(["/a", "/b"])
    assert configured({"PYTHONPATH": given}) == (["/a", "/b", "/c"], given)
    assert configured({}) == (["/c", "/b"], "/b")
    monkeypatch.delenv("PYTHONPATH")
    assert configured({}) == (["/c", "/b"], None)
    with config.set({"nanny.environ": {"PYTHONPATH": "/d"}}):
        assert configured({}) == (["/d", "/c", "/b"], "/d")


def test_a_process_spawned_early_is_configured_later() -> None:
    async def main() -> None:
        nanny = make_nanny()
        nanny.scheduler_address = None
        nanny.spawn()
        pid = nanny.pid
        with pytest.raises(RuntimeError, match="no scheduler address"):
            await nanny.start()
        nanny.scheduler_address = "tcp://127.0.0.1:1"
        await nanny
        assert nanny.pid == pid
        await nanny.close()

    run(main)


def test_a_process_that_was_never_configured_is_closed_at_once() -> None:
    async def main() -> None:
        nanny = make_nanny()
        nanny.spawn()
        process = psutil.Process(nanny.pid)
        await nanny.close()
        assert not process.is_running()
        assert nanny.status is Status.closed

    run(main)


@pytest.mark.parametrize(
    ("name", "reason"), [("failing", "ValueError: no such scheduler"), ("dying_at_start", "exit code 8")]
)
def test_a_worker_that_cannot_start_is_an_error_that_says_why(name: str, reason: str) -> None:
    async def main() -> None:
        nanny = make_nanny(name)
        with pytest.raises(RuntimeError, match=reason):
            await nanny
        assert not nanny.is_alive()

    run(main)


def test_a_class_that_cannot_be_imported_is_an_error_that_says_why() -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match="no attribute 'Missing'"):
            await make_nanny(worker_class="fake_worker:Missing")

    run(main)

    class Local:
        pass

    with pytest.raises(ValueError, match="module of its own"):
        import_name(Local)


def test_a_killed_worker_is_explained_to_the_scheduler_and_started_again() -> None:
    async def main() -> None:
        async with FakeScheduler() as scheduler, make_nanny(address=scheduler.address) as nanny:
            first = nanny.pid
            assert first is not None
            os.kill(first, signal.SIGKILL)
            message = await scheduler.messages.get()
            assert {name: message[name] for name in EXPLAINED} == {
                "op": "worker-exited",
                "address": f"pid://{first}",
                "exit_code": None,
                "signal": signal.SIGKILL,
                "executing": [],
                "reason": "its process ended with signal 9 (SIGKILL)",
            }
            assert set(scheduler.roles) == {Role.NANNY}
            await until(lambda: nanny.status is Status.running and nanny.worker_address)
            assert nanny.pid not in (None, first)

    run(main)


def test_what_the_worker_was_executing_is_in_the_explanation() -> None:
    async def main() -> None:
        async with FakeScheduler() as scheduler, make_nanny("executing", address=scheduler.address) as nanny:
            os.kill(nanny.pid or 0, signal.SIGKILL)
            message = await scheduler.messages.get()
            assert message["executing"] == [[77, 2]]

    run(main)


def test_a_worker_over_its_memory_limit_is_killed_and_the_reason_told() -> None:
    async def main() -> None:
        thresholds = MemoryThresholds(terminate=0.95)
        async with (
            FakeScheduler() as scheduler,
            make_nanny(
                "hungry",
                address=scheduler.address,
                memory_limit=200_000_000,
                memory_thresholds=thresholds,
                monitor_interval=0.01,
            ),
        ):
            message = await scheduler.messages.get()
            assert message["signal"] == signal.SIGKILL
            assert "95% of its memory limit" in message["reason"]

    run(main)


def test_a_worker_that_dies_again_and_again_is_given_up(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(restarts, "RESTART_DELAYS", (0.0,))
    monkeypatch.setattr(restarts, "MAX_RAPID_DEATHS", 3)

    async def main() -> None:
        async with FakeScheduler() as scheduler:
            nanny = await make_nanny("dying", address=scheduler.address)
            await nanny.finished()
            assert nanny.status is Status.failed
            assert nanny.close_reason == "its process ended with exit code 7"
            await nanny.close()

    run(main)
    assert "giving up" in caplog.text


def test_failing_restarts_are_counted_once_each_and_then_given_up(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    monkeypatch.setattr(restarts, "RESTART_DELAYS", (0.0,))
    monkeypatch.setattr(restarts, "MAX_RAPID_DEATHS", 3)
    counter = tmp_path_factory.mktemp("counter") / "starts"
    counter.write_text("")

    async def main() -> None:
        async with FakeScheduler() as scheduler:
            nanny = make_nanny("failing_later", address=scheduler.address, env={"COUNTER": str(counter)})
            await nanny
            os.kill(nanny.pid or 0, signal.SIGKILL)
            await nanny.finished()
            assert nanny.status is Status.failed

    run(main)
    assert counter.read_text() == "4"
    assert caplog.text.count("giving up") == 1
    assert caplog.text.count("ended unexpectedly") == 1


def test_a_worker_that_closes_by_itself_is_not_started_again() -> None:
    async def main() -> None:
        nanny = await make_nanny("closing")
        await nanny.finished()
        assert nanny.status is Status.closed
        assert nanny.close_reason == "the worker closed"

    run(main)


def test_sigterm_closes_the_worker_for_good() -> None:
    async def main() -> None:
        nanny = await make_nanny()
        os.kill(nanny.pid or 0, signal.SIGTERM)
        await nanny.finished()
        assert nanny.status is Status.closed
        assert nanny.close_reason == "signal-15"

    run(main)


def test_a_worker_that_holds_the_gil_is_killed_after_the_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nanny_module, "TERMINATE_GRACE", 0.05)

    async def main() -> None:
        nanny = await make_nanny("stubborn")
        process = psutil.Process(nanny.pid)
        await asyncio.sleep(0.1)
        await nanny.close(timeout=0.1)
        assert not process.is_running()

    run(main)


def test_threads_that_never_end_do_not_hold_the_process() -> None:
    async def main() -> None:
        nanny = await make_nanny("threaded")
        loop = asyncio.get_running_loop()
        start = loop.time()
        await nanny.close(timeout=20)
        assert loop.time() - start < 5

    run(main)


def test_restart_gives_another_process() -> None:
    async def main() -> None:
        async with make_nanny() as nanny:
            first = nanny.pid
            assert await nanny.restart() == "OK"
            assert nanny.pid not in (None, first)
            assert nanny.status is Status.running

    run(main)


def test_abandon_needs_no_loop() -> None:
    async def main() -> tuple[Nanny, psutil.Process]:
        nanny = await make_nanny()
        return nanny, psutil.Process(nanny.pid)

    nanny, process = run(main)
    nanny.abandon()
    assert not process.is_running()


def test_an_unreachable_scheduler_does_not_keep_the_worker_down(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with make_nanny() as nanny:
            first = nanny.pid
            os.kill(first or 0, signal.SIGKILL)
            await until(lambda: nanny.pid not in (None, first) and nanny.status is Status.running)
            await until(lambda: "cannot tell the scheduler" in caplog.text)

    run(main)


async def until(condition: Callable[[], object]) -> None:
    """Let the loop run until the condition holds."""
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0.005)


def test_the_output_of_tasks_reaches_the_terminal(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    async def main() -> None:
        async with make_nanny("talking"):
            pass

    run(main)
    assert capfd.readouterr() == ("hello\n", "")
