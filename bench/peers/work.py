"""The task functions. They do next to nothing: what is measured is everything around them."""

from __future__ import annotations

MODULUS = 1_000_003
CHUNK_BYTES = 1 << 20


def inc(number: int) -> int:
    """The number after this one."""
    return number + 1


def add(left: int, right: int) -> int:
    """The sum of two numbers."""
    return left + right


def total(*numbers: int) -> int:
    """The sum of all numbers."""
    return sum(numbers)


def chunk(number: int) -> bytes:
    """One MiB of data, as a task would load it."""
    return number.to_bytes(4, "big") * (CHUNK_BYTES // 4)


def larger(*chunks: bytes) -> bytes:
    """The largest of some chunks."""
    return max(chunks)


def first_number(data: bytes) -> int:
    """What a chunk was made from."""
    return int.from_bytes(data[:4], "big")


def mix(left: int, middle: int, right: int) -> int:
    """A small number that depends on three others."""
    return (left + 2 * middle + 3 * right) % MODULUS
