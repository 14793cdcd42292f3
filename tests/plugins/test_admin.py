"""The admin table: who may bring code for the scheduler. May import: fastdist, pytest."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

import fastdist.scheduler
from fastdist import Client, SchedulerPlugin, Worker
from fastdist.cli import scheduler as scheduler_command
from fastdist.scheduler.extensions.admin import ADMIN_OPERATIONS
from fastdist.scheduler.scheduler import Scheduler


def run(coroutine: Any) -> Any:
    """Run a coroutine to its end, within a minute."""
    return asyncio.run(asyncio.wait_for(coroutine, 60))


def test_a_function_runs_in_the_process_of_the_scheduler_and_gets_it(client: Client, cluster: Any) -> None:
    assert client.run_on_scheduler(lambda dask_scheduler: dask_scheduler.address) == cluster.scheduler_address
    assert client.run_on_scheduler(divmod, 7, y := 2) == (3, y // 2)


def test_arguments_and_coroutine_functions_work(client: Client) -> None:
    async def add(a: int, *, b: int) -> int:
        await asyncio.sleep(0)
        return a + b

    assert client.run_on_scheduler(add, 1, b=2) == 3


def test_its_error_is_raised_at_the_client(client: Client) -> None:
    with pytest.raises(ZeroDivisionError):
        client.run_on_scheduler(lambda: 1 / 0)


def test_without_waiting_the_result_is_none_and_an_error_is_logged(
    client: Client, caplog: pytest.LogCaptureFixture, eventually: Any
) -> None:
    assert client.run_on_scheduler(abs, -1, wait=False) is None
    assert client.run_on_scheduler(lambda: 1 / 0, wait=False) is None
    assert eventually(lambda: "ZeroDivisionError" in caplog.text)


def test_a_scheduler_without_admin_code_decodes_nothing_and_says_why() -> None:
    class Plugin(SchedulerPlugin):
        pass

    async def main() -> None:
        async with (
            Scheduler(protocol="inproc://", admin_code=False) as scheduler,
            Client(scheduler.address, asynchronous=True) as client,
        ):
            loaded: list[Any] = []
            admin: Any = scheduler.extensions["admin"]
            admin.load = lambda *args: loaded.append(args)
            with pytest.raises(PermissionError, match="--no-admin-code"):
                await client.run_on_scheduler(abs, -1)
            with pytest.raises(PermissionError, match="--no-admin-code"):
                await client.register_plugin(Plugin())
            with pytest.raises(PermissionError, match="--no-admin-code"):
                await client.unregister_scheduler_plugin("x")
            assert loaded == []

    run(main())


def test_the_scheduler_daemon_has_an_option_for_it() -> None:
    parser = scheduler_command.parser()
    assert parser.parse_args([]).admin_code is True
    assert parser.parse_args(["--no-admin-code"]).admin_code is False


def test_a_worker_has_no_admin_right() -> None:
    async def main() -> None:
        async with (
            Scheduler(protocol="inproc://") as scheduler,
            Worker(scheduler.address, nthreads=1, memory_limit=0) as worker,
        ):
            for op in ("run-on-scheduler", "register-scheduler-plugin"):
                with pytest.raises(NotImplementedError, match=f"no operation '{op}'"):
                    await worker.scheduler.call(op, buffers=[b"cbuiltins\nprint\n."])
            admin: Any = scheduler.extensions["admin"]
            (entry,) = scheduler.members
            with pytest.raises(PermissionError, match="only a client may"):
                admin.check(entry.peer, "run-on-scheduler")
            with pytest.raises(PermissionError, match="no operation that may bring code"):
                admin.check(entry.peer, "identity")

    run(main())


def test_only_operations_of_the_table_are_decoded_and_only_in_one_place() -> None:
    """The scheduler's sources unpickle in the admin extension, and where a plugin that runs already asks for it."""
    folder = Path(fastdist.scheduler.__file__).parent
    decoding = re.compile(r"pickle\.loads|load_function\(|decode_call\(|load_failure\(|results\.loads")
    found = {
        str(path.relative_to(folder)) for path in folder.rglob("*.py") if decoding.search(path.read_text())
    }
    assert found <= {"extensions/admin.py", "plugin_calls.py"}
    assert {"run-on-scheduler", "register-scheduler-plugin"} <= set(ADMIN_OPERATIONS)
