"""The part of flattening a graph that runs once per row; `graph.py` is its front.

A row is a function and arguments in which `Input(i)` stands for the result of its dependency number `i`. Keys are
numbered in the order in which they are found, and row `n` computes key `n`. dask's nodes are recognised without
importing dask. May import: `fastdist._core`, `fastdist.errors`, `fastdist.tasks.evaluate`.
"""

import sys
from array import array

cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.dict cimport PyDict_GetItemWithError
from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE
from cpython.object cimport PyCallable_Check, PyObject
from cpython.ref cimport Py_INCREF
from cpython.tuple cimport PyTuple_GET_ITEM, PyTuple_GET_SIZE, PyTuple_New, PyTuple_SET_ITEM
from libc.stdint cimport uint32_t
from libcpp.vector cimport vector

from fastdist._core.keys.canonical cimport encode_key

from fastdist.errors import GraphError
from functools import partial

from fastdist.tasks.evaluate import Call, literal, run_node

cdef enum:
    MAX_NESTING = 400       # calls and containers inside each other; workers follow them recursively, too
    MAX_PLAIN = 16          # containers inside of each other in what is encoded without pickle
    PAUSE = 2048            # rows after which other threads get a chance to run

cdef object NOTHING = object()


@cython.final
cdef class Input:
    """Stands for the result of dependency number `index` of a row."""

    def __init__(self, Py_ssize_t index):
        self.index = index

    def __repr__(self):
        return f"Input({self.index})"


# Alike for all rows, so the first ones are made once.
cdef list INPUTS = [Input(index) for index in range(64)]


