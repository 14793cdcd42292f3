"""Every exception that fastdist raises on its own account.

May import: nothing of fastdist.
"""

from __future__ import annotations


class FastdistError(Exception):
    """Base of the errors that belong to fastdist alone."""


class FrameError(FastdistError, ValueError):
    """A message does not have the form that docs/wire.md demands; its connection is closed."""
