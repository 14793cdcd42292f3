"""Shuffles by dask's tasks on worker processes that cannot keep the data in memory, again and again on one cluster.

The small form runs always; `-m slow` runs it with 220 partitions and 400 MiB. Expected values are known without
computing them. May import: the public names of fastdist, dask, the standard library, pytest.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import dask
import pytest

from fastdist import Client, LocalCluster
from fastdist.system.memory import peak_memory

np = pytest.importorskip("numpy")
pd = pytest.importorskip("pandas")
da = pytest.importorskip("dask.array")
dd = pytest.importorskip("dask.dataframe")

#: Coprime to the number of rows, so that it permutes them.
STRIDE = 7_919
GROUPS = 40


@dataclass(frozen=True)
class Size:
    """How much is shuffled, how often, and what the workers have for it."""

    partitions: int
    rows: int
    rounds: int
    memory_limit: str

    @property
    def total(self) -> int:
        return self.partitions * self.rows


SIZES = [
    pytest.param(Size(partitions=40, rows=50_000, rounds=1, memory_limit="320 MiB"), id="small"),
    pytest.param(
        Size(partitions=220, rows=60_000, rounds=3, memory_limit="400 MiB"),
        id="full",
        marks=[pytest.mark.slow, pytest.mark.timeout(1_200)],
    ),
]


@pytest.fixture(params=SIZES)
def size(request: pytest.FixtureRequest) -> Size:
    chosen: Size = request.param
    return chosen


@pytest.fixture
def client(size: Size) -> Iterator[Client]:
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, memory_limit=size.memory_limit) as cluster,
        # What one task makes has to fit, whatever the machine on which this was written had.
        dask.config.set({"array.chunk-size": "6 MiB"}),
        Client(cluster) as client,
    ):
        yield client


def part(number: int, rows: int, total: int) -> Any:
    """One partition of a frame whose keys are 0 to `total` - 1, scattered over all partitions."""
    key = np.arange(number * rows, (number + 1) * rows) * STRIDE % total
    return pd.DataFrame({"key": key, "group": key % GROUPS, "twice": 2 * key, "weight": np.ones(rows)})


def frame(size: Size, partitions: int | None = None) -> Any:
    numbers = range(partitions or size.partitions)
    meta = part(0, 1, size.total)
    return dd.from_map(part, numbers, rows=size.rows, total=size.total, meta=meta)


def merge(size: Size) -> None:
    half = size.partitions // 2
    merged = frame(size).merge(frame(size, half)[["key", "twice"]], on="key", suffixes=("", "_right"))
    rows, right = dask.compute(merged.key.count(), (merged.twice == merged.twice_right).sum())
    assert rows == right == half * size.rows


def set_index(size: Size) -> None:
    ordered = frame(size).set_index("key")
    assert ordered.npartitions > size.partitions // 2

    def check(rows: Any) -> Any:
        lowest, highest = (rows.index[0], rows.index[-1]) if len(rows) else (-1, -1)
        whole = len(rows) == highest - lowest + 1 and rows.index.is_monotonic_increasing
        return pd.DataFrame({"rows": [len(rows)], "whole": [whole or not len(rows)]})

    found = ordered.map_partitions(check, meta={"rows": "i8", "whole": "?"}).compute()
    assert found.rows.sum() == size.total
    assert found.whole.all()


def groupby_apply(size: Size) -> None:
    counts = frame(size).groupby("group").apply(lambda rows: rows.weight.sum(), meta=("rows", "f8")).compute()
    assert len(counts) == GROUPS
    assert (counts == size.total / GROUPS).all()


def numbers(size: Size) -> tuple[Any, int, int]:
    """An array of the numbers from 0, in `partitions` blocks of whole rows; its height and width."""
    height = size.partitions * 30
    width = size.total * 4 // height
    rows = da.arange(height, chunks=30)[:, None] * width
    return rows + da.arange(width, chunks=width)[None, :], height, width


def rechunk(size: Size) -> None:
    x, height, width = numbers(size)
    sums = x.rechunk((height, -(-width // size.partitions))).sum(axis=0).compute()
    assert (sums == width * (height * (height - 1) // 2) + height * np.arange(width)).all()


def reshape(size: Size) -> None:
    x, height, width = numbers(size)
    flat = x.rechunk((height // 10, width // 10)).reshape(-1)
    expected = da.arange(height * width, chunks=flat.chunks)
    assert int(abs(flat - expected).max().compute()) == 0


SHUFFLES: list[Callable[[Size], None]] = [merge, set_index, groupby_apply, rechunk, reshape]


def test_shuffles_of_more_than_fits_are_right_and_bounded(client: Client, size: Size) -> None:
    workers = client.scheduler_info(n_workers=-1)["workers"].keys()
    for _ in range(size.rounds):
        for shuffle in SHUFFLES:
            shuffle(size)
    now = client.scheduler_info(n_workers=-1)["workers"]
    assert now.keys() == workers, "a worker died"
    written = client.run(lambda dask_worker: dask_worker._spill_store.disk_bytes_written)
    assert any(written.values()), "nothing was too large for the memory"
    # Not what the process itself is told: that begins with the peak of the process that started it.
    peaks = client.run(lambda: peak_memory(os.getpid()))
    shares = {address: peaks[address] / now[address]["memory_limit"] for address in peaks}
    assert max(shares.values()) < 1, f"peaks as shares of the limit: {shares}"
