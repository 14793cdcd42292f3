"""A thread that waits for a message reads the connection itself. May import: fastdist.comm."""

from __future__ import annotations

import asyncio
import concurrent.futures
import dis
import sys
import threading
from collections.abc import Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from fastdist.comm import Comm
from fastdist.loop import QuickLoop

Opener = Callable[..., Any]
HOST = "tcp://127.0.0.1:0"
SECONDS = 30


def run(main: Callable[[], Any]) -> None:
    loop = QuickLoop()
    try:
        loop.run_until_complete(asyncio.wait_for(main(), SECONDS))
    finally:
        loop.close()


class Waiting:
    """A thread in `read_until`, and what it received."""

    def __init__(self, comm: Comm) -> None:
        self.comm = comm
        self.frames: list[tuple[int, bytes, threading.Thread]] = []
        self.looked = threading.Event()
        self.second = asyncio.Event()
        self.stop = False
        self.enough = 1
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self.body)

    def take(self, kind: int, body: memoryview) -> None:
        self.frames.append((kind, bytes(body), threading.current_thread()))
        if len(self.frames) == 2 and threading.current_thread() is not self.thread:
            self.second.set()

    def done(self) -> bool:
        self.looked.set()
        return self.stop or len(self.frames) >= self.enough

    def body(self) -> None:
        try:
            self.comm.read_until(self.done, SECONDS)
        except BaseException as error:
            self.error = error

    async def start(self) -> None:
        self.thread.start()
        await asyncio.to_thread(self.looked.wait, SECONDS)

    async def join(self) -> None:
        await asyncio.to_thread(self.thread.join, SECONDS)
        assert not self.thread.is_alive()


@asynccontextmanager
async def waiting(ends: Opener) -> Any:
    async with ends(HOST, start=False) as pair:
        reader = Waiting(pair.near)
        pair.start(pair.near, reader.take)
        pair.start(pair.far)
        yield pair, reader


def test_the_waiting_thread_gets_the_frame_itself_and_the_loop_reads_again_afterwards(ends: Opener) -> None:
    async def main() -> None:
        async with waiting(ends) as (pair, reader):
            await reader.start()
            pair.far.send(5, b"one")
            await reader.join()
            assert reader.frames == [(5, b"one", reader.thread)]
            pair.far.send(6, b"two")
            await asyncio.wait_for(reader.second.wait(), SECONDS)
            assert reader.frames[1] == (6, b"two", threading.current_thread())

    run(main)


def test_control_messages_are_delivered_on_the_loop_all_the_same(ends: Opener) -> None:
    async def main() -> None:
        async with waiting(ends) as (pair, reader):
            threads = []
            news = asyncio.Event()
            pair.near._on_control = lambda message, buffers: (threads.append(threading.current_thread()), news.set())
            await reader.start()
            pair.far.send_control({"op": "hello"})
            await news.wait()
            assert threads == [threading.current_thread()]
            pair.far.send(5, b"end")
            await reader.join()

    run(main)


def test_it_is_woken_and_returns_when_it_is_done(ends: Opener) -> None:
    async def main() -> None:
        async with waiting(ends) as (pair, reader):
            await reader.start()
            reader.stop = True
            pair.near.wake_reader()
            await reader.join()
            assert reader.frames == []

    run(main)


def test_it_returns_at_the_timeout(ends: Opener) -> None:
    async def main() -> None:
        async with waiting(ends) as (pair, reader):
            await asyncio.to_thread(pair.near.read_until, reader.done, 0.001)
            assert reader.looked.is_set() and reader.frames == []

    run(main)


def test_a_second_thread_is_sent_away_at_once(ends: Opener) -> None:
    async def main() -> None:
        async with waiting(ends) as (pair, reader):
            await reader.start()
            second = Waiting(pair.near)
            second.thread.start()
            await second.join()
            assert not second.looked.is_set()
            pair.far.send(5, b"end")
            await reader.join()

    run(main)


@pytest.mark.parametrize("who", ["near", "far"])
def test_the_end_of_the_connection_ends_the_wait(ends: Opener, who: str) -> None:
    async def main() -> None:
        async with waiting(ends) as (pair, reader):
            await reader.start()
            getattr(pair, who).abort()
            await reader.join()
            await pair.until(lambda: bool(pair.closed[pair.near]))
            await asyncio.to_thread(pair.near.read_until, reader.done, 1)
            assert pair.near.reader_descriptor() == -1

    run(main)


def test_an_interrupt_while_a_frame_is_applied_gives_the_connection_up(ends: Opener) -> None:
    async def main() -> None:
        async with waiting(ends) as (pair, reader):

            def interrupted(kind: int, body: memoryview) -> None:
                raise KeyboardInterrupt

            pair.near._reader._on_frame = interrupted
            await reader.start()
            pair.far.send(5, b"x")
            await reader.join()
            assert isinstance(reader.error, KeyboardInterrupt)
            await pair.until(lambda: bool(pair.closed[pair.near]))
            assert "interrupted" in str(pair.closed[pair.near][0])

    run(main)


