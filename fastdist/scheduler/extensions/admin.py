"""Administrative code: the only operations for which the scheduler unpickles what others sent.

They are listed in `ADMIN_OPERATIONS`, go through `Admin.load`, and need a connection with the admin right. The user's
own token gives that right; `admin_code=False` (`--no-admin-code`) takes it from everybody. May import: `_core`,
`protocol`, `rpc`, `scheduler.membership`.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from typing import Any

from fastdist._core.codec.values import decode_call
from fastdist.comm.handshake import Role
from fastdist.errors import MessageError
from fastdist.protocol import results
from fastdist.protocol.failures import dump_failure
from fastdist.protocol.functions import load_function
from fastdist.rpc.fields import flag
from fastdist.rpc.peer import Handler, Peer
from fastdist.scheduler.extensions.extension import Extension

logger = logging.getLogger("fastdist.scheduler")

#: Every operation that brings code for the scheduler itself, and what the code is.
ADMIN_OPERATIONS: dict[str, str] = {
    "run-on-scheduler": "the function of Client.run_on_scheduler, and its arguments",
    "register-scheduler-plugin": "a SchedulerPlugin",
    "unregister-scheduler-plugin": "nothing, but it stops code of an administrator",
    "retire-workers": "a callable given as key=",
    "workers-to-close": "a callable given as key=",
}

#: The roles whose connections have the admin right. Workers and nannies hold the same token, but not this role.
ADMIN_ROLES = (Role.CLIENT, Role.ADMIN)

Answer = tuple[dict[str, Any], list[Any]]


class Admin(Extension):
    """Who may bring code for the scheduler, and the place where it is decoded."""

    name = "admin"

    def client_handlers(self) -> dict[str, Handler]:
        return {"run-on-scheduler": self.run}

    def check(self, peer: Peer, op: str) -> None:
        """Raise unless this connection may bring code for this operation.

        Raises
        ------
        PermissionError
            Saying why not, and what to do.
        """
        if op not in ADMIN_OPERATIONS:
            raise PermissionError(f"{op!r} is no operation that may bring code for the scheduler")
        if not self.scheduler.admin_code:
            raise PermissionError(
                f"{op!r} brings code for the scheduler, which was started with --no-admin-code; "
                "run the function on a worker (Client.run, Client.submit) instead"
            )
        if peer.comm.role not in ADMIN_ROLES:
            raise PermissionError(
                f"{op!r} brings code for the scheduler; only a client may, and {peer.name} is a {peer.comm.role.name}"
            )

    def load(self, peer: Peer, op: str, pickled: Any) -> Any:
        """The object of a pickle that came with an operation.

        Parameters
        ----------
        peer : Peer
            The connection over which it came.
        op : str
            The operation, one of `ADMIN_OPERATIONS`.
        pickled : bytes-like
            What `protocol.pickling.dumps` made.

        Raises
        ------
        PermissionError
            If this connection may not do that.
        """
        self.check(peer, op)
        logger.info("%s: decoding what %s sent", op, peer.name)
        return load_function(bytes(pickled)) if op == "run-on-scheduler" else _load(bytes(pickled))

    async def run(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> Answer:
        """Call a function in this process: on the event loop, so that it sees a state in which nothing is half done.

        Its parameter `dask_scheduler` gets the scheduler. The status of the answer is "OK" with the result or "error"
        with the failure; with `wait` false it is "OK", and a failure is logged.
        """
        self.check(peer, "run-on-scheduler")
        if not 1 <= len(buffers) <= 2:
            raise MessageError(f"run-on-scheduler needs a function and its arguments, not {len(buffers)} payloads")
        call = self._call(peer, buffers)
        if flag(fields, "wait", default=True):
            return await call
        self.scheduler.in_background(_logged(call))
        return {"status": "OK"}, []

    async def _call(self, peer: Peer, buffers: list[Any]) -> Answer:
        try:
            function = self.load(peer, "run-on-scheduler", buffers[0])
            args, kwargs = decode_call(buffers[1], []) if len(buffers) == 2 else ((), None)
            kwargs = kwargs or {}
            if "dask_scheduler" not in kwargs and takes(function, "dask_scheduler"):
                kwargs["dask_scheduler"] = self.scheduler
            result = function(*args, **kwargs)
            if inspect.isawaitable(result):
                result = await result
            return {"status": "OK"}, [b"".join(results.dumps(result))]
        except Exception as error:
            return {"status": "error"}, [dump_failure(error)]


async def _logged(call: Any) -> None:
    answer, payloads = await call
    if answer["status"] == "error":
        logger.error("a function of run_on_scheduler(wait=False) failed: %s", _text_of(payloads[0]))


def _text_of(failure: bytes) -> str:
    from fastdist.protocol.failures import load_failure

    error = load_failure(failure)
    return f"{type(error).__name__}: {error}"


def _load(pickled: bytes) -> Any:
    import pickle

    return pickle.loads(pickled)


def takes(function: Callable[..., Any], parameter: str) -> bool:
    """Whether a function has a parameter of this name."""
    try:
        return parameter in inspect.signature(function).parameters
    except (TypeError, ValueError):  # a builtin without a signature
        return False
