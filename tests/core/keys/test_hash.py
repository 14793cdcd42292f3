"""Deterministic keys: what is equal, what differs, what has no key, and that processes agree."""

from __future__ import annotations

import copy
import dataclasses
import functools
import json
import os
import struct
import subprocess
import sys
import threading
import types
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastdist._core.keys.canonical import decode_key
from fastdist._core.keys.hash import KeyMaker, function_name, task_key, tokenize
from fastdist.errors import NondeterministicError
from tests.core.keys import hash_samples

ROOT = Path(__file__).parents[3]
MASK = (1 << 64) - 1

scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)
    | st.binary(max_size=8) | st.complex_numbers(allow_nan=False)
)  # fmt: skip
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=4)
        | st.sets(st.text(max_size=3) | st.integers(), max_size=4)
        | st.frozensets(st.text(max_size=3) | st.integers(), max_size=4)
    ),
    max_leaves=12,
)


def typed(value: Any) -> Any:
    """A form in which values are equal only if all their types are, too."""
    kind = type(value).__name__
    if isinstance(value, (list, tuple)):
        return (kind, *(typed(item) for item in value))
    if isinstance(value, dict):
        return (kind, frozenset((typed(key), typed(item)) for key, item in value.items()))
    if isinstance(value, (set, frozenset)):
        return (kind, frozenset(typed(item) for item in value))
    if isinstance(value, float):
        return (kind, value.hex())
    if isinstance(value, complex):
        return (kind, value.real.hex(), value.imag.hex())
    return (kind, value)


def rotate(value: int, bits: int) -> int:
    return ((value << bits) | (value >> (64 - bits))) & MASK


def reference_siphash_128(data: bytes, key: bytes) -> bytes:
    """SipHash-2-4 with a digest of 128 bits, in plain Python."""
    seed0, seed1 = struct.unpack("<QQ", key)
    v0, v1 = 0x736F6D6570736575 ^ seed0, 0x646F72616E646F6D ^ seed1 ^ 0xEE
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
    for (word,) in struct.iter_unpack("<Q", padded):
        v3 ^= word
        mix(2)
        v0 ^= word
    v2 ^= 0xEE
    mix(4)
    first = v0 ^ v1 ^ v2 ^ v3
    v1 ^= 0xDD
    mix(4)
    return struct.pack("<QQ", first, v0 ^ v1 ^ v2 ^ v3)


def test_the_hash_is_siphash_2_4_128():
    assert reference_siphash_128(b"", bytes(range(16))).hex() == "a3817f04ba25a8e66df67214c7550293"
    key = struct.pack("<QQ", 0x6661737464697374, 0x6B6579732D763031)
    empty_tuple = reference_siphash_128(b"\x0e" + bytes(8), key)
    empty_dict = reference_siphash_128(b"\x12" + bytes(8), key)
    written = struct.pack("<Q", 2) + b"\x18" + empty_tuple + b"\x18" + empty_dict
    first, second = struct.unpack("<QQ", reference_siphash_128(written, key))
    assert tokenize() == f"{first:016x}{second:016x}"


GOLDEN = {
    "1": "e0441fdfa2ac4caf4575d681c6afdb58",
    "mixed": "f3f88ac4b423b5f6cf2a168c638b15d4",
    "task": "len-80c8e25a23360ca22a125bf1ddf5c2e8",
}


def test_tokens_never_change():
    assert tokenize(1) == GOLDEN["1"]
    assert tokenize("x", [2.5, None], key={"a": (True, b"y")}) == GOLDEN["mixed"]
    assert task_key(len, ("x",)) == GOLDEN["task"]


@given(values)
def test_equal_values_have_equal_tokens(value):
    assert tokenize(value) == tokenize(copy.deepcopy(value))


@settings(max_examples=400)
@given(values, values)
def test_tokens_are_equal_exactly_if_values_and_types_are(one, other):
    assert (tokenize(one) == tokenize(other)) == (typed(one) == typed(other))


