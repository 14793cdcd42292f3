"""Find bright cells in a stack of invented images with dask.array: blur, threshold, reduce, rechunk.

    python examples/image_stack.py [--images 8] [--size 256] [--workers 2] [--small]

Needs `fastdist[dask]`. Each image has as many cells as its number plus three; the program has to find them all.
May import: fastdist, dask, numpy, the standard library.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import dask.array as da
import numpy as np

from fastdist import Client

BLUR = 2
GRID = 32


def draw(block_info: Any = None, size: int = 0) -> np.ndarray:
    """One image: noise, and squares of 5 x 5 pixels on a grid."""
    number = block_info[None]["chunk-location"][0]
    random = np.random.default_rng(number)
    image = random.normal(0, 0.1, (size, size))
    places = random.choice((size // GRID) ** 2, number + 3, replace=False)
    for place in places:
        row, column = (GRID * int(part) + GRID // 2 for part in divmod(place, size // GRID))
        image[row - 2 : row + 3, column - 2 : column + 3] += 1
    return image[None]


def blur(images: np.ndarray) -> np.ndarray:
    """The mean of each pixel and its neighbours."""
    shifts = range(-BLUR, BLUR + 1)
    total = sum(np.roll(images, (row, column), axis=(1, 2)) for row in shifts for column in shifts)
    return np.asarray(total) / len(shifts) ** 2


def make_stack(images: int, size: int) -> da.Array:
    """All images, each in one chunk."""
    chunks = ((1,) * images, (size,), (size,))
    return da.map_blocks(draw, size=size, chunks=chunks, dtype=float, meta=np.empty((0, 0, 0)))


def count_cells(stack: da.Array) -> da.Array:
    """The number of cells of each image: the grid cells whose brightest pixel is above one half."""
    tiles = stack.rechunk((1, 4 * GRID, 4 * GRID))
    smooth = tiles.map_overlap(blur, depth={0: 0, 1: BLUR, 2: BLUR}, boundary="reflect")
    images, height, width = smooth.shape
    cells = smooth.reshape((images, height // GRID, GRID, width // GRID, GRID)).max(axis=(2, 4))
    return (cells > 0.5).sum(axis=(1, 2))


def main(arguments: list[str] | None = None) -> list[int]:
    """Parse the command line, compute, print; the number of cells of each image."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--size", type=int, default=256, help="pixels of one side; a multiple of 128")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--small", action="store_true", help="3 images of 128 pixels: a few seconds")
    options = parser.parse_args(arguments)
    if options.small:
        options.images, options.size = 3, 128
    with Client(n_workers=options.workers, threads_per_worker=1):
        start = time.perf_counter()
        stack = make_stack(options.images, options.size).persist()
        counts, mean = da.compute(count_cells(stack), stack.mean(axis=0).max())
        seconds = time.perf_counter() - start
    assert counts.tolist() == [number + 3 for number in range(options.images)], counts
    print(f"cells: {counts.tolist()}; brightest mean pixel: {mean:.2f}; {seconds:.2f} s")
    return [int(count) for count in counts]


if __name__ == "__main__":
    main()