def test_the_loop_does_not_look_meanwhile_even_if_it_has_to_write(ends: Opener) -> None:
    async def main() -> None:
        async with waiting(ends) as (pair, reader):
            reader.enough = 2
            await reader.start()
            refused = []
            stand_back = pair.near._stand_back
            pair.near._stand_back = lambda: (refused.append(1), stand_back())
            payload = b"x" * (16 << 20)
            pair.near.send(7, payload)
            pair.far.send(5, b"one")
            await pair.until(lambda: (7, payload) in pair.received[pair.far])
            pair.far.send(5, b"two")
            await reader.join()
            assert [thread for *_, thread in reader.frames] == [reader.thread] * 2
            assert len(refused) < 100

    run(main)


def test_other_event_loops_keep_what_is_theirs(ends: Opener) -> None:
    async def main() -> None:
        async with ends(HOST) as pair:
            pair.near.read_until(lambda: False, None)
            assert pair.near.reader_descriptor() == -1

    asyncio.run(main())


class Interrupting:
    """Raises KeyboardInterrupt in the thread that runs the comm, at the n-th place where the interpreter may do so.

    That is behind a call, at the start of a function and at the end of a round of a loop.
    """

    PLACES = ("CALL", "RESUME", "JUMP_BACKWARD", "JUMP_ABSOLUTE")

    def __init__(self, place: int) -> None:
        self.left = place
        self.names: dict[Any, dict[int, str]] = {}

    def __call__(self, frame: Any, event: str, argument: Any) -> Any:
        code = frame.f_code
        if not code.co_filename.endswith(("comm/tcp.py", "comm/lent_reader.py")):
            return None
        if code not in self.names:
            self.names[code] = {each.offset: each.opname for each in dis.get_instructions(code)}
        names, previous = self.names[code], ""
        frame.f_trace_opcodes = True

        def step(frame: Any, event: str, argument: Any) -> Any:
            nonlocal previous
            if event == "opcode":
                before, previous = previous, names[frame.f_lasti]
                self.left -= before.startswith(self.PLACES)
                if self.left == 0:
                    self.left = -1
                    sys.settrace(None)
                    raise KeyboardInterrupt
            return step

        return step


def test_an_interrupt_at_any_point_leaves_the_connection_to_the_loop_or_ends_it(ends: Opener) -> None:
    async def one(step: int) -> bool:
        async with waiting(ends) as (pair, reader):
            news = asyncio.Event()
            loop = asyncio.get_running_loop()

            def take(kind: int, body: memoryview) -> None:
                reader.frames.append(kind)
                loop.call_soon_threadsafe(news.set)

            def done() -> bool:
                if not reader.looked.is_set():
                    reader.looked.set()
                    loop.call_soon_threadsafe(pair.far.send, 5, b"one")
                return 5 in reader.frames

            def read() -> bool:
                interrupting = Interrupting(step)
                sys.settrace(interrupting)
                try:
                    pair.near.read_until(done, SECONDS)
                except KeyboardInterrupt:
                    pass
                finally:
                    sys.settrace(None)
                return interrupting.left > 0

            pair.near._reader._on_frame = take
            assert pair.near.reader_descriptor() >= 0
            over = await asyncio.to_thread(read)
            assert not pair.near._turn._is_owned() and pair.near._turn.acquire(False)
            pair.near._turn.release()
            if not pair.near.closed:
                pair.far.send(6, b"two")
                while 6 not in reader.frames and not pair.near.closed:
                    news.clear()
                    await asyncio.wait_for(news.wait(), SECONDS)
            return over

    async def main() -> None:
        step = 1
        while not await one(step):
            step += 1
        assert step > 20

    run(main)


def test_what_another_thread_read_goes_before_what_the_loop_reads(ends: Opener) -> None:
    async def main() -> None:
        async with waiting(ends) as (pair, reader):
            order: list[str] = []
            complete = asyncio.Event()

            def note(message: dict[str, Any], buffers: list[Any]) -> None:
                order.append(message["op"])
                if len(order) == 3:
                    complete.set()

            pair.near._on_control = note
            pair.far.send_control({"op": "first"})
            pair.far.send(5, b"end")
            # The loop stands still meanwhile, as it does when it is busy; then it reads before it does anything else.
            thread = threading.Thread(target=pair.near.read_until, args=(reader.done, SECONDS))
            thread.start()
            thread.join()
            assert [kind for kind, *_ in reader.frames] == [5] and not order
            pair.far.send_control({"op": "second"})
            pair.far.send_control({"op": "third"})
            pair.near._on_readable()
            await complete.wait()
            assert order == ["first", "second", "third"]

    run(main)


@pytest.mark.parametrize("timeout", [3e6, float("inf")])
def test_a_timeout_may_be_as_long_as_one_likes(ends: Opener, timeout: float) -> None:
    async def main() -> None:
        async with waiting(ends) as (pair, reader):
            pair.far.send(5, b"end")
            # The loop stands still, so that the thread is the one to read.
            with concurrent.futures.ThreadPoolExecutor(1) as threads:
                threads.submit(pair.near.read_until, reader.done, timeout).result()
            assert len(reader.frames) == 1

    run(main)
