"""Canonical key bytes: the encoding, its inverse, its limits, and the prefix."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastdist._core.keys.canonical import decode_key, encode_key, prefix_of

HASH = "0123456789abcdef0123456789abcdef"

scalars = st.text() | st.binary() | st.integers() | st.floats(allow_nan=False)
keys = st.recursive(scalars, lambda inner: st.lists(inner, max_size=4).map(tuple), max_leaves=12)


def nested(depth: int) -> object:
    key: object = 1
    for _ in range(depth):
        key = (key,)
    return key


def typed(key: object) -> object:
    """A form in which keys are equal only if their types are."""
    if isinstance(key, tuple):
        return ("tuple", *(typed(item) for item in key))
    if isinstance(key, float):
        return ("float", key.hex())
    return (type(key).__name__, key)


@pytest.mark.parametrize(
    ("key", "data"),
    [
        ("", b"s"),
        ("x", b"sx"),
        ("é", b"s\xc3\xa9"),
        (b"x\0", b"bx\0"),
        (-12, b"i-12"),
        (0, b"i0"),
        (1.5, b"f\x3f\xf8\0\0\0\0\0\0"),
        ((), b"t"),
        (("x", (1,)), b"t\2\0\0\0sx\7\0\0\0t\2\0\0\0i1"),
    ],
)
def test_keys_have_the_documented_bytes(key, data):
    assert encode_key(key) == data
    assert typed(decode_key(data)) == typed(key)


@given(keys)
def test_decoding_gives_the_key_back(key):
    assert typed(decode_key(encode_key(key))) == typed(key)


@given(keys, keys)
def test_different_keys_have_different_bytes(one, other):
    assert (encode_key(one) == encode_key(other)) == (typed(one) == typed(other))


def test_a_nan_is_a_key():
    assert math.isnan(decode_key(encode_key(math.nan)))


@pytest.mark.parametrize("key", [None, True, [1], {"a"}, object(), ("x", None), ("x", (True,)), 1j])
def test_other_types_are_refused(key):
    with pytest.raises(TypeError, match="cannot be a key"):
        encode_key(key)


def test_the_error_shows_the_part_and_the_whole():
    with pytest.raises(TypeError, match=r"None inside \('x', 1, None\) is a NoneType"):
        encode_key(("x", 1, None))


def test_depth_is_bounded():
    assert decode_key(encode_key(nested(16))) == nested(16)
    with pytest.raises(ValueError, match="16 tuples deep"):
        encode_key(nested(17))
    data = b"i1"
    for _ in range(17):
        data = b"t" + len(data).to_bytes(4, "little") + data
    with pytest.raises(ValueError, match="16 tuples deep"):
        decode_key(data)


@pytest.mark.parametrize("key", ["x" * 65536, b"x" * 65536, ("x" * 65531,), "é" * 33000])
def test_length_is_bounded(key):
    with pytest.raises(ValueError, match="too long"):
        encode_key(key)


def test_the_longest_key_is_accepted():
    assert len(encode_key("x" * 65535)) == 65536
    with pytest.raises(ValueError, match="too long"):
        decode_key(b"s" + b"x" * 65536)


def test_a_huge_int_is_refused():
    with pytest.raises(ValueError, match="too large for a key"):
        encode_key(10**5000)


@pytest.mark.parametrize("key", ["\ud800", ("x", "\udfff")])
def test_lone_surrogates_are_refused(key):
    with pytest.raises(ValueError, match="surrogate"):
        encode_key(key)


@pytest.mark.parametrize(
    "data",
    [b"", b"?x", b"i", b"i-", b"i01", b"i-0", b"i+1", b"i1_0", b"i 1", b"i1x", b"f123", b"f123456789",
     b"s\xff", b"t\1", b"t\5\0\0\0sx", b"t\xff\xff\xff\xffsx", b"t\0\0\0\0", b"i" + b"1" * 5000],
)  # fmt: skip
def test_bytes_that_are_no_canonical_key_are_refused(data):
    with pytest.raises(ValueError):
        decode_key(data)


def test_random_bytes_decode_to_their_own_key_or_are_refused():
    generator = random.Random(1)
    accepted = 0
    for _ in range(20_000):
        data = bytes(generator.choice(b"sbitf01\0\2-") for _ in range(generator.randrange(12)))
        try:
            key = decode_key(data)
        except ValueError:
            continue
        accepted += 1
        assert encode_key(key) == data
    assert accepted > 1000


@pytest.mark.parametrize(
    ("key", "prefix"),
    [
        ("inc", "inc"),
        (f"inc-{HASH}", "inc"),
        (b"inc-" + HASH.encode(), "inc"),
        (f"a-b-{HASH}", "a-b"),
        ("x-1", "x"),
        ("x-1-2-33", "x"),
        ((f"x-{HASH}", 0, 1), "x"),
        (((f"x-{HASH}", 0), 1), "x"),
        (f"('x-{HASH}', 0, 1)", "x"),
        (f'("x-{HASH}", 0)', "x"),
        ("inc-1b4e28ba-2fa1-11d2-883f-0016d3cca427", "inc"),
        ("inc-deadbeef", "inc"),
        ("inc-dead", "inc-dead"),
        ("read-csv", "read-csv"),
        (f"finalize-hlgfinalizecompute-{HASH}", "finalize-hlgfinalizecompute"),
        (f"x-{HASH}-agg", f"x-{HASH}-agg"),
        (HASH, ""),
        ("12", ""),
        ("-12", ""),
        ("", ""),
        (7, ""),
        (1.5, ""),
        ((), ""),
        ((1, "x"), ""),
        ("(", "("),
        ("('x", "x"),
    ],
)
def test_the_prefix_is_the_name_without_hashes_and_numbers(key, prefix):
    assert prefix_of(encode_key(key)) == prefix


@given(st.binary(max_size=60))
def test_the_prefix_of_any_bytes_lies_inside_them(data):
    assert len(prefix_of(data).encode("utf-8", "replace")) <= 3 * len(data)
