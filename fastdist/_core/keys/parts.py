"""Taking objects apart for hashing: functions, classes and everything that is no builtin container.

`parts_of` turns an object into a label and a tuple of simpler values; those of two objects are equal only
if the objects behave alike after pickling. The walk in `hash.pyx` does the rest. May import
`fastdist.errors`; dask's normalisers are used if the object's library is one that dask knows.
"""

from __future__ import annotations

import copyreg
import dataclasses
import dis
import functools
import importlib
import importlib.util
import sys
import types
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

from fastdist.errors import NondeterministicError

#: a label, the parts, and whether they are certain to come out the same the next time
Parts = tuple[str, tuple[Any, ...], bool]

#: libraries whose types dask normalises better than pickling them would
KNOWN_TO_DASK = frozenset({"pandas", "pyarrow", "numba"})

#: where the normalisers come from that dask brings along
DASK_MODULES = frozenset({"dask", "toolz", "cytoolz", "tlz", "builtins"})

#: modules whose objects pickle deterministically
CERTAIN_MODULES = frozenset(
    {"builtins", "collections", "datetime", "decimal", "enum", "fractions", "functools", "operator",
     "pathlib", "re", "types", "uuid", "zoneinfo"}
)  # fmt: skip

#: entries of a class that say nothing about what it does
CLASS_NOISE = frozenset(
    {"__dict__", "__weakref__", "__doc__", "_abc_impl", "__firstlineno__", "__static_attributes__",
     "__annotations__", "__annotate__", "__annotate_func__", "__annotations_cache__", "__classdictcell__"}
)  # fmt: skip

GLOBAL_OPERATIONS = frozenset(
    {"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS", "STORE_GLOBAL", "DELETE_GLOBAL"}
)
MAIN_MODULES = frozenset({"__main__", "__mp_main__"})
MAX_REMEMBERED_CODES = 1024

_global_names: dict[types.CodeType, tuple[str, ...]] = {}


def parts_of(value: Any) -> Parts:
    """The label and parts of an object that is no builtin container or number.

    Raises
    ------
    NondeterministicError
        If the object stands for nothing but itself, such as `object()`.
    Exception
        Whatever taking the object apart raises, such as the TypeError of a lock.
    """
    cls = type(value)
    handler = HANDLERS.get(cls)
    if handler is not None:
        return handler(value)
    if isinstance(value, type):
        return class_parts(value)
    if getattr(cls, "__dask_tokenize__", None) is not None:
        return "tokenized", (cls, value.__dask_tokenize__()), False
    normalizer = dask_normalizer(cls)
    if normalizer is not None:
        return "normalized", (cls, normalizer(value)), False
    if isinstance(value, (set, frozenset)):
        return "set", (cls, frozenset(value), getattr(value, "__dict__", None)), False
    if dataclasses.is_dataclass(cls) and has_default_pickling(cls):
        return dataclass_parts(value)
    return object_parts(value)


# Functions


def function_parts(func: types.FunctionType) -> Parts:
    """An importable function is its name; another one is its code and all that the code refers to."""
    name = importable_name(func)
    if name is not None:
        return "import", name, True
    code = func.__code__
    namespace = func.__globals__
    used = {name: namespace[name] for name in global_names(code) if name in namespace}
    cells = tuple(cell_parts(cell)[1] for cell in func.__closure__ or ())
    return "function", (code, func.__defaults__, func.__kwdefaults__, cells, used, vars(func)), True


def cell_parts(cell: types.CellType) -> Parts:
    """A closure cell is what it holds, or nothing yet."""
    try:
        return "cell", (cell.cell_contents,), True
    except ValueError:
        return "cell", (), True


def code_parts(code: types.CodeType) -> Parts:
    """Code is its instructions and constants, wherever it was written: file and line do not count."""
    return (
        "code",
        (
            code.co_code,
            code.co_consts,
            code.co_names,
            code.co_varnames,
            code.co_freevars,
            code.co_cellvars,
            code.co_argcount,
            code.co_posonlyargcount,
            code.co_kwonlyargcount,
            code.co_flags,
            code.co_name,
            getattr(code, "co_exceptiontable", b""),
        ),
        True,
    )


def global_names(code: types.CodeType) -> tuple[str, ...]:
    """The global names that the code and the functions inside it use."""
    known = _global_names.get(code)
    if known is not None:
        return known
    names = {
        instruction.argval: None
        for instruction in dis.get_instructions(code)
        if instruction.opname in GLOBAL_OPERATIONS
    }
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names.update(dict.fromkeys(global_names(constant)))
    if len(_global_names) >= MAX_REMEMBERED_CODES:
        _global_names.clear()
    _global_names[code] = tuple(names)
    return _global_names[code]


def importable_name(value: Any) -> tuple[str, str] | None:
    """Module and qualified name, if importing them gives this very object in any process."""
    module_name = getattr(value, "__module__", None)
    name = getattr(value, "__qualname__", None) or getattr(value, "__name__", None)
    if not isinstance(module_name, str) or not isinstance(name, str) or module_name in MAIN_MODULES:
        return None
    found = sys.modules.get(module_name)
    if found is None or is_pickled_by_value(module_name):
        return None
    for part in name.split("."):
        found = getattr(found, part, None)
    return (module_name, name) if found is value else None


