# The rows of a graph while they are made; see flattening.pyx.
cimport cython
from libc.stdint cimport uint32_t
from libcpp.vector cimport vector


@cython.final
cdef class Input:
    cdef readonly Py_ssize_t index


@cython.final
cdef class Rows:
    cdef dict graph                 # as it came: keys to values
    cdef readonly list keys         # of each row, in the order in which they were found
    cdef list values                # what the graph has for the key, or NOTHING
    cdef readonly list functions    # of each row; None: its result comes from elsewhere
    cdef readonly list args
    cdef readonly list kwargs       # None: none
    cdef readonly dict futures
    cdef dict numbers               # of keys
    cdef vector[uint32_t] starts    # the dependencies of row i are needs[starts[i]:starts[i + 1]]
    cdef vector[uint32_t] needs
    cdef vector[uint32_t] row_of    # the row that last needed this key, plus one ...
    cdef vector[uint32_t] place_in  # ... and as which of its dependencies
    cdef vector[uint32_t] elsewhere  # rows without a function
    cdef object held                # says whether the result of a key comes from elsewhere
    cdef uint32_t row               # being made, plus one
    cdef uint32_t start             # of its dependencies
    cdef int calls                  # inside of it
    cdef int depth
    cdef bint is_odd                # the compiled encoding does not know everything in it
    cdef vector[uint32_t] depths    # of each row: containers and calls inside each other
    cdef int deepest
    cdef vector[uint32_t] odd       # rows that are, or that have calls inside
    cdef dict inner_graph           # of the fused task that is taken apart, or None
    cdef dict inner_values          # what stands for its keys so far
    cdef object run_subgraph, cast  # functions of dask that stand for a graph and for a container
    # Types of dask, or None
    cdef object task_type, alias_type, ref_type, data_type, list_type, tuple_type, set_type, dict_type
    cdef tuple node_types
    cdef list inputs                # the placeholders
    cdef dict future_types          # type -> whether its instances are futures

    cdef uint32_t number(self, object key) except? 0xFFFFFFFE
    cdef uint32_t add_key(self, object key, object value) except? 0xFFFFFFFE
    cdef int put(self, object function, object args, object kwargs) except -1
    cdef int convert_all(self) except -1
    cdef int convert(self, object value) except -1
    cdef Input input(self, object key)
    cdef Input numbered_input(self, uint32_t number)
    cdef object future(self, object future)
    cdef object call(self, object function, tuple args, dict kwargs)
    cdef tuple legacy_args(self, tuple task)
    cdef object legacy(self, object value)
    cdef object legacy_key(self, object value, type kind)
    cdef object legacy_items(self, object value, type kind)
    cdef object subclass(self, object value)
    cdef object in_dict(self, object value)
    cdef object node_argument(self, object value)
    cdef object task_node(self, object node)
    cdef object subgraph(self, tuple args)
    cdef object reference(self, object key)
    cdef object node(self, object node, type kind)
    cdef tuple node_args(self, tuple args)
    cdef dict node_kwargs(self, dict kwargs)
    cdef object dict_node(self, object node)
    cdef object whole_node(self, object node)
    cdef bint is_future(self, object value, type kind) except -1
    cdef int deeper(self) except -1


cdef bint is_plain(object value, int depth) except -1