@given(values)
def test_wrapping_changes_the_token(value):
    tokens = {tokenize(item) for item in (value, [value], (value,), [[value]], {"x": value}, {"y": value})}
    assert len(tokens) == 6


DISTINCT = [
    None, False, True, 0, 1, -1, 2**64, -(2**64), 0.0, -0.0, 1.0, 1j, 1 + 0j, "", "1", "é", "\ud800",
    b"", b"1", bytearray(b"1"), (), [], {}, set(), frozenset(), (1,), [1], {1}, frozenset({1}), {1: 1},
    [1, 2], [2, 1], [[1], 2], [[1, 2]], ["ab"], ["a", "b"], {"a": 1, "b": 2}, {"a": 2, "b": 1},
    slice(1), slice(1, None), range(1), ..., int, np.int64(1), np.int32(1), np.float64(1),
    np.bool_(True), np.array(1), np.array([1]), np.array([[1]]), np.array([1], "i4"), np.array([1.0]),
    np.array([1], dtype=object), np.array([[1, 2]]), np.array([[1], [2]]), np.zeros((0, 3)),
    np.zeros((3, 0)), np.array([0], "M8[s]"), np.array([0], "M8[ns]"), np.array([0], "m8[s]"),
    np.zeros(1, [("a", "i4")]), np.zeros(1, [("b", "i4")]), memoryview(b"1"), OrderedDict(a=1, b=2),
    OrderedDict(b=2, a=1), hash_samples.TextSet({1}), hash_samples.Point(1, 2), (1, 2),
    hash_samples.Plain(a=1), hash_samples.Plain(a=2), hash_samples.Plain, hash_samples.Colour.RED,
    hash_samples.Colour.BLUE, hash_samples.Record("x", set()), hash_samples.Frozen("x"), len, max,
    functools.partial(max, 1), functools.partial(max, key=1), functools.partial(min, 1),
]  # fmt: skip


def test_values_that_look_alike_differ():
    seen: dict[str, Any] = {}
    for value in DISTINCT:
        if isinstance(value, slice) and value == slice(None, 1) and tokenize(value) in seen:
            continue
        token = tokenize(value)
        assert token not in seen, f"{value!r} and {seen[token]!r} have one token"
        seen[token] = value


def test_positional_and_keyword_arguments_differ():
    assert tokenize(1) != tokenize(x=1)
    assert tokenize(x=1, y=2) == tokenize(y=2, x=1) != tokenize(x=2, y=1)


def test_insertion_order_of_dicts_and_sets_does_not_count():
    names = [f"n{i}" for i in range(100)]
    backwards = names[::-1]
    assert tokenize(dict.fromkeys(names, 1)) == tokenize(dict.fromkeys(backwards, 1))
    assert tokenize(set(names)) == tokenize(set(backwards))


def test_sharing_does_not_count():
    shared = ["x"]
    assert tokenize([shared, shared]) == tokenize([["x"], ["x"]])
    text = "".join(["a", "b"])
    assert tokenize([text, text]) == tokenize(["ab", "".join(["a", "b"])])


def test_sharing_does_not_count_beyond_the_point_where_containers_are_remembered():
    shared = ["x"]
    assert tokenize([shared] * 5000) == tokenize([["x"] for _ in range(5000)])


def test_exponentially_shared_structure_is_hashed_quickly():
    value: list[Any] = []
    for _ in range(50):
        value = [value, value]
    assert tokenize(value) == tokenize(copy.deepcopy(value))


def test_memory_layout_does_not_count():
    array = np.arange(12).reshape(3, 4)
    assert tokenize(array) == tokenize(np.asfortranarray(array))
    assert tokenize(array[:, ::2]) == tokenize(array[:, ::2].copy())
    assert tokenize(array) != tokenize(array.T)