def is_pickled_by_value(module_name: str) -> bool:
    """Whether the user told cloudpickle to send the code of this module along."""
    cloudpickle = sys.modules.get("cloudpickle")
    if cloudpickle is None or not hasattr(cloudpickle, "list_registry_pickle_by_value"):
        return False
    registered = cloudpickle.list_registry_pickle_by_value()
    return any(module_name == name or module_name.startswith(name + ".") for name in registered)


def builtin_function_parts(func: types.BuiltinFunctionType) -> Parts:
    """`len` is its name; `[].append` is a name and the list."""
    name = importable_name(func)
    if name is not None:
        return "import", name, True
    return object_parts(func)


def partial_parts(value: functools.partial[Any]) -> Parts:
    """A partial is its function, its arguments and its attributes."""
    return "partial", (value.func, value.args, dict(value.keywords), vars(value)), True


# Classes


def class_parts(cls: type) -> Parts:
    """An importable class is its name; another one is its bases and its namespace."""
    name = importable_name(cls)
    if name is not None:
        return "import", name, True
    if not cls.__flags__ & (1 << 9):
        # A class made in C that no module shows under its name, such as type(None).
        return "class", (cls.__module__, cls.__qualname__), True
    namespace = {key: value for key, value in vars(cls).items() if key not in CLASS_NOISE}
    return "class", (type(cls), cls.__qualname__, cls.__bases__, namespace), True


def dataclass_parts(value: Any) -> Parts:
    """A dataclass is its fields and further attributes, cached properties excepted."""
    cls = type(value)
    names = [field.name for field in dataclasses.fields(cls)]
    fields = {name: getattr(value, name) for name in names if hasattr(value, name)}
    others = {
        name: item
        for name, item in getattr(value, "__dict__", {}).items()
        if name not in fields and not isinstance(getattr(cls, name, None), functools.cached_property)
    }
    return "dataclass", (cls, fields, others), True


def has_default_pickling(cls: type) -> bool:
    """Whether pickling instances of the class is left to `object`."""
    own = {name for base in cls.__mro__ if base is not object for name in vars(base)}
    return not own & {"__reduce__", "__reduce_ex__"}


# Everything else


def object_parts(value: Any) -> Parts:
    """An object is what its reduction for pickle says, item order left out where it has no meaning."""
    cls = type(value)
    if cls is object:
        raise NondeterministicError("object() is equal to nothing but itself, so it has no deterministic key")
    reducer = copyreg.dispatch_table.get(cls)
    reduced = value.__reduce_ex__(4) if reducer is None else reducer(value)
    certain = cls.__module__ in CERTAIN_MODULES
    if isinstance(reduced, str):
        if importable_name(value) is None and hasattr(value, "__wrapped__"):
            return "wrapper", (cls, value.__wrapped__), certain
        return "global", (cls, getattr(value, "__module__", None), reduced), certain
    rest: tuple[Any, ...] = (*reduced[1:], None, None, None, None)
    args, state, items, pairs, setter = rest[:5]
    if pairs is not None:
        pairs = list(pairs) if isinstance(value, OrderedDict) else dict(pairs)
    if items is not None:
        items = list(items)
    return "object", (cls, reduced[0], args, state, items, pairs, setter), certain


def dask_normalizer(cls: type) -> Callable[[Any], Any] | None:
    """dask's normaliser registered for this type; None for those that would only repeat our own walk."""
    roots = {root_module(base) for base in cls.__mro__}
    known = bool(roots & KNOWN_TO_DASK)
    module = sys.modules.get("dask.tokenize")
    if module is None:
        if not known or importlib.util.find_spec("dask") is None:
            return None
        module = importlib.import_module("dask.tokenize")
    if not hasattr(module, "normalize_token"):
        return None
    normalizer: Callable[[Any], Any] = module.normalize_token.dispatch(cls)
    # What dask registers for types of other libraries depends on what of dask is loaded, and a key must not.
    if root_module(normalizer) in DASK_MODULES and not known and "dask" not in roots:
        return None
    return normalizer


def root_module(value: Any) -> str:
    """The top-level module in which a class or function was made."""
    return str(getattr(value, "__module__", None)).partition(".")[0]


def memoryview_parts(value: memoryview) -> Parts:
    """A view is its form and its bytes."""
    return "memoryview", (value.format, value.shape, value.tobytes()), True


def cached_property_parts(value: functools.cached_property[Any]) -> Parts:
    """The function and the name; some Python versions keep a lock beside them."""
    return "cached_property", (value.func, value.attrname), True


def mapping_proxy_parts(value: Mapping[Any, Any]) -> Parts:
    """A read-only view of a mapping is the mapping."""
    return "mappingproxy", (dict(value),), True


HANDLERS: dict[type, Callable[[Any], Parts]] = {
    types.FunctionType: function_parts,
    types.BuiltinFunctionType: builtin_function_parts,
    types.CodeType: code_parts,
    types.CellType: cell_parts,
    types.MethodType: lambda method: ("method", (method.__func__, method.__self__), True),
    types.ModuleType: lambda module: ("module", (module.__name__,), True),
    types.MappingProxyType: mapping_proxy_parts,
    functools.partial: partial_parts,
    functools.cached_property: cached_property_parts,
    staticmethod: lambda value: ("staticmethod", (value.__func__,), True),
    classmethod: lambda value: ("classmethod", (value.__func__,), True),
    property: lambda value: ("property", (value.fget, value.fset, value.fdel), True),
    memoryview: memoryview_parts,
}
