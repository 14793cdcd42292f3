"""Count the identifiers of the standard library: one task for every few lines of source, then a tree of sums.

    python examples/count_identifiers.py [--lines 20] [--workers N] [--folder FOLDER] [--top 15]

Every word that could be an identifier counts, keywords excepted, in code, strings and comments alike: so it
does not matter where a chunk of lines ends, and a plain loop must find exactly the same. Writes no files.
May import: fastdist, the standard library.
"""

from __future__ import annotations

import argparse
import keyword
import os
import re
import sys
import sysconfig
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from fastdist import Client

IDENTIFIER = re.compile(r"[^\W\d]\w*")
KEYWORDS = frozenset(keyword.kwlist)
FAN_IN = 16


def count(text: str) -> dict[str, int]:
    """How often each identifier occurs in a piece of source."""
    return Counter(word for word in IDENTIFIER.findall(text) if word not in KEYWORDS)


def merge(counts: list[dict[str, int]]) -> dict[str, int]:
    """The sum of several counts."""
    total: Counter[str] = Counter()
    for one in counts:
        total.update(one)
    return total


def source_files(folder: Path) -> list[Path]:
    """The Python files below a folder, without what was installed into it."""
    installed = {"site-packages", "dist-packages", "__pycache__"}
    return sorted(path for path in folder.rglob("*.py") if not installed.intersection(path.parts))


def chunks(files: list[Path], lines: int) -> Iterator[str]:
    """The files in pieces of a few lines."""
    for path in files:
        text = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
        for start in range(0, len(text), lines):
            yield "".join(text[start : start + lines])


def count_with_fastdist(client: Client, pieces: list[str]) -> tuple[dict[str, int], int]:
    """The counts of all pieces, added level by level; and the number of tasks that it took."""
    level = client.map(count, pieces)
    tasks = len(level)
    while len(level) > 1:
        groups = [level[start : start + FAN_IN] for start in range(0, len(level), FAN_IN)]
        level = client.map(merge, groups)
        tasks += len(level)
    return level[0].result(), tasks


def count_in_a_loop(pieces: list[str]) -> dict[str, int]:
    """The same without any tasks."""
    total: Counter[str] = Counter()
    for piece in pieces:
        total.update(count(piece))
    return total


def show(counts: dict[str, int], top: int) -> None:
    """Print the most frequent names as a table."""
    print(f"\n{'identifier':<20} {'times':>10}")
    for name, times in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:top]:
        print(f"{name:<20} {times:>10,}")


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Count the identifiers of the standard library.")
    parser.add_argument("--lines", type=int, default=20, help="lines of source in one task")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)), help="worker processes")
    parser.add_argument(
        "--folder", type=Path, default=Path(sysconfig.get_path("stdlib")), help="other sources"
    )
    parser.add_argument("--top", type=int, default=15, help="how many names to show")
    return parser.parse_args()


def main() -> int:
    """Count twice, compare, print."""
    options = parse_arguments()
    files = source_files(options.folder)
    pieces = list(chunks(files, options.lines))
    if not pieces:
        print(f"there is no Python source below {options.folder}", file=sys.stderr)
        return 1

    with Client(n_workers=options.workers, threads_per_worker=1) as client:
        start = time.perf_counter()
        counts, tasks = count_with_fastdist(client, pieces)
        seconds = time.perf_counter() - start

    start = time.perf_counter()
    expected = count_in_a_loop(pieces)
    loop_seconds = time.perf_counter() - start

    show(counts, options.top)
    print(f"\n{len(files):,} files, {sum(counts.values()):,} identifiers, {len(counts):,} different ones")
    rate = f"{tasks / seconds:,.0f} tasks/s"
    print(f"fastdist: {tasks:,} tasks on {options.workers} processes in {seconds:.2f} s: {rate}")
    print(f"a plain loop: {loop_seconds:.2f} s")
    if counts != expected:
        print("the two answers differ", file=sys.stderr)
        return 1
    print("both found the same")
    return 0


if __name__ == "__main__":
    sys.exit(main())