def test_long_data_is_hashed_by_all_of_its_content():
    text = "x" * 10_000
    assert tokenize(text) == tokenize("x" * 10_000) != tokenize(text + "y")
    assert tokenize(text.encode()) != tokenize(text)
    array = np.zeros(100_000)
    other = array.copy()
    other[-1] = 1
    assert tokenize(array) != tokenize(other)


def test_a_cyclic_value_has_a_token():
    value: list[Any] = [1]
    value.append(value)
    assert tokenize(value) == tokenize(value)
    node = hash_samples.Plain(a=1)
    node.self = node
    assert tokenize(node) == tokenize(node)


def test_a_deep_value_has_a_token_or_a_clear_error():
    deep: Any = 1
    for _ in range(200):
        deep = [deep]
    assert tokenize(deep) == tokenize(copy.deepcopy(deep))
    assert tokenize(deep) != tokenize([deep])
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(NondeterministicError):
        tokenize(deep)


@pytest.mark.parametrize(
    "value",
    [object(), threading.Lock(), (i for i in ()), [threading.Lock()], {"a": {"b": object()}}, sys.stdout],
    ids=["object", "lock", "generator", "lock in list", "object in dict", "file"],
)
def test_values_without_a_deterministic_form_have_no_key(value):
    with pytest.raises(NondeterministicError):
        tokenize(value)
    assert task_key(len, (value,)) is None
    assert task_key(len, (), {"x": value}) is None
    maker = KeyMaker(len, {"x": value})
    assert not maker.deterministic
    assert maker.key((1,)) is None


def test_an_object_whose_dumps_differ_has_no_key():
    class Fickle:
        count = 0

        def __reduce__(self):
            Fickle.count += 1
            return Fickle, (), {"count": Fickle.count}

    with pytest.raises(NondeterministicError, match="twice"):
        tokenize(hash_samples.Tokenized(Fickle()))


def test_an_error_in_user_code_is_the_cause():
    class Broken:
        def __dask_tokenize__(self):
            raise ZeroDivisionError("my own fault")

    with pytest.raises(NondeterministicError, match="my own fault") as caught:
        tokenize(Broken())
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_dask_tokenize_is_honoured():
    assert tokenize(hash_samples.Tokenized(1)) == tokenize(hash_samples.Tokenized(1))
    assert tokenize(hash_samples.Tokenized(1)) != tokenize(hash_samples.Tokenized(2))


def test_a_future_is_hashed_as_its_key():
    class Future:
        def __init__(self, key: bytes) -> None:
            self.key = key
            self.lock = threading.Lock()

        @property
        def __fastdist_key__(self) -> bytes:
            return self.key

    assert tokenize([Future(b"sx")]) == tokenize([Future(b"sx")])
    assert tokenize(Future(b"sx")) != tokenize(Future(b"sy"))
    assert tokenize(Future(b"sx")) != tokenize(b"sx")


# Functions


def make_function(source: str, **namespace: Any) -> Any:
    namespace["__name__"] = "__main__"
    exec(source, namespace)
    return namespace["f"]


def test_the_same_code_has_the_same_token_wherever_it_stands():
    one = make_function("def f(x):\n    return x + 1")
    other = make_function("\n\n\ndef f(x):\n    return x + 1")
    assert tokenize(one) == tokenize(other)


@pytest.mark.parametrize(
    "source",
    [
        "def f(x):\n    return x + 2",
        "def f(x):\n    return x - 1",
        "def f(y):\n    return y + 1",
        "def f(x, y=1):\n    return x + 1",
        "def f(x, *, y=1):\n    return x + 1",
        "def f(x):\n    return x.real + 1",
        "async def f(x):\n    return x + 1",
        "f = lambda x: x + 1",
    ],
)
def test_different_code_has_a_different_token(source):
    assert tokenize(make_function(source)) != tokenize(make_function("def f(x):\n    return x + 1"))


