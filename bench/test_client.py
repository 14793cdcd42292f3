"""The client alone: map into a sink, gather of inline results, release, submit; per task in `extra_info`.

May import: fastdist, tests.core.client.frames.
"""

from __future__ import annotations

import struct
from operator import neg
from typing import Any

import pytest

from fastdist._core.client.futures import FutureTable
from fastdist._core.codec.frames import ColumnWriter, TaskStatus
from fastdist._core.codec.values import encode_value
from fastdist.client.future import Future
from fastdist.client.submission import Submitter

N = 100_000


def increment(x: int) -> int:
    """What a client typically maps: a function that workers can import."""
    return x + 1


class Sink:
    """A client without a connection: frames are counted and dropped."""

    def __init__(self) -> None:
        self.table = FutureTable(Future, 1 << 30)
        self.n_bytes = 0
        self.submitter = Submitter(self.table, self.send)

    def send(self, body: bytes) -> None:
        """Take a frame."""
        self.n_bytes += len(body)

    def map(self, function: Any, rows: Any, **kwargs: Any) -> list[Future]:
        """`Client.map` without its checks."""
        return self.submitter.map(
            function, (rows,), kwargs, key=None, pure=True, options=None, fifo_timeout=0.1, batch_size=None
        )


def finished_frames(first: int, count: int) -> list[bytes]:
    """STATE frames of 10 000 rows with small inline results."""
    frames = []
    for start in range(first, first + count, 10_000):
        ids = range(start, min(start + 10_000, first + count))
        payloads = [encode_value(id) or b"" for id in ids]
        ends = [0]
        for payload in payloads:
            ends.append(ends[-1] + len(payload))
        writer = ColumnWriter(8)
        writer.n_rows = len(ids)
        columns = [
            struct.pack(f"<{len(ids)}Q", *ids),
            bytes([TaskStatus.STATUS_FINISHED]) * len(ids),
            struct.pack(f"<{len(ids)}Q", *[28] * len(ids)),
            bytes(4 * len(ids)),
            struct.pack(f"<{len(ends)}I", *ends),
            b"".join(payloads),
            struct.pack("<2I", 0, 3),
            b"int",
        ]
        for number, column in enumerate(columns):
            writer.put_bytes(number, column)
        frames.append(writer.encode())
    return frames


@pytest.mark.parametrize("n", [10_000, N, 1_000_000])
def test_map(benchmark: Any, n: int) -> None:
    def setup() -> Any:
        return (Sink(),), {}

    futures = benchmark.pedantic(lambda sink: sink.map(increment, range(n)), setup=setup, rounds=3)
    assert len(futures) == n
    if benchmark.stats:  # None when only the result is asked for
        benchmark.extra_info["us_per_task"] = benchmark.stats["min"] / n * 1e6


def test_map_with_keyword_arguments(benchmark: Any) -> None:
    def setup() -> Any:
        return (Sink(),), {}

    futures = benchmark.pedantic(
        lambda sink: sink.map(round, [1.5] * 10 + list(range(N)), ndigits=2), setup=setup, rounds=3
    )
    assert len(futures) == N + 10
    if benchmark.stats:  # None when only the result is asked for
        benchmark.extra_info["us_per_task"] = benchmark.stats["min"] / N * 1e6


def test_map_of_futures(benchmark: Any) -> None:
    def setup() -> Any:
        sink = Sink()
        return (sink, sink.map(neg, range(N))), {}

    futures = benchmark.pedantic(lambda sink, inputs: sink.map(neg, inputs), setup=setup, rounds=3)
    assert len(futures) == N
    if benchmark.stats:  # None when only the result is asked for
        benchmark.extra_info["us_per_task"] = benchmark.stats["min"] / N * 1e6


def test_state_frames(benchmark: Any) -> None:
    frames = finished_frames(1, N)

    def setup() -> Any:
        sink = Sink()
        return (sink, sink.map(neg, range(N))), {}

    def apply(sink: Sink, futures: Any) -> None:
        for frame in frames:
            sink.table.on_state(frame)

    benchmark.pedantic(apply, setup=setup, rounds=3)
    if benchmark.stats:  # None when only the result is asked for
        benchmark.extra_info["us_per_task"] = benchmark.stats["min"] / N * 1e6


def test_gather_of_inline_results(benchmark: Any) -> None:
    sink = Sink()
    futures = sink.map(neg, range(N))
    for frame in finished_frames(1, N):
        sink.table.on_state(frame)
    values, missing = benchmark(sink.table.gather, futures)
    assert missing == [] and values == list(range(1, N + 1))
    if benchmark.stats:  # None when only the result is asked for
        benchmark.extra_info["us_per_task"] = benchmark.stats["min"] / N * 1e6


def test_release(benchmark: Any) -> None:
    def setup() -> Any:
        sink = Sink()
        return (sink, [sink.map(neg, range(N))]), {}

    def release(sink: Sink, held: list[Any]) -> None:
        held.clear()
        sink.table.release_frame()
        assert len(sink.table) == 0

    benchmark.pedantic(release, setup=setup, rounds=3)
    if benchmark.stats:  # None when only the result is asked for
        benchmark.extra_info["us_per_task"] = benchmark.stats["min"] / N * 1e6


def test_submit(benchmark: Any) -> None:
    sink = Sink()
    numbers = iter(range(10_000_000))

    def submit() -> Future:
        return sink.submitter.submit(
            neg, (next(numbers),), {}, key=None, pure=True, options=None, fifo_timeout=0.1
        )

    assert benchmark(submit).status == "pending"
