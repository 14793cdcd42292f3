"""Room for bytes on their way. May import: fastdist."""

from __future__ import annotations

import asyncio

from fastdist.worker.room import Room


async def occupy(room: Room, nbytes: int, log: list[int], leave: asyncio.Event) -> None:
    async with room.taken(nbytes):
        log.append(nbytes)
        await leave.wait()


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_what_fits_together_comes_in_together_and_the_rest_in_order() -> None:
    async def main() -> None:
        room, log, leave = Room(10), list[int](), asyncio.Event()
        tasks = [asyncio.create_task(occupy(room, nbytes, log, leave)) for nbytes in (4, 5, 3, 1)]
        await turns()
        # 1 would fit, but 3 was here first.
        assert log == [4, 5] and room.used == 9
        leave.set()
        await asyncio.gather(*tasks)
        assert log == [4, 5, 3, 1] and room.used == 0

    asyncio.run(main())


def test_a_need_larger_than_the_room_gets_it_alone() -> None:
    async def main() -> None:
        room, log, leave = Room(10), list[int](), asyncio.Event()
        tasks = [asyncio.create_task(occupy(room, nbytes, log, leave)) for nbytes in (1, 100, 1)]
        await turns()
        assert log == [1]
        leave.set()
        await asyncio.gather(*tasks)
        assert log == [1, 100, 1] and room.used == 0

    asyncio.run(main())


def test_who_is_cancelled_in_the_line_leaves_no_gap() -> None:
    async def main() -> None:
        room, log, leave = Room(10), list[int](), asyncio.Event()
        first, second, third = (
            asyncio.create_task(occupy(room, nbytes, log, leave)) for nbytes in (6, 8, 4)
        )
        await turns()
        second.cancel()
        await turns()
        assert log == [6, 4]
        leave.set()
        await asyncio.gather(first, third)
        # Cancelled in the very moment in which its turn comes.
        leave.clear()
        first, second = (asyncio.create_task(occupy(room, 10, log, leave)) for _ in range(2))
        await turns()
        leave.set()
        await asyncio.sleep(0)
        second.cancel()
        await asyncio.gather(first, second, return_exceptions=True)
        assert room.used == 0

    asyncio.run(main())
