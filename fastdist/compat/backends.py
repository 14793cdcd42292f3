"""Where libraries register ways to connect of their own; only `tcp://` and `inproc://` are used. Imports nothing.

May import: nothing of fastdist.
"""

from __future__ import annotations

from typing import Any, NoReturn


class Backend:
    """The base of ways to connect that libraries bring along; none of its methods are called."""

    def get_connector(self) -> Any:
        """What opens connections."""
        raise NotImplementedError(f"{type(self).__name__}.get_connector")

    def get_listener(self, loc: str, handle_comm: Any, deserialize: bool, **connection_args: Any) -> Any:
        """What waits for connections."""
        raise NotImplementedError(f"{type(self).__name__}.get_listener")


#: Scheme of addresses to what a library registered for it. An address with such a scheme is refused.
backends: dict[str, Any] = {}


def get_backend(scheme: str) -> NoReturn:
    """What connects to addresses of a scheme: not available, as connections are made in another way here.

    Raises
    ------
    NotImplementedError
        Always.
    """
    raise NotImplementedError(f"get_backend({scheme!r}): connections of other libraries are not available yet")