@cython.final
cdef class Rows:
    """The rows that the outputs of a graph need.

    Parameters
    ----------
    graph : dict
        Keys to legacy tasks, literals, aliases, futures or dask nodes.
    outputs : list
        The keys that are wanted.
    held : callable, optional
        Says of the canonical bytes of a key whether its result comes from elsewhere, although it is in the graph.
    """

    def __init__(self, dict graph not None, list outputs not None, held=None):
        self.graph = graph
        self.held = held
        self.keys, self.values = [], []
        self.functions, self.args, self.kwargs = [], [], []
        self.futures, self.numbers, self.future_types = {}, {}, {}
        self.inputs = list(INPUTS)
        self.starts.push_back(0)
        # A dask node can only be in the graph if this module has been imported, up to its last class.
        spec = sys.modules.get("dask._task_spec")
        if hasattr(spec, "Dict"):
            self.task_type, self.alias_type, self.ref_type = spec.Task, spec.Alias, spec.TaskRef
            self.data_type, self.list_type, self.tuple_type = spec.DataNode, spec.List, spec.Tuple
            self.set_type, self.dict_type = spec.Set, spec.Dict
            self.node_types = (spec.GraphNode, spec.TaskRef)
            self.run_subgraph = getattr(spec, "_execute_subgraph", NOTHING)
            self.cast = getattr(spec, "_identity_cast", NOTHING)
        for key in outputs:
            encode_key(key)
            self.number(key)
        self.convert_all()

    def __len__(self):
        return len(self.keys)

    def edges(self):
        """The dependencies of all rows as two arrays of u32: offsets, numbers."""
        return make_array(self.starts), make_array(self.needs)

    def number_of(self, key):
        """The number of a key that was found."""
        return self.numbers[key]

    def odd_rows(self):
        """The numbers of the rows with calls inside of the call, or with arguments that have to be pickled."""
        return list(self.odd)

    def without_function(self):
        """The numbers of the rows whose results come from elsewhere."""
        return list(self.elsewhere)

    def needs_of(self, uint32_t number):
        """The numbers of the keys that a row needs."""
        return [self.needs[i] for i in range(self.starts[number], self.starts[number + 1])]

    def arranged(self, priorities):
        """The rows by rising priority, those without a function last.

        Parameters
        ----------
        priorities : array of u32
            The priority of each row: 0 to n - 1.

        Returns
        -------
        tuple
            Keys, canonical keys, functions, arguments and keyword arguments of the rows; offsets and numbers of
            their dependencies (arrays of u32); the keys of the rows without a function; the place of each row.
            A dependency that is at least the number of rows means one of the latter.
        """
        cdef uint32_t[::1] priority = priorities
        cdef uint32_t n = <uint32_t>PyList_GET_SIZE(self.keys)
        cdef vector[uint32_t] running, place, offsets, needs
        cdef list keys = [], key_bytes = [], functions = [], args = [], kwargs = [], externals = []
        cdef uint32_t i, j, number
        running.resize(n)
        place.resize(n)
        for i in range(n):
            running[priority[i]] = i
        j = 0
        for i in range(n):
            if self.functions[running[i]] is not None:
                place[running[i]] = j
                j += 1
        for i in range(n):
            number = running[i]
            if self.functions[number] is None:
                place[number] = j
                j += 1
                externals.append(self.keys[number])
        offsets.push_back(0)
        needs.reserve(self.needs.size())
        for i in range(n):
            number = running[i]
            function = self.functions[number]
            if function is None:
                continue
            key = self.keys[number]
            keys.append(key)
            key_bytes.append(encode_key(key))
            functions.append(function)
            args.append(self.args[number])
            kwargs.append(self.kwargs[number])
            for j in range(self.starts[number], self.starts[number + 1]):
                needs.push_back(place[self.needs[j]])
            offsets.push_back(<uint32_t>needs.size())
            if i % PAUSE == 0:
                pause()
        return (
            keys, key_bytes, functions, args, kwargs, make_array(offsets), make_array(needs), externals,
            make_array(place)
        )

    cdef uint32_t number(self, object key) except? 0xFFFFFFFE:
        # A new key will be converted in its turn.
        cdef PyObject* found = PyDict_GetItemWithError(self.numbers, key)
        cdef PyObject* value
        cdef uint32_t number
        if found != NULL:
            return <uint32_t><object>found
        value = PyDict_GetItemWithError(self.graph, key)
        return self.add_key(key, NOTHING if value == NULL else <object>value)

    cdef uint32_t add_key(self, object key, object value) except? 0xFFFFFFFE:
        cdef uint32_t number = <uint32_t>PyList_GET_SIZE(self.keys)
        self.numbers[key] = number
        self.keys.append(key)
        self.values.append(value)
        self.row_of.push_back(0)
        self.place_in.push_back(0)
        return number

    cdef int convert_all(self) except -1:
        # The list grows while it is walked.
        cdef Py_ssize_t number = 0
        cdef object value
        while number < PyList_GET_SIZE(self.values):
            value = <object>PyList_GET_ITEM(self.values, number)
            self.values[number] = None
            number += 1
            self.row = <uint32_t>number
            self.start = <uint32_t>self.needs.size()
            self.calls = self.depth = self.deepest = 0
            self.is_odd = False
            if number % PAUSE == 0:
                pause()
            if value is NOTHING or self.held is not None and self.held(encode_key(self.keys[number - 1])):
                self.put(None, None, None)
                continue
            try:
                self.convert(value)
            except RecursionError:
                raise GraphError(f"the task {self.keys[number - 1]!r} is nested too deep") from None
        self.values = []
        return 0

    cdef int put(self, object function, object args, object kwargs) except -1:
        if function is None:
            self.elsewhere.push_back(<uint32_t>PyList_GET_SIZE(self.functions))
        self.functions.append(function)
        self.args.append(args)
        self.kwargs.append(kwargs)
        self.starts.push_back(<uint32_t>self.needs.size())
        self.depths.push_back(self.deepest)
        return 0

    cdef int convert(self, object value) except -1:
        # Appends the row whose result is what the value stands for.
        cdef type kind = type(value)
        cdef object function
        cdef object args
        cdef dict kwargs = None
        if kind is tuple and is_call(<tuple>value):
            function = <object>PyTuple_GET_ITEM(value, 0)
            args = self.legacy_args(<tuple>value)
        else:
            tree = self.node(value, kind) if kind is self.task_type else self.legacy(value)
            if type(tree) is Call:
                self.calls -= 1
                function, args, kwargs = tree.function, tree.args, tree.kwargs or None
            else:
                if type(tree) is Input and self.needs.size() == self.start + 1 and self.needs.back() == self.row - 1:
                    # The graph of a persisted collection: the key stands for itself.
                    self.needs.pop_back()
                    return self.put(None, None, None)
                function, args = literal, (tree,)
        if type(function) is partial:
            self.is_odd = True
        if self.calls or self.is_odd:
            self.odd.push_back(self.row - 1)
        return self.put(function, args, kwargs)

    # -- what a row needs ------------------------------------------------------------------------------------

    cdef Input input(self, object key):
        # An alias that nobody asked for needs no row: what it stands for is the input.
        cdef PyObject* found = PyDict_GetItemWithError(self.numbers, key)
        cdef int steps = 0
        if found != NULL:
            return self.numbered_input(<uint32_t><object>found)
        while self.alias_type is not None and steps < MAX_NESTING:
            found = PyDict_GetItemWithError(self.graph, key)
            if found == NULL or type(<object>found) is not self.alias_type:
                break
            target = (<object>found).target
            if target == key or self.held is not None and self.held(encode_key(key)):
                break
            key = target
            steps += 1
        return self.numbered_input(self.number(key))

    cdef Input numbered_input(self, uint32_t number):
        if self.row_of[number] != self.row:
            self.row_of[number] = self.row
            self.place_in[number] = <uint32_t>self.needs.size() - self.start
            self.needs.push_back(number)
            if self.place_in[number] == <uint32_t>PyList_GET_SIZE(self.inputs):
                self.inputs.append(Input(self.place_in[number]))
        return <Input>PyList_GET_ITEM(self.inputs, self.place_in[number])

    cdef object future(self, object future):
        key = future.key
        self.futures[key] = future
        return self.input(key)

    cdef object call(self, object function, tuple args, dict kwargs):
        self.calls += 1
        return Call(function, args, kwargs)

    cdef int deeper(self) except -1:
        self.depth += 1
        if self.depth > self.deepest:
            self.deepest = self.depth
        if self.depth > MAX_NESTING:
            raise RecursionError
        return 0

    # -- legacy tasks: keys are recognised by being in the graph -------------------------------------------------

    cdef tuple legacy_args(self, tuple task):
        cdef Py_ssize_t i, n = PyTuple_GET_SIZE(task)
        cdef tuple args = PyTuple_New(n - 1)
        cdef object item
        self.deeper()
        for i in range(1, n):
            item = self.legacy(<object>PyTuple_GET_ITEM(task, i))
            Py_INCREF(item)
            PyTuple_SET_ITEM(args, i - 1, item)
        self.depth -= 1
        return args

    cdef object legacy(self, object value):
        # A legacy argument with placeholders for keys and calls for nested tasks.
        cdef type kind = type(value)
        if kind is str or kind is int:
            return self.legacy_key(value, kind)
        if kind is list:
            return self.legacy_items(value, kind)
        if kind is tuple:
            if is_call(<tuple>value):
                return self.call(<object>PyTuple_GET_ITEM(value, 0), self.legacy_args(<tuple>value), None)
            return self.legacy_key(value, kind)
        if kind is float or kind is bytes:
            return self.legacy_key(value, kind)
        if value is None or kind is bool or kind is complex:
            return value
        if kind is set or kind is frozenset:
            return self.legacy_items(value, kind)
        if kind is dict:
            return self.in_dict(value)
        if kind is slice or kind is range or kind is bytearray:
            self.is_odd = True
            return value
        if self.node_types is not None and isinstance(value, self.node_types):
            return self.node(value, kind)
        if self.is_future(value, kind):
            return self.future(value)
        return self.subclass(value)

    cdef object legacy_key(self, object value, type kind):
        cdef PyObject* found
        cdef PyObject* number
        try:
            found = PyDict_GetItemWithError(self.graph, value)
        except TypeError:       # unhashable
            found = NULL
        if found != NULL:
            number = PyDict_GetItemWithError(self.numbers, value)
            if number != NULL:
                return self.numbered_input(<uint32_t><object>number)
            return self.numbered_input(self.add_key(value, <object>found))
        return self.legacy_items(value, kind) if kind is tuple else value

    cdef object legacy_items(self, object value, type kind):
        cdef list items = []
        self.deeper()
        for item in value:
            items.append(self.legacy(item))
        self.depth -= 1
        return items if kind is list else kind(items)

    cdef object subclass(self, object value):
        # An instance of a subclass of a container, made anew if there is a reference inside.
        if isinstance(value, (str, bytes, int, float, tuple)):
            try:
                if value in self.graph:
                    return self.input(value)
            except TypeError:
                pass
        self.is_odd = True
        if not isinstance(value, (list, tuple, set, frozenset)):
            return value
        cdef int calls = self.calls
        cdef list items = self.legacy_items(value, list)
        if self.calls == calls and not holds_input(items):
            return value
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            return self.call(type(value), tuple(items), None)
        return self.call(type(value), (items,), None)

    cdef object in_dict(self, object value):
        # What is inside a dict: as in dask, text there names no task, but futures and nodes count.
        cdef type kind = type(value)
        if kind is dict:
            self.deeper()
            copy = {self.in_dict(name): self.in_dict(item) for name, item in (<dict>value).items()}
            self.depth -= 1
            return copy
        if kind is list or kind is tuple or kind is set or kind is frozenset:
            self.deeper()
            items = [self.in_dict(item) for item in value]
            self.depth -= 1
            return kind(items)
        return self.node_argument(value)

    # -- nodes of dask._task_spec: references are explicit -------------------------------------------------------

    cdef tuple node_args(self, tuple args):
        cdef Py_ssize_t i, n = PyTuple_GET_SIZE(args)
        cdef tuple copy = PyTuple_New(n)
        cdef object item
        for i in range(n):
            item = self.node_argument(<object>PyTuple_GET_ITEM(args, i))
            Py_INCREF(item)
            PyTuple_SET_ITEM(copy, i, item)
        return copy

    cdef dict node_kwargs(self, dict kwargs):
        if not kwargs:
            return None
        return {name: self.node_argument(item) for name, item in kwargs.items()}

    cdef object node_argument(self, object value):
        # Nodes and references count, anything else is a literal.
        cdef type kind = type(value)
        if kind is self.ref_type:
            return self.reference(value.key)
        if value is None or kind is int or kind is str or kind is float or kind is bool or kind is bytes:
            return value
        if kind is tuple or kind is list or kind is dict:
            if not self.is_odd and not is_plain(value, 0):
                self.is_odd = True
            return value
        if self.node_types is not None and isinstance(value, self.node_types):
            return self.node(value, kind)
        if self.is_future(value, kind):
            return self.future(value)
        self.is_odd = True
        return value

    cdef object node(self, object node, type kind):
        # A node with placeholders for references and calls for tasks.
        if kind is self.ref_type:
            return self.reference(node.key)
        if kind is self.alias_type:
            return self.reference(node.target)
        if kind is self.data_type:
            value = node.value
            if not self.is_odd and not is_plain(value, 0):
                self.is_odd = True
            return value
        self.deeper()
        if kind is self.list_type:
            found = list(self.node_args(node.args))
        elif kind is self.task_type:
            found = self.task_node(node)
        elif kind is self.tuple_type:
            found = self.node_args(node.args)
        elif kind is self.set_type:
            found = set(self.node_args(node.args))
        elif kind is self.dict_type:
            found = self.dict_node(node)
        elif isinstance(node, self.ref_type):
            # The Future of some client; any other node is left to dask.
            found = self.future(node)
        else:
            found = self.whole_node(node)
        self.depth -= 1
        return found

    cdef object task_node(self, object node):
        cdef object function = node.func
        cdef dict kwargs = node.kwargs
        if function is self.run_subgraph and not kwargs:
            found = self.subgraph(node.args)
            if found is not None:
                return found
        elif function is self.cast and len(kwargs) == 1:
            kind = kwargs.get("typ")
            if kind is list or kind is tuple or kind is set or kind is frozenset:
                return kind(self.node_args(node.args))
        return self.call(function, self.node_args(node.args), self.node_kwargs(kwargs))

    # -- tasks that dask has fused into one ------------------------------------------------------------------------

    cdef object subgraph(self, tuple args):
        # Calls inside each other instead of a graph inside an argument; None if there is more to it than calls.
        cdef dict inner_graph = self.inner_graph, inner_values = self.inner_values
        cdef int calls = self.calls, depth = self.depth
        if len(args) < 3 or type(args[0]) is not dict or len(args[2]) != len(args) - 3:
            return None
        values = dict(zip(args[2], self.node_args(args[3:])))
        self.inner_graph, self.inner_values = args[0], values
        try:
            return self.reference(args[1])
        except (LookupError, RecursionError):
            self.calls = calls
            self.depth = depth
            return None
        finally:
            self.inner_graph, self.inner_values = inner_graph, inner_values

    cdef object reference(self, object key):
        # What a reference stands for: inside a fused task first of all another part of it.
        cdef PyObject* found
        if self.inner_graph is None:
            return self.input(key)
        found = PyDict_GetItemWithError(self.inner_values, key)
        if found != NULL:
            return <object>found
        node = self.inner_graph[key]
        value = self.node(node, type(node)) if isinstance(node, self.node_types) else node
        # A part that several others use stays one object, and so one call.
        self.inner_values[key] = value
        return value

    cdef object dict_node(self, object node):
        # The keys may be nodes, too.
        cdef tuple items = self.node_args(node.args)
        cdef dict found = {}
        cdef Py_ssize_t i
        for i in range(0, len(items), 2):
            if isinstance(items[i], (Call, list, dict, set)):
                return self.whole_node(node)
            if type(items[i]) is tuple and not is_plain(items[i], 0):
                return self.whole_node(node)
            found[items[i]] = items[i + 1]
        return found

    cdef object whole_node(self, object node):
        # A node that dask itself must run.
        if self.inner_graph is not None:
            raise LookupError
        cdef tuple names = tuple(node.dependencies)
        return self.call(run_node, (node, names, *[self.input(name) for name in names]), None)

    cdef bint is_future(self, object value, type kind) except -1:
        # Whether the value stands for a result that exists or is being made elsewhere.
        cdef PyObject* known = PyDict_GetItemWithError(self.future_types, kind)
        if known == NULL:
            found = hasattr(kind, "__fastdist_key__") or bool(getattr(kind, "__dask_future__", False))
            self.future_types[kind] = found
            return found
        return <object>known


