"""Puts the rows of a graph into a batch, one compiled step for each. May import: `fastdist._core`, `flattening`."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libcpp.vector cimport vector

from fastdist._core.client.batch cimport TaskBatch
from fastdist._core.codec.values cimport encode_arguments_into
from fastdist.client.flattening cimport Input

from array import array

from fastdist._core.keys.canonical import decode_key
from fastdist.errors import SerializationError


def add_rows(
    TaskBatch batch not None, list key_bytes not None, list args not None, list kwargs not None, functions, options,
    flags, offsets, needs, list externals not None,
):
    """Add the rows of a graph, in dependency order, to a batch.

    Parameters
    ----------
    batch : TaskBatch
    key_bytes, args, kwargs : list
        Of each row; `Input(i)` in the arguments stands for dependency `i` of the row. No kwargs: None.
    functions, options : array of u32
        Numbers that the batch gave them.
    flags : bytes
        WANTED and INLINE of each row.
    offsets, needs : array of u32
        The dependencies of row `i` are `needs[offsets[i]:offsets[i + 1]]`: numbers of rows, and from the number of
        rows on, of `externals`.
    externals : list of int
        Client ids.

    Returns
    -------
    tuple of dict and array
        The futures of the wanted rows, by row; the bytes of the arguments of each row.
    """
    cdef const uint32_t[::1] function = functions, option = options, offset = offsets, need = needs
    cdef const uint8_t[::1] flag = flags
    cdef vector[uint64_t] ids
    cdef list references = []
    cdef dict futures = {}
    cdef tuple row_args
    cdef bytes key, payload
    cdef uint32_t n = <uint32_t>len(key_bytes)
    cdef uint32_t row, start
    cdef size_t i
    cdef bint is_new
    sizes = array("Q", bytes(8 * n))
    cdef uint64_t[::1] size = sizes
    ids.resize(n + len(externals))
    for i in range(len(externals)):
        ids[n + i] = externals[i]
    for row in range(n):
        key = key_bytes[row]
        row_args = args[row]
        if references:
            references.clear()
        batch.staging.clear()
        if not encode_arguments_into(batch.staging, row_args, kwargs[row], Input, references):
            try:
                payload, references = batch.encode_fallback(row_args, kwargs[row], Input)
            except SerializationError as error:
                raise SerializationError(f"the task {decode_key(key)!r} cannot be sent: {error}") from error.__cause__
            batch.staging.assign(
                <uint8_t*>PyBytes_AS_STRING(payload), <uint8_t*>PyBytes_AS_STRING(payload) + PyBytes_GET_SIZE(payload)
            )
        size[row] = batch.staging.size()
        batch.inputs.clear()
        start = offset[row]
        for reference in references:
            batch.inputs.push_back(ids[need[start + (<Input?>reference).index]])
        ids[row] = batch.put_row(
            <const uint8_t*>PyBytes_AS_STRING(key), <uint32_t>PyBytes_GET_SIZE(key), function[row], option[row],
            flag[row], n - row, &is_new,
        )
        if flag[row] & 1:
            futures[row] = batch.table.make_future(ids[row])
    return futures, sizes
