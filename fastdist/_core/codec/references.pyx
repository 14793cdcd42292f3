"""References to other tasks inside containers, replaced before the arguments are pickled.

May import: `fastdist._core.codec.values`.
"""

import cython

from fastdist._core.codec.values import dependency

cdef enum:
    MAX_NESTING = 1000      # about what pickle itself can follow


@cython.final
cdef class Dependency:
    """Stands for input `number` of a task; unpickled inside the arguments of that task, it is the input's value."""

    cdef readonly Py_ssize_t number

    def __cinit__(self, Py_ssize_t number):
        self.number = number

    def __reduce__(self):
        return dependency, (self.number,)


@cython.final
cdef class _Walk:
    cdef type reference_type
    cdef list references
    cdef dict stand_ins         # id of a reference -> its Dependency
    cdef dict copies            # id of a container -> its copy; keeps what is shared shared, and ends cycles

    cdef bint holds_reference(self, object value, set seen, int depth) except -1:
        cdef type kind = type(value)
        if kind is self.reference_type:
            return True
        if kind is dict:
            if self.is_known(value, seen, depth):
                return False
            for key, item in (<dict>value).items():
                if self.holds_reference(key, seen, depth + 1) or self.holds_reference(item, seen, depth + 1):
                    return True
        elif kind is list or kind is tuple or kind is set or kind is frozenset:
            if self.is_known(value, seen, depth):
                return False
            for item in value:
                if self.holds_reference(item, seen, depth + 1):
                    return True
        return False

    cdef bint is_known(self, object container, set seen, int depth) except -1:
        address = id(container)
        if address in seen:
            return True
        if depth > MAX_NESTING:
            raise RecursionError(f"containers are nested more than {MAX_NESTING} deep")
        seen.add(address)
        return False

    cdef object stand_in(self, object reference):
        found = self.stand_ins.get(id(reference))
        if found is None:
            found = self.stand_ins[id(reference)] = Dependency(len(self.references))
            self.references.append(reference)
        return found

    cdef object copy(self, object value):
        cdef type kind = type(value)
        if kind is self.reference_type:
            return self.stand_in(value)
        if kind is not list and kind is not tuple and kind is not dict and kind is not set and kind is not frozenset:
            return value
        address = id(value)
        if address in self.copies:
            return self.copies[address]
        if kind is list:
            copied = self.copies[address] = []
            for item in <list>value:
                (<list>copied).append(self.copy(item))
        elif kind is dict:
            copied = self.copies[address] = {}
            for key, item in (<dict>value).items():
                (<dict>copied)[self.copy(key)] = self.copy(item)
        elif kind is set:
            copied = self.copies[address] = set()
            for item in <set>value:
                (<set>copied).add(self.copy(item))
        else:
            copied = kind([self.copy(item) for item in value])
            self.copies[address] = copied
        return copied


def replace_references(object value, type reference_type, list references):
    """A value in which each reference is a `Dependency`.

    Looks into lists, tuples, dicts and sets, at any depth, and into nothing else. What is shared stays shared.

    Parameters
    ----------
    value : object
        What to look into. It is not changed.
    reference_type : type or None
        Items of exactly this type are references.
    references : list
        Empty; it is filled with the references, in the order of their numbers.

    Returns
    -------
    object
        The value itself if there is no reference in it.

    Raises
    ------
    RecursionError
        If containers are nested too deep.
    """
    cdef _Walk walk = _Walk()
    if reference_type is None:
        return value
    walk.reference_type = reference_type
    if not walk.holds_reference(value, set(), 0):
        return value
    walk.references = references
    walk.stand_ins = {}
    walk.copies = {}
    return walk.copy(value)
