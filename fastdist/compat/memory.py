"""Where the memory of a worker goes. May import: nothing of fastdist."""

from __future__ import annotations

from typing import Any


class MemoryState:
    """Bytes that a worker, or all of them, use.

    Parameters
    ----------
    process : int
        What the operating system counts.
    managed : int
        Results in memory, as they were measured.
    spilled : int
        Results on disk.
    unmanaged_old : int
        The part that no result explains and that is there for a while.

    Examples
    --------
    >>> MemoryState(process=100, managed=60, spilled=5, unmanaged_old=10).unmanaged_recent
    30
    """

    __slots__ = ("managed", "process", "spilled", "unmanaged_old")

    def __init__(self, *, process: int, unmanaged_old: int, managed: int, spilled: int) -> None:
        self.process = process
        self.managed = min(managed, process)
        self.spilled = spilled
        self.unmanaged_old = min(unmanaged_old, process - self.managed)

    @staticmethod
    def sum(*infos: MemoryState) -> MemoryState:
        """All of them together."""
        return MemoryState(
            process=sum(each.process for each in infos),
            unmanaged_old=sum(each.unmanaged_old for each in infos),
            managed=sum(each.managed for each in infos),
            spilled=sum(each.spilled for each in infos),
        )

    @property
    def managed_total(self) -> int:
        """Results in memory and on disk."""
        return self.managed + self.spilled

    @property
    def unmanaged(self) -> int:
        """What no result explains."""
        return self.process - self.managed

    @property
    def unmanaged_recent(self) -> int:
        """What no result explains, and may be gone soon."""
        return self.unmanaged - self.unmanaged_old

    @property
    def optimistic(self) -> int:
        """What is likely to stay."""
        return self.managed + self.unmanaged_old

    def __repr__(self) -> str:
        return (
            f"Process memory (RSS)  : {self.process:,} B\n"
            f"  - managed by fastdist: {self.managed:,} B\n"
            f"  - unmanaged (old)   : {self.unmanaged_old:,} B\n"
            f"  - unmanaged (recent): {self.unmanaged_recent:,} B\n"
            f"Spilled to disk       : {self.spilled:,} B\n"
        )

    def _to_dict(self, exclude: Any = ()) -> dict[str, int]:
        """In plain values."""
        return {name: getattr(self, name) for name in self.__slots__ if name not in exclude}
