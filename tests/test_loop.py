"""The shared loop thread. May import: fastdist.loop."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Callable

import pytest

from fastdist.loop import LoopThread, QuickLoop, call_before_sleep


def test_users_share_one_thread_that_ends_with_the_last() -> None:
    first, second = LoopThread.acquire(), LoopThread.acquire()
    assert first is second
    first.release()
    assert second.run(asyncio.sleep(0, "done")) == "done"
    second.release()
    assert not second.is_alive()
    third = LoopThread.acquire()
    assert third is not first and third.is_alive()
    third.release()


def test_run_gives_results_errors_and_timeouts() -> None:
    loop_thread = LoopThread.acquire()

    async def fail() -> None:
        raise ValueError("no")

    async def fail_with_timeout() -> None:
        raise TimeoutError("mine")

    try:
        with pytest.raises(ValueError, match="no"):
            loop_thread.run(fail())
        with pytest.raises(TimeoutError, match=r"timed out after 0\.01 s"):
            loop_thread.run(asyncio.sleep(60), timeout=0.01)
        with pytest.raises(TimeoutError, match="mine"):
            loop_thread.run(fail_with_timeout())
    finally:
        loop_thread.release()


def test_a_blocking_call_on_the_loop_itself_is_refused() -> None:
    loop_thread = LoopThread.acquire()

    async def block() -> None:
        assert loop_thread.is_current()
        loop_thread.run(asyncio.sleep(0))

    with pytest.raises(RuntimeError, match="would wait for itself"):
        loop_thread.run(block())
    loop_thread.release()
    with pytest.raises(RuntimeError, match="closed"):
        loop_thread.run(asyncio.sleep(0))
    assert not loop_thread.call_soon(print)


def test_closing_cancels_what_still_runs() -> None:
    loop_thread = LoopThread.acquire()
    cancelled = threading.Event()

    async def wait_for_ever() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    assert loop_thread.call_soon(lambda: tasks.append(asyncio.ensure_future(wait_for_ever())))
    loop_thread.run(asyncio.sleep(0))
    loop_thread.release()
    assert cancelled.is_set()


tasks: list[asyncio.Future[None]] = []


def test_the_child_of_a_fork_has_no_loop_and_can_make_one() -> None:
    loop_thread = LoopThread.acquire()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            assert not loop_thread.is_alive() and not loop_thread.call_soon(print)
            loop_thread.release()
            loop_thread.close()
            mine = LoopThread.acquire()
            code = 0 if mine is not loop_thread and mine.run(asyncio.sleep(0, 1)) == 1 else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    loop_thread.release()


def test_the_end_of_the_interpreter_is_silent() -> None:
    code = (
        "import asyncio, fastdist.loop as l; t = l.LoopThread.acquire();"
        "t.call_soon(lambda: t.loop.create_task(asyncio.sleep(60)))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, timeout=30, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_uvloop_is_used_if_asked_for() -> None:
    pytest.importorskip("uvloop")
    # In a process of its own: libuv keeps a pipe for as long as the process lives.
    code = "from fastdist.loop import new_event_loop as n; l = n(True); print(type(l).__module__); l.close()"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout == "uvloop\n"


@pytest.mark.parametrize("make", [QuickLoop, asyncio.new_event_loop])
def test_what_is_asked_for_before_the_loop_sleeps_happens_after_all_of_the_same_turn(
    make: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    order: list[object] = []
    loop = make()
    loop.call_soon(call_before_sleep, loop, lambda: order.append("before sleep"))
    loop.call_soon(order.append, "the same turn")
    loop.call_later(0.001, loop.stop)
    loop.run_forever()
    loop.close()
    assert order == ["the same turn", "before sleep"]


@pytest.mark.parametrize("what", ["call_soon", "call_later", "before_sleep", "stop"])
def test_what_is_planned_right_before_the_loop_sleeps_is_not_slept_over(what: str) -> None:
    loop = QuickLoop()
    try:
        plans = {
            "call_soon": lambda: loop.call_soon(loop.stop),
            "call_later": lambda: loop.call_later(0.001, loop.stop),
            "before_sleep": lambda: loop.before_sleep(loop.stop),
            "stop": loop.stop,
        }
        loop.before_sleep(plans[what])
        loop.run_forever()
    finally:
        loop.close()


def test_an_error_before_the_loop_sleeps_is_told_and_the_loop_goes_on() -> None:
    loop, errors = QuickLoop(), []
    loop.set_exception_handler(lambda loop, context: errors.append(context["exception"]))

    def fail() -> None:
        raise ValueError("no")

    loop.before_sleep(fail)
    loop.run_until_complete(asyncio.sleep(0.001))
    loop.close()
    assert [str(error) for error in errors] == ["no"]