cdef void pause() noexcept:
    with nogil:
        pass


cdef inline bint is_call(tuple value) noexcept:
    # Whether this is a legacy task: a tuple that starts with a callable.
    return PyTuple_GET_SIZE(value) > 0 and PyCallable_Check(<object>PyTuple_GET_ITEM(value, 0))


cdef bint holds_input(object tree, int depth=0) except -1:
    cdef type kind = type(tree)
    if kind is Input or kind is Call:
        return True
    if kind is list or kind is tuple or kind is set or kind is frozenset:
        if depth > MAX_NESTING:
            raise RecursionError
        for item in tree:
            if holds_input(item, depth + 1):
                return True
    elif kind is dict:
        if depth > MAX_NESTING:
            raise RecursionError
        for name, item in (<dict>tree).items():
            if holds_input(name, depth + 1) or holds_input(item, depth + 1):
                return True
    return False


cdef bint is_plain(object value, int depth) except -1:
    # Whether the compiled encoding takes it, but for its size and for what is in it twice.
    cdef type kind = type(value)
    if value is None or kind is int or kind is str or kind is float or kind is bool or kind is bytes or kind is Input:
        return True
    if kind is tuple or kind is list or kind is set or kind is frozenset:
        if depth > MAX_PLAIN:
            return False
        for item in value:
            if not is_plain(item, depth + 1):
                return False
        return True
    if kind is dict:
        if depth > MAX_PLAIN:
            return False
        for name, item in (<dict>value).items():
            if not is_plain(name, depth + 1) or not is_plain(item, depth + 1):
                return False
        return True
    return kind is complex


cdef object make_array(vector[uint32_t]& source):
    result = array("I")
    result.frombytes(PyBytes_FromStringAndSize(<const char*>source.data(), 4 * source.size()))
    return result
