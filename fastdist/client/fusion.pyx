"""Makes one row of each chain of rows that only its neighbours need; what a chain is, `_core.graph.fuse` says.

The row of a chain has the key and the function of its last one, and calls of the others inside its arguments, as if the
graph had been written like that. May import: `fastdist._core`, `flattening`, `fastdist.tasks.evaluate`.
"""

from libc.stdint cimport uint32_t, uint8_t
from libcpp.vector cimport vector

from fastdist.client.flattening cimport Input, Rows

from array import array

from fastdist._core.graph.fuse import fuse_linear
from fastdist.tasks.evaluate import Call, literal

cdef enum:
    MAX_WEIGHT = 64         # rows of a chain, with the depth of the containers and calls inside of them
    PAUSE = 2048            # rows after which other threads get a chance to run


def fuse_rows(Rows rows not None, list outputs not None, labels):
    """Fuse chains of rows, in place.

    Parameters
    ----------
    rows : Rows
    outputs : list
        The keys that are wanted: they keep their rows.
    labels : array of u32
        Of each row; only rows with the same label are fused.
    """
    cdef uint32_t n = <uint32_t>len(rows.keys)
    cdef uint32_t i, row, count = 0
    cdef vector[uint32_t] head
    fixed = bytearray(n)
    for key in outputs:
        fixed[rows.numbers[key]] = 1
    for i in range(rows.elsewhere.size()):
        fixed[rows.elsewhere[i]] = 1
    weights = array("I", [0]) * n
    cdef uint32_t[::1] weight = weights
    for i in range(n):
        weight[i] = rows.depths[i] + 1
    into = fuse_linear(*rows.edges(), fixed, labels, weights, MAX_WEIGHT)
    cdef const uint32_t[::1] next_row = into
    cdef uint8_t[::1] is_continued = fixed      # from here on: another row was fused into this one
    head.resize(n)
    for i in range(n):
        head[i] = i
        is_continued[i] = 0
    for i in range(n):
        if next_row[i] != i:
            is_continued[next_row[i]] = 1
            count += 1
    if not count:
        return
    for i in range(n):
        if next_row[i] == i or is_continued[i]:
            continue
        row = i
        while next_row[row] != row:
            call = as_call(rows.functions[row], rows.args[row], rows.kwargs[row])
            row = next_row[row]
            done = {}
            rows.args[row] = replaced(rows.args[row], call, done)
            if rows.kwargs[row] is not None:
                rows.kwargs[row] = replaced(rows.kwargs[row], call, done)
        head[row] = i
        if i % PAUSE == 0:
            with nogil:
                pass
    compact(rows, next_row, head)


cdef object as_call(object function, tuple args, object kwargs):
    # What stands for the result of a row inside of another one.
    if function is literal and type(args[0]) in (int, str, float, bytes):
        return args[0]
    return Call(function, args, kwargs)


cdef object replaced(object value, object call, dict done):
    # The value with a call in the place of the only input; what holds no input stays the same object.
    cdef type kind = type(value)
    cdef list items
    cdef bint is_new = False
    if kind is Input:
        return call
    if kind is Call:
        # A call that is there several times is made once, so it stays one object.
        found = done.get(id(value))
        if found is None:
            args, kwargs = replaced(value.args, call, done), replaced(value.kwargs, call, done)
            is_new = args is not value.args or kwargs is not value.kwargs
            found = Call(value.function, args, kwargs) if is_new else value
            done[id(value)] = found
        return found
    if kind is dict:
        items = []
        for name, item in (<dict>value).items():
            new_name, new_item = replaced(name, call, done), replaced(item, call, done)
            is_new = is_new or new_name is not name or new_item is not item
            items.append((new_name, new_item))
        return dict(items) if is_new else value
    if kind is tuple or kind is list or kind is set or kind is frozenset:
        items = []
        for item in value:
            new_item = replaced(item, call, done)
            is_new = is_new or new_item is not item
            items.append(new_item)
        if is_new:
            return items if kind is list else kind(items)
    return value


cdef int compact(Rows rows, const uint32_t[::1] next_row, vector[uint32_t]& head) except -1:
    # Leave out the rows that are now part of another one.
    cdef uint32_t n = <uint32_t>len(rows.keys)
    cdef uint32_t i, j, count = 0
    cdef vector[uint32_t] place, starts, needs, elsewhere, odd, depths
    cdef vector[uint8_t] is_odd
    place.resize(n)
    is_odd.assign(n, 0)
    for i in range(rows.odd.size()):
        is_odd[rows.odd[i]] = 1
    for i in range(n):
        place[i] = count
        if next_row[i] == i:
            count += 1
    starts.push_back(0)
    for i in range(n):
        if next_row[i] != i:
            continue
        if rows.functions[i] is None:
            elsewhere.push_back(place[i])
        if is_odd[i] or head[i] != i:
            odd.push_back(place[i])
        for j in range(rows.starts[head[i]], rows.starts[head[i] + 1]):
            needs.push_back(place[rows.needs[j]])
        starts.push_back(<uint32_t>needs.size())
        depths.push_back(rows.depths[i])
        for column in (rows.keys, rows.functions, rows.args, rows.kwargs):
            column[place[i]] = column[i]
    for column in (rows.keys, rows.functions, rows.args, rows.kwargs):
        del column[count:]
    rows.numbers = {key: number for number, key in enumerate(rows.keys)}
    rows.starts, rows.needs, rows.elsewhere, rows.odd, rows.depths = starts, needs, elsewhere, odd, depths
    return 0
