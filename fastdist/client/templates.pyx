"""Turns rows that are more than one plain call into templates, one for all rows that differ only in their arguments.

What differs between rows becomes an argument: inputs, numbers, text, and whatever only pickle knows if most rows have
an object of their own. What rows have in common, by identity, becomes a constant of the template. May import:
`flattening`, `fastdist.tasks`.
"""

cimport cython

from fastdist.client.flattening cimport is_plain

from functools import partial

from fastdist.tasks.evaluate import Call
from fastdist.tasks.template import Argument, Build, Template, run_template

cdef enum:
    MAX_NESTING = 800
    FEW_ROWS = 4            # so many rows, on average, have to share an object that belongs into a template
    PAUSE = 2048            # rows after which other threads get a chance to run

# What a signature says of one part of a row
cdef object ARGUMENT = -1
cdef object OPAQUE = -2
cdef object SLICE = -3
cdef object CALL = -4
cdef object RESULT = -5
cdef object END = -6
cdef dict CONTAINERS = {list: -10, tuple: -11, set: -12, frozenset: -13, dict: -14}


@cython.final
cdef class Group:
    """The rows of one structure: what is not in their signature is a list of as many parts for each."""

    cdef list rows          # their numbers
    cdef list calls
    cdef list parts
    cdef list opaque        # of each part whether only pickle knows it

    def __cinit__(self, list opaque):
        self.rows, self.calls, self.parts = [], [], []
        self.opaque = opaque


@cython.final
cdef class Walk:
    """Looks through a row, for its signature and its parts."""

    cdef list signature
    cdef list parts
    cdef list opaque
    cdef dict results       # id of a Call -> number of its step
    cdef int depth

    def __cinit__(self):
        self.signature, self.parts, self.opaque, self.results = [], [], [], {}

    cdef int call(self, object call) except -1:
        cdef object number = self.results.get(id(call))
        cdef object function
        cdef tuple args
        cdef dict kwargs
        if number is not None:
            self.signature.append(RESULT)
            self.signature.append(number)
            return 0
        function, args, kwargs = unfold(call)
        self.signature.append(CALL)
        self.signature.append(id(function))
        self.items(args)
        for name, value in kwargs.items():
            self.signature.append(name)
            self.value(value)
        self.signature.append(END)
        self.results[id(call)] = len(self.results)
        return 0

    cdef int items(self, object items) except -1:
        self.depth += 1
        if self.depth > MAX_NESTING:
            raise RecursionError
        for item in items:
            self.value(item)
        self.depth -= 1
        return 0

    cdef int part(self, object value, bint is_opaque) except -1:
        self.signature.append(OPAQUE if is_opaque else ARGUMENT)
        self.parts.append(value)
        self.opaque.append(is_opaque)
        return 0

    cdef int value(self, object value) except -1:
        cdef type kind = type(value)
        if value is None or kind is bool:
            self.signature.append(id(value))
        elif kind is Call:
            self.call(value)
        elif kind is slice:
            self.signature.append(SLICE)
            self.items((value.start, value.stop, value.step))
        elif is_plain(value, 0):
            self.part(value, False)
        elif kind in CONTAINERS:
            self.signature.append(CONTAINERS[kind])
            self.signature.append(len(value))
            self.items(items_of(value))
        else:
            self.part(value, True)
        return 0


