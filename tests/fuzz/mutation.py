"""Damage to bytes, drawn from a generator: what a fuzzer without coverage does. May import: the standard library."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

#: Numbers at which checks of sizes go wrong.
_ODD = (0, 1, 2, 8, 127, 128, 255, 256, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64 - 1)
MAX_BYTES = 1 << 16


def flip_bit(data: bytearray, draw: random.Random, others: Sequence[bytes]) -> None:
    """Turn one bit over."""
    data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)


def set_byte(data: bytearray, draw: random.Random, others: Sequence[bytes]) -> None:
    """Any byte in place of one."""
    data[draw.randrange(len(data))] = draw.randrange(256)


def set_number(data: bytearray, draw: random.Random, others: Sequence[bytes]) -> None:
    """An odd number, or one near what is there, of 1 to 8 bytes, most often at a multiple of its size."""
    size = draw.choice((1, 2, 4, 8))
    if len(data) < size:
        return
    place = draw.randrange(len(data) - size + 1)
    if draw.random() < 0.8:
        place -= place % size
    if draw.random() < 0.5:
        number = draw.choice(_ODD)
    else:
        number = int.from_bytes(data[place : place + size], "little") + draw.randint(-16, 16)
    data[place : place + size] = (number % (1 << 8 * size)).to_bytes(size, draw.choice(("little", "little", "big")))


def cut(data: bytearray, draw: random.Random, others: Sequence[bytes]) -> None:
    """Take a piece out, often the end."""
    start = draw.randrange(len(data))
    end = len(data) if draw.random() < 0.5 else min(len(data), start + draw.randint(1, 16))
    del data[start:end]


def repeat(data: bytearray, draw: random.Random, others: Sequence[bytes]) -> None:
    """A piece once more, somewhere."""
    start = draw.randrange(len(data))
    piece = data[start : start + draw.choice((1, 4, 8, 64))]
    place = draw.randrange(len(data) + 1)
    data[place:place] = piece


def insert(data: bytearray, draw: random.Random, others: Sequence[bytes]) -> None:
    """Random bytes in between."""
    place = draw.randrange(len(data) + 1)
    data[place:place] = draw.randbytes(draw.choice((1, 2, 4, 8, 16)))


def splice(data: bytearray, draw: random.Random, others: Sequence[bytes]) -> None:
    """Begin as this, end as another."""
    other = draw.choice(others)
    if other:
        data[draw.randrange(len(data)) :] = other[draw.randrange(len(other)) :]


_WAYS: tuple[Callable[[bytearray, random.Random, Sequence[bytes]], None], ...] = (
    flip_bit, flip_bit, set_byte, set_number, set_number, set_number, cut, repeat, insert, splice,
)  # fmt: skip


def mutate(data: bytes, draw: random.Random, others: Sequence[bytes]) -> bytes:
    """A damaged copy.

    Parameters
    ----------
    data : bytes
        What is damaged.
    draw : random.Random
    others : sequence of bytes
        What pieces may come from.
    """
    damaged = bytearray(data)
    for _ in range(min(8, 1 + int(draw.expovariate(0.7)))):
        if damaged:
            draw.choice(_WAYS)(damaged, draw, others)
    return bytes(damaged[:MAX_BYTES])
