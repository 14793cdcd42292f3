"""A submitted graph as plugins see it: keys, what is wanted, annotations and priorities, but no functions or arguments.

It is read from a TASKS frame (docs/wire.md), and only while a plugin listens. May import: `_core`, msgpack.
"""

from __future__ import annotations

from array import array
from typing import Any

import msgpack

from fastdist._core.codec.frames import ColumnReader
from fastdist._core.keys.canonical import decode_key

TASKS_COLUMNS = 14
HEADER, KEY_ENDS, KEYS, FUNCTIONS, ORDER, OPTIONS, FLAGS, OPTION_MAPS = 0, 1, 2, 3, 8, 9, 10, 13
NO_FUNCTION = 0xFFFFFFFF
WANTED = 1

Graph = tuple[list[Any], set[Any], dict[str, dict[Any, Any]], dict[Any, tuple[Any, ...]]]


def read_graph(body: memoryview) -> Graph:
    """The tasks, the wanted keys, the annotations and the priorities of a TASKS frame that was applied.

    Returns
    -------
    list, set, dict, dict
        Keys of the tasks; keys that the client wants; for each annotation the keys that have it and its value;
        (user priority, submission, order) by key.
    """
    reader = ColumnReader(body, TASKS_COLUMNS)
    submission = array("Q", reader.column_bytes(HEADER))[2]
    ends = array("I", reader.column_bytes(KEY_ENDS))
    names = reader.column_bytes(KEYS)
    functions = array("I", reader.column_bytes(FUNCTIONS))
    orders = array("I", reader.column_bytes(ORDER)) or range(reader.n_rows)
    options = array("I", reader.column_bytes(OPTIONS)) or [0] * reader.n_rows
    flags = reader.column_bytes(FLAGS) or bytes([3]) * reader.n_rows
    packed = reader.column_bytes(OPTION_MAPS)
    maps = msgpack.unpackb(packed) if packed else []
    tasks: list[Any] = []
    wanted: set[Any] = set()
    annotations: dict[str, dict[Any, Any]] = {}
    priority: dict[Any, tuple[Any, ...]] = {}
    for row in range(reader.n_rows):
        key = decode_key(names[ends[row] : ends[row + 1]])
        if flags[row] & WANTED:
            wanted.add(key)
        if functions[row] == NO_FUNCTION:
            # It names a task that exists already.
            continue
        tasks.append(key)
        chosen = maps[options[row] - 1] if options[row] else {}
        for name, value in chosen.items():
            annotations.setdefault(name, {})[key] = value
        priority[key] = (-float(chosen.get("priority") or 0.0), submission, orders[row])
    return tasks, wanted, annotations, priority
