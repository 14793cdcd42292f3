"""Operations that a server refuses, whoever asks for them. May import: `rpc.peer`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from fastdist.rpc.peer import Handler


def blocked(table: Mapping[str, Handler], names: Iterable[str], server: str) -> dict[str, Handler]:
    """The operations, with those of some names refused.

    Parameters
    ----------
    table : mapping
        Names and handlers.
    names : iterable of str
        What to refuse; dashes and underscores are the same.
    server : str
        What kind of server it is, for the error that who asks gets.

    Raises
    ------
    ValueError
        If there is no such operation: a name that blocks nothing must not pass for one that does.
    """
    result = dict(table)
    for given in names:
        name = given if given in table else given.replace("_", "-")
        if name not in table:
            raise ValueError(f"{given!r} cannot be blocked: the {server} has no such operation; it has {sorted(table)}")
        result[name] = _refusal(name, server)
    return result


def _refusal(name: str, server: str) -> Handler:
    def refuse(peer: object, fields: object, buffers: object) -> None:
        raise ValueError(f"the {name!r} handler is disallowed in this {server} by its setting blocked-handlers")

    return refuse