def test_a_changed_default_global_or_closure_changes_the_token():
    source = "def f(x):\n    return x + scale"
    assert tokenize(make_function(source, scale=1)) == tokenize(make_function(source, scale=1))
    assert tokenize(make_function(source, scale=1)) != tokenize(make_function(source, scale=2))
    assert tokenize(make_function(source, scale=1, unused=1)) == tokenize(make_function(source, scale=1))
    inner = "def f(x):\n    return [scale + y for y in x], lambda: scale"
    assert tokenize(make_function(inner, scale=1)) != tokenize(make_function(inner, scale=2))
    closures = [(lambda x, n=n: x + n, lambda x: x + n) for n in (1, 2)]  # noqa: B023
    assert tokenize(closures[0][0]) != tokenize(closures[1][0])

    def make(n: int) -> Any:
        return lambda x: x + n

    assert tokenize(make(1)) == tokenize(make(1)) != tokenize(make(2))


def test_functions_that_call_each_other_have_a_token():
    source = "def g(x):\n    return f(x - 1)\ndef f(x):\n    return x and g(x)"
    changed = "def g(x):\n    return f(x - 2)\ndef f(x):\n    return x and g(x)"
    assert tokenize(make_function(source)) == tokenize(make_function(source))
    assert tokenize(make_function(source)) != tokenize(make_function(changed))


def test_a_function_that_uses_a_lock_has_no_key():
    function = make_function("def f(x):\n    return lock", lock=threading.Lock())
    assert task_key(function, (1,)) is None


def test_an_importable_function_is_its_name():
    assert tokenize(hash_samples.importable) == tokenize(hash_samples.importable)
    twin = types.FunctionType(hash_samples.importable.__code__, hash_samples.importable.__globals__)
    assert tokenize(twin) != tokenize(hash_samples.importable)


def test_modules_registered_for_pickling_by_value_are_hashed_by_value():
    cloudpickle = pytest.importorskip("cloudpickle")
    by_name = tokenize(hash_samples.importable)
    cloudpickle.register_pickle_by_value(hash_samples)
    try:
        assert tokenize(hash_samples.importable) != by_name
    finally:
        cloudpickle.unregister_pickle_by_value(hash_samples)
    assert tokenize(hash_samples.importable) == by_name


def test_classes_by_value_are_their_namespace():
    def make(n: int, base: type = object) -> type:
        class Local(base):
            limit = n

            def method(self) -> int:
                return self.limit

        return Local

    assert tokenize(make(1)) == tokenize(make(1))
    assert tokenize(make(1)) != tokenize(make(2))
    assert tokenize(make(1)) != tokenize(make(1, dict))
    assert tokenize(make(1)()) == tokenize(make(1)()) != tokenize(make(2)())


def test_a_dataclass_is_its_fields_and_attributes():
    @dataclasses.dataclass
    class Local:
        x: int

        @functools.cached_property
        def twice(self) -> int:
            return 2 * self.x

    one, other = Local(1), Local(1)
    assert other.twice == 2
    assert tokenize(one) == tokenize(other)
    other.extra = 1  # type: ignore[attr-defined]
    assert tokenize(one) != tokenize(other)


# Keys


def test_a_key_has_the_name_and_32_digits():
    key = task_key(hash_samples.importable, (1,))
    name, _, digits = key.rpartition("-")
    assert name == "importable"
    assert len(digits) == 32 and set(digits) <= set("0123456789abcdef")
    assert task_key(hash_samples.importable, (1,), name="é").startswith("é-")


@given(st.lists(values, max_size=3).map(tuple), st.dictionaries(st.text(max_size=3), values, max_size=2))
def test_a_key_maker_gives_the_keys_of_single_tasks(args, kwargs):
    maker = KeyMaker(hash_samples.importable, kwargs, "some name")
    key = maker.key(args)
    assert decode_key(key) == task_key(hash_samples.importable, args, kwargs, "some name")
    assert maker.key(args) == key


