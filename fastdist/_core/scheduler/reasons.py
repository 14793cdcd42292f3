"""Payloads for endings that no user code caused: why a task was lost, cancelled or given up.

Every removal has a reason: a value of `Reason`, a sentence, and the fields that the exception at the user needs. They
travel as one encoded dict and become an exception of `fastdist.errors` in the client.
May import: _core/codec, errors.
"""

from __future__ import annotations

from fastdist._core.codec.values import encode_value
from fastdist.errors import Reason

__all__ = ["Reason", "reason_payload"]


def reason_payload(reason: Reason, message: str, **fields: object) -> bytes:
    """The bytes that carry a reason to the clients.

    Parameters
    ----------
    reason : Reason
        Why the task ended.
    message : str
        One sentence for the user: what happened and what to do.
    fields : object
        Plain values that the exception shows, such as `key` or `worker`.

    Returns
    -------
    bytes
        An encoded dict with `reason`, `message` and the fields.
    """
    payload = encode_value({"reason": reason.value, "message": message, **fields})
    if payload is None:
        raise TypeError(f"the fields of a reason must be plain values: {fields!r}")
    return payload
