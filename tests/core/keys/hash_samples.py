"""Values whose tokens must be the same in every process; run as a script it prints them as JSON."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import fractions
import functools
import json
import operator
import pathlib
import re
import uuid
import zoneinfo
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from typing import Any

import numpy as np

Point = namedtuple("Point", "x y")
FACTOR = 3
NAMES = {"alpha", "beta", "gamma", "delta"}


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Flags(enum.Flag):
    A = 1
    B = 2


@dataclasses.dataclass
class Record:
    name: str
    tags: set[str]


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    name: str


class Plain:
    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)

    def method(self, x: int) -> int:
        return x


class TextSet(set):  # type: ignore[type-arg]
    pass


class Tokenized:
    def __init__(self, value: Any) -> None:
        self.value = value

    def __dask_tokenize__(self) -> Any:
        return ("tokenized", self.value)


def importable(x: int) -> int:
    return x


def by_value() -> dict[str, Any]:
    """Functions and classes that no module shows under their names."""
    closed = {"p", "q", "r", "s", "t"}

    def closure(x: Any) -> Any:
        return x in closed and x in {"const1", "const2", "const3", "const4"}

    def uses_globals(x: Any) -> Any:
        return x * FACTOR, x in NAMES, importable(x), re.compile

    def recursive(n: int) -> int:
        return n and recursive(n - 1)

    def decorated(x: Any) -> Any:
        @functools.wraps(importable)
        def inner(y: Any) -> Any:
            return x, y

        return inner

    class Local:
        limits = frozenset({"a", "b", "c"})

        @property
        def size(self) -> int:
            return len(self.limits)

        @staticmethod
        def make() -> Local:
            return Local()

        @classmethod
        def other(cls) -> Local:
            return cls()

        @functools.cached_property
        def cached(self) -> int:
            return 1

        def own(self) -> Any:
            return super().__init__

    class LocalColour(enum.Enum):
        RED = 1
        BLUE = 2

    @dataclasses.dataclass
    class LocalRecord:
        name: str
        tags: set[str] = dataclasses.field(default_factory=set)

    return {
        "closure": closure,
        "uses_globals": uses_globals,
        "recursive": recursive,
        "decorated": decorated(4),
        "local class": Local,
        "local instance": Local(),
        "bound method": Local().own,
        "local enum": LocalColour.RED,
        "local dataclass": LocalRecord("x", {"u", "v", "w"}),
        "partial of lambda": functools.partial(lambda x, y=2: x + y, 1, y=3),
        "lru_cache": functools.lru_cache(lambda x: x),
    }


def samples() -> dict[str, Any]:
    """The values by name."""
    shared = ["x"]
    return {
        "None": None,
        "bools": [True, False],
        "ints": [0, 1, -1, 2**62, 2**63, 2**64, -(2**63), -(2**64), 10**50],
        "floats": [0.0, -0.0, 1.5, float("inf"), float("nan")],
        "complex": 1 + 2j,
        "text": ["", "a", "é", "\ud800", "x" * 5000],
        "bytes": [b"", b"a", b"x" * 5000, bytearray(b"a")],
        "containers": [(), [], {}, set(), frozenset(), (1, [2, {"a": (3,)}])],
        "set": {f"item {i}" for i in range(50)},
        "frozenset": frozenset("abcdefgh"),
        "dict": {f"key {i}": {i, str(i)} for i in range(20)},
        "shared": [shared, shared],
        "slice": slice(1, None, (2,)),
        "range": range(3),
        "ellipsis": [..., NotImplemented],
        "datetimes": [
            datetime.datetime(2024, 1, 2, 3, 4, 5, 6),
            datetime.datetime(2024, 1, 2, tzinfo=datetime.timezone.utc),
            datetime.datetime(2024, 1, 2, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin")),
            datetime.date(2024, 1, 2),
            datetime.time(1, 2),
            datetime.timedelta(1, 2, 3),
        ],
        "numbers": [decimal.Decimal("1.10"), fractions.Fraction(1, 3)],
        "standard library": [
            uuid.UUID(int=5), pathlib.PurePosixPath("/a/b"), re.compile("a+"), Counter("aab"),
            deque([1, 2], maxlen=3), defaultdict(list, {"a": [1]}), OrderedDict(a=1, b=2), Point(1, 2),
        ],
        "enums": [Colour.RED, Flags.A | Flags.B],
        "dataclasses": [Record("x", {"a", "b", "c", "d"}), Frozen("y")],
        "objects": [Plain(a=1, b={"x", "y", "z"}), TextSet({"x", "y", "z"}), Tokenized({"u", "v", "w"})],
        "functions": [len, importable, operator.add, str.upper, "a".upper, Plain(a=1).method, np.sum, np.add],
        "types": [int, type(None), Plain, np.ndarray, list[int], int | None],
        "partial": functools.partial(importable, 1, y={"a", "b"}),
        "modules": [re, functools],
        "arrays": [
            np.arange(10), np.arange(10.0).reshape(2, 5), np.arange(10.0).reshape(2, 5).T, np.zeros((0, 3)),
            np.array(3), np.array(["a", None, {"x", "y", "z"}], dtype=object), np.array(["abc", "d"]),
            np.array(["2024-01-01"], dtype="M8[ns]"), np.zeros(2, dtype=[("a", "i4"), ("b", "f8")]),
            np.arange(2000), np.array([True]), np.ma.masked_array([1, 2], [True, False]),
        ],
        "numpy scalars": [
            np.int64(1), np.float32(1), np.datetime64("2024-01-01"), np.str_("x"), np.bool_(True),
        ],
        "numpy dtypes": [np.dtype("f8"), np.dtype([("a", "i4")])],
        **by_value(),
    }  # fmt: skip


if __name__ == "__main__":
    from fastdist._core.keys.hash import task_key, tokenize
    from tests.core.keys import hash_samples

    found = {name: tokenize(value) for name, value in hash_samples.samples().items()}
    found["task"] = task_key(hash_samples.importable, ({"a", "b", "c"},), {"x": 1, "y": 2})
    print(json.dumps(found))
