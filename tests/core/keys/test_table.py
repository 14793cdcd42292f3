"""The key table, through the index that owns its keys."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastdist._core.keys.table import KeyIndex, KeyTable

MASK = (1 << 64) - 1


def rotate(value: int, bits: int) -> int:
    return ((value << bits) | (value >> (64 - bits))) & MASK


def reference_siphash(data: bytes, seed0: int, seed1: int) -> int:
    """SipHash-1-3 in plain Python."""
    v0, v1 = 0x736F6D6570736575 ^ seed0, 0x646F72616E646F6D ^ seed1
    v2, v3 = 0x6C7967656E657261 ^ seed0, 0x7465646279746573 ^ seed1

    def mix(times: int) -> None:
        nonlocal v0, v1, v2, v3
        for _ in range(times):
            v0, v2 = (v0 + v1) & MASK, (v2 + v3) & MASK
            v1, v3 = rotate(v1, 13) ^ v0, rotate(v3, 16) ^ v2
            v0 = rotate(v0, 32)
            v2, v0 = (v2 + v1) & MASK, (v0 + v3) & MASK
            v1, v3 = rotate(v1, 17) ^ v2, rotate(v3, 21) ^ v0
            v2 = rotate(v2, 32)

    padded = data + bytes(-(len(data) + 1) % 8) + bytes([len(data) & 255])
    for start in range(0, len(padded), 8):
        word = int.from_bytes(padded[start : start + 8], "little")
        v3 ^= word
        mix(1)
        v0 ^= word
    v2 ^= 0xFF
    mix(3)
    return v0 ^ v1 ^ v2 ^ v3


@given(st.binary(max_size=80), st.integers(0, MASK), st.integers(0, MASK))
def test_the_hash_is_siphash_1_3(data, seed0, seed1):
    assert KeyIndex(seed0, seed1).hash(data) == reference_siphash(data, seed0, seed1)


def test_a_new_table_is_empty():
    assert len(KeyTable(0, 0)) == 0
    index = KeyIndex(0, 0)
    assert len(index) == 0
    assert b"x" not in index
    assert not index.discard(b"x")


def test_a_key_keeps_its_number_and_numbers_are_used_again():
    index = KeyIndex(1, 2)
    assert [index.add(key) for key in (b"a", b"b", b"a", b"c")] == [0, 1, 0, 2]
    assert index.discard(b"b")
    assert b"b" not in index
    with pytest.raises(KeyError):
        index[b"b"]
    assert index.add(b"d") == 1
    assert index[b"a"] == 0 and index[b"c"] == 2 and index[b"d"] == 1


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.sampled_from("aaaar"), st.integers(0, 300)), max_size=1500),
    st.integers(0, MASK),
)
def test_the_table_agrees_with_a_set(steps, seed):
    index, model = KeyIndex(seed, 7), set()
    for action, number in steps:
        key = b"k%d" % number
        if action == "a":
            index.add(key)
            model.add(key)
        else:
            assert index.discard(key) == (key in model)
            model.discard(key)
    index.validate()
    assert len(index) == len(model)
    for number in range(301):
        assert (b"k%d" % number in index) == (b"k%d" % number in model)


def test_long_random_work_keeps_every_key_reachable():
    generator = random.Random(3)
    index, model = KeyIndex(3, 4), {}
    for step in range(60_000):
        key = generator.randrange(5000).to_bytes(3, "little")
        if generator.random() < (0.7 if step < 30_000 else 0.3):
            number = index.add(key)
            assert model.setdefault(key, number) == number
        else:
            assert index.discard(key) == (model.pop(key, None) is not None)
        if step % 5000 == 0:
            index.validate()
    assert all(index[key] == number for key, number in model.items())
    assert len(set(model.values())) == len(model)


def test_memory_comes_back_after_keys_are_discarded():
    index = KeyIndex(1, 1)
    start = index.capacity
    keys = [b"k%d" % i for i in range(100_000)]
    index.add_all(keys)
    assert index.capacity >= 131072
    for key in keys[100:]:
        index.discard(key)
    assert len(index) == 100
    assert index.capacity <= 1024
    for key in keys[:100]:
        assert key in index
        index.discard(key)
    assert index.capacity == start


def test_the_load_stays_below_the_limit():
    index = KeyIndex(5, 5)
    for i in range(10_000):
        index.add(b"%d" % i)
        assert 10 * len(index) <= 7 * index.capacity


def test_reserving_avoids_growth():
    index = KeyIndex(1, 1)
    index.reserve(100_000)
    capacity = index.capacity
    index.add_all([b"k%d" % i for i in range(100_000)])
    assert index.capacity == capacity


def test_a_million_keys_go_in_quickly():
    keys = [b"sinc-%032x" % i for i in range(1_000_000)]
    index = KeyIndex(11, 12)
    start = time.perf_counter()
    index.add_all(keys)
    seconds = time.perf_counter() - start
    assert len(index) == 1_000_000
    assert seconds < 2  # 0.15 s alone on the machine; the rest is for a busy one
    print(f"{seconds:.3f} s")
