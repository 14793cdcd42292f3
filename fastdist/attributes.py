"""Attributes that a server finds in a module above its layer, by name, when they are asked for.

May import: nothing of fastdist.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar


class BorrowedAttributes:
    """A server whose further attributes, those of dask's server, are made on demand by another module.

    Subclasses name it: `ATTRIBUTES_FROM` is "module:function", and the function is called with the server and the name.
    """

    ATTRIBUTES_FROM: ClassVar[str]
    #: Attributes of its own that a server gets later; until then it has none of that name.
    MADE_LATER: ClassVar[tuple[str, ...]] = ()

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """What is not there may be one of the attributes of dask's server."""
            if name.startswith("_") or name in self.MADE_LATER:
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            module, _, function = self.ATTRIBUTES_FROM.partition(":")
            return getattr(import_module(module), function)(self, name)