def test_keys_differ_in_function_arguments_and_keyword_arguments():
    calls = [
        (len, (), {}), (max, (), {}), (len, (1,), {}), (len, (1, 2), {}), (len, ((1, 2),), {}),
        (len, (), {"x": 1}), (len, (), {"y": 1}), (len, ({"x": 1},), {}), (len, ((), {"x": 1}), {}),
        (functools.partial(len, 1), (), {}),
    ]  # fmt: skip
    assert len({task_key(*call, name="n") for call in calls}) == len(calls)


class Curious:
    """Uses, while it is hashed, the key maker that hashes it."""

    maker: KeyMaker

    def __dask_tokenize__(self):
        return self.maker.key((5,))


def test_a_key_maker_may_be_used_while_it_hashes():
    maker = Curious.maker = KeyMaker(len)
    expected = maker.key((5,))
    key = maker.key((Curious(),))
    assert key is not None
    assert key == maker.key((Curious(),)) != expected
    assert maker.key((5,)) == expected


def test_a_key_maker_has_no_deterministic_key_itself():
    assert KeyMaker(len).key((KeyMaker(len),)) is None


def test_a_key_maker_serves_many_threads():
    maker = KeyMaker(len)
    expected = [maker.key((i, [i, {i: str(i)}], hash_samples.Plain(i=i))) for i in range(300)]
    found: list[list[bytes | None]] = []

    def work() -> None:
        found.append([maker.key((i, [i, {i: str(i)}], hash_samples.Plain(i=i))) for i in range(300)])

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert found == [expected] * 8


@pytest.mark.parametrize(
    ("func", "name"),
    [
        (len, "len"),
        (hash_samples.importable, "importable"),
        (lambda x: x, "lambda"),
        (functools.partial(functools.partial(max, 1), 2), "max"),
        (hash_samples.Plain, "Plain"),
        (hash_samples.Plain().method, "method"),
        (np.add, "add"),
        (hash_samples.Tokenized(1), "Tokenized"),
        (make_function(f"def {'f' * 80}(x): pass\nf = {'f' * 80}"), "f" * 50),
    ],
)
def test_function_names(func, name):
    assert function_name(func) == name


def test_a_partial_of_a_partial_without_end_has_a_name():
    partial = functools.partial(len)
    partial.__setstate__((partial, (), {}, {}))
    assert isinstance(function_name(partial), str)
    partial.__setstate__((len, (), {}, {}))


# Processes


def run_samples(hash_seed: str, before: str = "") -> dict[str, str]:
    script = ROOT / "tests/core/keys/hash_samples.py"
    source = f"{before}\nimport runpy; runpy.run_path({str(script)!r}, run_name='__main__')"
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", source], env=environment, capture_output=True, text=True, check=True, cwd=ROOT
    )
    return json.loads(done.stdout)


def test_processes_agree_whatever_their_hash_seed():
    here = {name: tokenize(value) for name, value in hash_samples.samples().items()}
    one, other = run_samples("1"), run_samples("2", "import dask.array")
    del one["task"], other["task"]
    assert one == here
    assert other == here


def test_all_samples_differ():
    tokens = [tokenize(value) for value in hash_samples.samples().values()]
    assert len(set(tokens)) == len(tokens)


def test_hashing_imports_neither_numpy_nor_dask():
    source = (
        "import sys; from fastdist._core.keys.hash import task_key\n"
        "task_key(len, ([1], {'a': 2.0}, object))\n"
        "assert not {'numpy', 'dask', 'cloudpickle'} & set(sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", source], check=True, cwd=ROOT, env=environment)


def test_pandas_objects_are_normalised_by_dask():
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("dask")
    frame = pandas.DataFrame({"a": [1, 2], "b": ["x", "y"]})
    assert tokenize(frame) == tokenize(frame.copy())
    assert tokenize(frame) != tokenize(frame.assign(a=[1, 3]))
    assert tokenize(frame["a"]) != tokenize(frame["b"])
