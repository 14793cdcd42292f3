"""The parameters of dask's Nanny that ours takes in another form, or not yet.

May import: `comm`, `config`, `security`, `worker.options`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from fastdist.config import parse_timedelta
from fastdist.security import check_security
from fastdist.worker.options import scheduler_address

#: Parameters that are not built yet, with the values that ask for nothing.
NOT_BUILT: dict[str, tuple[Any, ...]] = {
    "services": (None, {}),
    "reconnect": (True, None),
    "validate": (False, None),
    "listen_address": (None,),
}


def take_options(
    address: str | None,
    port: int | None,
    scheduler_file: str | os.PathLike[str] | None,
    options: Mapping[str, Any],
    death_timeout: float | str | None = None,
) -> tuple[str | None, dict[str, Any]]:
    """The address of the scheduler, None if it is not known yet, and the options of the worker.

    Raises
    ------
    NotImplementedError
        If an option asks for what is not built yet.
    """
    left = dict(options)
    check_security(left.pop("security", None), "Nanny")
    # It says nothing that could be left out.
    left.pop("quiet", None)
    for name, harmless in NOT_BUILT.items():
        value = left.pop(name, harmless[0])
        if not any(value is nothing or value == nothing for nothing in harmless):
            raise NotImplementedError(f"Nanny({name}={value!r}) is not built yet")
    worker_port = left.pop("worker_port", None)
    if worker_port:
        left.setdefault("port", worker_port)
    if address is None and scheduler_file is None:
        return None, left
    patience = None if death_timeout is None else parse_timedelta(death_timeout)
    return scheduler_address(address, port, scheduler_file, patience), left
