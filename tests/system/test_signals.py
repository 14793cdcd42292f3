"""SIGINT and SIGTERM as callbacks, without effect on or from forked children."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from fastdist.system.signals import on_termination


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_becomes_a_callback_on_the_loop(number: int) -> None:
    async def main() -> int:
        loop = asyncio.get_running_loop()
        received: asyncio.Future[int] = loop.create_future()
        undo = on_termination(received.set_result, loop)
        try:
            os.kill(os.getpid(), number)
            return await asyncio.wait_for(received, 5)
        finally:
            undo()

    before = signal.getsignal(number)
    loop = asyncio.new_event_loop()
    try:
        assert loop.run_until_complete(main()) == number
    finally:
        loop.close()
    assert signal.getsignal(number) is before


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_signal_to_a_forked_child_ends_the_child_and_does_not_reach_the_parent() -> None:
    seen: list[int] = []

    loop = asyncio.new_event_loop()
    undo = on_termination(seen.append, loop)
    reading, writing = os.pipe()
    try:
        child = os.fork()
        if child == 0:
            os.write(writing, b"ready")
            signal.sigtimedwait([], 20)
            os._exit(0)
        os.read(reading, 5)
        os.kill(child, signal.SIGTERM)
        status = os.waitpid(child, 0)[1]
        loop.run_until_complete(asyncio.sleep(0))
    finally:
        undo()
        loop.close()
        os.close(reading)
        os.close(writing)
    assert os.WTERMSIG(status) == signal.SIGTERM
    assert seen == []


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_signal_that_reaches_a_forked_child_before_its_first_step_is_not_lost() -> None:
    loop = asyncio.new_event_loop()
    undo = on_termination(lambda number: None, loop)
    survivors = 0
    try:
        for _ in range(200):
            child = os.fork()
            if child == 0:
                signal.sigtimedwait([], 0.2)
                os._exit(0)
            os.kill(child, signal.SIGTERM)
            survivors += os.WIFEXITED(os.waitpid(child, 0)[1])
    finally:
        undo()
        loop.close()
    assert survivors == 0
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, []) & {signal.SIGTERM, signal.SIGINT}
