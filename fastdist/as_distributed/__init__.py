"""Importing this makes `import distributed` mean fastdist, for libraries that import dask.distributed themselves.

Every module of fastdist, and every alias in `aliases.ALIASES`, is then found below `distributed`, too: the same
module object, so that classes are the same. Only `distributed` itself is a module of its own: it has the names of
fastdist, and the version of dask.distributed that these follow, as libraries compare it. Child processes inherit all
this through the environment; jobs of dask-jobqueue start their workers by `python -m fastdist.as_distributed`. May
import: `late_imports`; what it stands for is loaded when it is imported.

Examples
--------
In a program, before anything else imports `distributed`:

>>> import fastdist.as_distributed
>>> from dask.distributed import Client
>>> Client.__module__.partition(".")[0]
'fastdist'

For a program that stays as it is: `python -m fastdist.as_distributed script.py` (or `-m module`). For every process
that imports fastdist, and for its daemons: `FASTDIST_AS_DISTRIBUTED=1`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import CodeType, ModuleType
from typing import Any

from fastdist.late_imports import after_import

#: Set for child processes; `fastdist` itself reads it when it is imported.
VARIABLE = "FASTDIST_AS_DISTRIBUTED"

#: `distributed.__version__`, which libraries take for that of dask.distributed.
STANDS_IN_FOR = "2026.8.0"

_OWN = "fastdist"
_NAME = "distributed"


class StandIn(ModuleType):
    """The module `distributed`: all names are those of fastdist, and all modules are there without being imported."""

    def __getattr__(self, name: str) -> Any:
        try:
            return getattr(sys.modules[_OWN], name)
        except AttributeError:
            if name.startswith("__") or _find(f"{_OWN}.{name}") is None:
                raise
        return import_module(f"{_NAME}.{name}")

    def __setattr__(self, name: str, value: object) -> None:
        # As in fastdist, a function that has the name of a module goes before it.
        if isinstance(value, ModuleType) and callable(found := getattr(sys.modules[_OWN], name, None)):
            value = found
        super().__setattr__(name, value)

    def __reduce__(self) -> tuple[Any, ...]:
        # Pickled functions name the modules that they use; cloudpickle knows plain ones only.
        return import_module, (_NAME,)

    def __dir__(self) -> list[str]:
        return dir(sys.modules[_OWN])


class DistributedFinder:
    """Finds the modules of fastdist below the name `distributed`, and loads them: they are the very same modules."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec for `distributed` and modules below it; None for all others.

        Raises
        ------
        ModuleNotFoundError
            If fastdist has no such module. Other finders are not asked: they could only find that of dask.distributed.
        """
        top, dot, rest = fullname.partition(".")
        if top != _NAME:
            return None
        own = _find(_OWN + dot + rest)
        if own is None:
            raise ModuleNotFoundError(
                f"No module named {fullname!r}: fastdist stands in for dask.distributed here "
                f"(fastdist.as_distributed) and has no {rest!r}",
                name=fullname,
            )
        is_package = own.submodule_search_locations is not None
        return ModuleSpec(fullname, self, origin=own.origin or fullname, is_package=is_package)  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """A module for the moment, so that the attributes of fastdist's stay its own; of `distributed` a stand-in."""
        return StandIn(_NAME, sys.modules[_OWN].__doc__) if spec.name == _NAME else None

    def exec_module(self, module: ModuleType) -> None:
        """Put the module of fastdist in place."""
        if isinstance(module, StandIn):
            module.__version__ = STANDS_IN_FOR
        else:
            sys.modules[module.__name__] = import_module(_OWN + module.__name__.removeprefix(_NAME))

    def get_code(self, fullname: str) -> CodeType | None:
        """What `python -m` runs; a command's alias (`distributed.cli.dask_worker`) runs that command."""
        name = _OWN + fullname.removeprefix(_NAME)
        own = _find(name)
        get_code = getattr(own.loader, "get_code", None) if own is not None else None
        if get_code is not None:
            code: CodeType | None = get_code(name)
            return code
        return compile(f"import sys\nfrom {name} import main\nsys.exit(main())\n", f"<{fullname}>", "exec")


def _find(name: str) -> ModuleSpec | None:
    from importlib.util import find_spec

    try:
        return find_spec(name)
    except ModuleNotFoundError as error:
        # A parent is missing, or has nothing below it.
        if error.name is not None and error.name.partition(".")[0] == _OWN:
            return None
        raise


def _install() -> None:
    imported = sys.modules.get(_NAME)
    if imported is not None and not isinstance(imported, StandIn):
        raise ImportError(
            f"fastdist cannot stand in for dask.distributed: {_NAME!r} has already been imported from "
            f"{getattr(imported, '__file__', None) or 'elsewhere'}. Import fastdist.as_distributed before anything "
            f"that imports {_NAME!r}, or run the program by `python -m fastdist.as_distributed script.py`.",
            name=_NAME,
        )
    if not any(isinstance(finder, DistributedFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, DistributedFinder())
    # dask remembers that there was none.
    base = sys.modules.get("dask.base")
    if base is not None:
        vars(base)["_DISTRIBUTED_AVAILABLE"] = None
    os.environ[VARIABLE] = "1"
    after_import("dask_jobqueue", _choose_python)


def _choose_python(module: ModuleType) -> None:
    """Have the scripts of dask-jobqueue run `distributed.cli.dask_worker` where it is found; who chose, stays."""
    from dask import config

    for system, settings in config.get("jobqueue", {}).items():
        if isinstance(settings, dict) and settings.get("python", "") is None:
            config.set({f"jobqueue.{system}.python": f"{sys.executable} -m {__name__}"})


_install()