@cython.final
cdef class Maker:
    """Makes the template of a row, going through it as `Walk` does."""

    cdef list constant      # of each part whether it stays in the template
    cdef Py_ssize_t n_parts
    cdef Py_ssize_t n_arguments
    cdef Py_ssize_t n_given
    cdef list steps
    cdef dict results
    cdef bint is_trivial    # one call of nothing but arguments, in their order

    def __cinit__(self, list constant):
        self.constant = constant
        self.n_parts = self.n_arguments = 0
        self.n_given = constant.count(False)
        self.steps, self.results = [], {}
        self.is_trivial = True

    cdef object call(self, object call):
        cdef object number = self.results.get(id(call))
        if number is None:
            function, args, kwargs = unfold(call)
            if kwargs or function is not call.function:
                self.is_trivial = False
            args = tuple([self.value(item) for item in args])
            kwargs = {name: self.value(item) for name, item in kwargs.items()}
            number = self.results[id(call)] = len(self.steps)
            self.steps.append((function, args, kwargs))
        return Argument(self.n_given + number)

    cdef object value(self, object value):
        cdef type kind = type(value)
        cdef object items
        if value is not None and kind is not bool and kind is not Call and is_plain(value, 0):
            return self.part(value)
        if kind is slice:
            items = (value.start, value.stop, value.step)
        elif kind in CONTAINERS:
            items = items_of(value)
        elif kind is Call:
            self.is_trivial = False
            return self.call(value)
        elif value is None or kind is bool:
            self.is_trivial = False
            return value
        else:
            return self.part(value)
        self.is_trivial = False
        return Build(kind, tuple([self.value(item) for item in items]))

    cdef object part(self, object value):
        self.n_parts += 1
        if self.constant[self.n_parts - 1]:
            self.is_trivial = False
            return value
        self.n_arguments += 1
        return Argument(self.n_arguments - 1)


cdef tuple unfold(object call):
    # The function, arguments and keyword arguments of a call, those of a partial function included.
    cdef object function = call.function
    if type(function) is partial:
        return function.func, function.args + call.args, {**function.keywords, **call.kwargs}
    return function, call.args, call.kwargs


cdef object items_of(object container):
    if type(container) is dict:
        return [item for pair in (<dict>container).items() for item in pair]
    return container


def use_templates(list functions not None, list args not None, list kwargs not None, list odd_rows not None):
    """Replace rows by templates and their arguments, where that helps.

    Parameters
    ----------
    functions, args, kwargs : list
        Of all rows; changed in place. `Call` objects in the arguments are calls that have to be made first.
    odd_rows : list of int
        The rows to look at; all that hold a `Call` are among them.

    Raises
    ------
    RecursionError
        If arguments are nested too deep.
    """
    cdef dict groups = {}
    cdef Walk walk
    cdef Group group
    cdef object call
    cdef Py_ssize_t count = 0
    for row in odd_rows:
        call = Call(functions[row], args[row], kwargs[row])
        walk = Walk()
        walk.call(call)
        signature = tuple(walk.signature)
        found = groups.get(signature)
        if found is None:
            found = groups[signature] = Group(walk.opaque)
        group = <Group>found
        group.rows.append(row)
        group.calls.append(call)
        group.parts.append(walk.parts)
        count += 1
        if count % PAUSE == 0:
            with nogil:
                pass
    for found in groups.values():
        apply_group(<Group>found, functions, args, kwargs)


cdef int apply_group(Group group, list functions, list args, list kwargs) except -1:
    cdef Py_ssize_t i, n = len(group.rows)
    cdef list constant = constants_of(group, n)
    cdef dict templates = {}
    cdef list shared = [number for number in range(len(constant)) if constant[number]]
    cdef list own = [number for number in range(len(constant)) if not constant[number]]
    cdef list parts
    cdef Maker maker
    for i in range(n):
        row = group.rows[i]
        parts = group.parts[i]
        common = tuple([id(parts[number]) for number in shared])
        found = templates.get(common)
        if found is None:
            maker = Maker(constant)
            maker.call(group.calls[i])
            found = templates[common] = (
                Template(maker.n_given, maker.steps), len(maker.steps) == 1 and (maker.is_trivial or n == 1)
            )
        template, is_plain_row = found
        if is_plain_row:
            continue
        given = tuple([parts[number] for number in own])
        if n == 1:
            functions[row], args[row] = run_template, (template, *given)
        else:
            functions[row], args[row] = template, given
        kwargs[row] = None
    return 0


cdef list constants_of(Group group, Py_ssize_t n):
    # Of each part whether it belongs into the template: what rows share does, what most have their own of does not.
    cdef list constant = []
    cdef Py_ssize_t number
    if n == 1:
        return [False] * len(group.opaque)
    for number in range(len(group.opaque)):
        if group.opaque[number]:
            distinct = len({id(parts[number]) for parts in group.parts})
            constant.append(distinct == 1 or FEW_ROWS * distinct <= n)
        else:
            constant.append(False)
    return constant
