"""Types: what a type checker knows of a program that uses fastdist. `mypy --strict` passes on this file."""

from __future__ import annotations

import asyncio

from fastdist import Client, Future, LocalCluster, wait


def count(text: str) -> int:
    return len(text.split())


async def shout(text: str) -> str:
    await asyncio.sleep(0)
    return text.upper()


def total(*numbers: int) -> float:
    return float(sum(numbers))


def longest(futures: list[Future[int]]) -> int:
    """A Future is generic in the type of its result."""
    return max(future.result() for future in futures)


def main() -> float:
    """Count the words of some lines."""
    lines = ["a rose", "is a rose", "is a rose is a rose"]
    with LocalCluster(n_workers=1, processes=False, dashboard_address=None) as cluster, Client(cluster) as client:
        counts: list[Future[int]] = client.map(count, lines)
        loud: Future[str] = client.submit(shout, lines[0], key="loud", priority=1)
        both: Future[float] = client.submit(total, *counts)
        number: int = counts[0].result(timeout="10s")
        text: str = loud.result()
        done = wait([both])
        print(number, text, longest(counts), len(done.done))
        return both.result()


def mistakes(client: Client) -> None:
    """What a type checker finds: without the comments that silence it here, each line is an error."""
    text: Future[str] = client.submit(count, "a b")  # type: ignore[arg-type]
    number: int = client.submit(shout, "a").result()  # type: ignore[assignment]
    print(text, number)
    client.submit("no function")  # type: ignore[call-overload]


async def in_coroutines() -> int:
    """The same names are awaited by an asynchronous client."""
    async with Client(processes=False, n_workers=1, dashboard_address=None, asynchronous=True) as client:
        future = client.submit(count, "to be or not")
        number: int = await future
        return number


if __name__ == "__main__":
    print(main(), asyncio.run(in_coroutines()))
