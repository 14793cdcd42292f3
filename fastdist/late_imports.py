"""Calls functions once a module has been imported, by whomever: dask is never imported just to be told something.

May import: the standard library.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec


def after_import(name: str, function: Callable[[ModuleType], None]) -> None:
    """Have a function called with a module: now if it has been imported, else as soon as its import is done.

    Parameters
    ----------
    name : str
        The full name of the module.
    function : callable
        Called once at most, with the module.

    Examples
    --------
    >>> after_import("sys", lambda module: print(module.__name__))
    sys
    """
    module = sys.modules.get(name)
    # What is still being imported calls the function at its end.
    if module is not None and not getattr(module.__spec__, "_initializing", False):
        function(module)
        return
    functions = _watcher.waiting.setdefault(name, [])
    if function not in functions:
        functions.append(function)
    if _watcher not in sys.meta_path:
        sys.meta_path.insert(0, _watcher)


class _Watcher:
    """A finder of modules that finds nothing by itself, but sees what others find."""

    def __init__(self) -> None:
        self.waiting: dict[str, list[Callable[[ModuleType], None]]] = {}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec that the other finders give, with a loader that calls the functions when it is done."""
        if fullname not in self.waiting:
            return None
        for finder in sys.meta_path:
            find: Any = None if finder is self else getattr(finder, "find_spec", None)
            spec: ModuleSpec | None = find(fullname, path, target) if find is not None else None
            if spec is not None:
                if spec.loader is not None:
                    loader: Any = _NotifyingLoader(spec.loader, self, fullname)
                    spec.loader = loader
                return spec
        return None

    def imported(self, module: ModuleType, name: str) -> None:
        """Call whoever waits for a module, also those who begin to wait meanwhile."""
        while functions := self.waiting.pop(name, None):
            for function in functions:
                function(module)


class _NotifyingLoader:
    """Loads as another loader does, and then says so."""

    def __init__(self, loader: Any, watcher: _Watcher, name: str):
        self._loader = loader
        self._watcher = watcher
        self._name = name

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """As the other loader."""
        module: ModuleType | None = self._loader.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        """As the other loader, which from now on is the only one that anybody sees."""
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        module.__loader__ = self._loader
        self._loader.exec_module(module)
        self._watcher.imported(module, self._name)


_watcher: Any = _Watcher()
