"""Asks the retry policy of a task what to do about its failure. May import: `retries`, `protocol`."""

from __future__ import annotations

import functools
import pickle

import msgpack

from fastdist.retries import FINAL, Retry


@functools.lru_cache(maxsize=256)
def policy_of(packed: bytes) -> Retry | None:
    """The policy in the options of a task, if there is one."""
    policy = msgpack.unpackb(packed).get("retry")
    return None if policy is None else pickle.loads(policy)


def verdict_on(packed: bytes | None, error: BaseException, failures: int) -> tuple[int, BaseException]:
    """What the options of a task say about a failure, and what it failed with.

    Parameters
    ----------
    packed : bytes or None
        The options, if there are any.
    error : BaseException
        What the task raised.
    failures : int
        How often it has failed, with this time.

    Returns
    -------
    int
        For the report; 0 if there is no policy.
    BaseException
        The error; if the policy itself raised, that error, with this one as its cause.
    """
    if packed is None:
        return 0, error
    try:
        policy = policy_of(packed)
        return (0 if policy is None else policy.verdict(error, failures)), error
    except Exception as failure:
        failure.__cause__ = error
        return FINAL, failure
