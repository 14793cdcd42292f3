"""The executing tasks that hold no slot, and whose turn it is when they want one again.

A task that waits gives its slot back. At first only tasks that go before it may use the slot: what it started itself
is newer and does, so a task that waits for its children runs them depth first and needs few threads. A task that has
waited for a while lets any task have the slot. May import: the model.
"""

cimport cython
from libc.math cimport INFINITY

from fastdist._core.worker.model cimport goes_before


@cython.final
cdef class AwayTasks:
    """The tasks of one worker that execute without a slot."""

    def __cinit__(self):
        self.n_away = 0
        self.floor = NULL

    cdef void leave(self, TaskRecord* record, bint seceded, double now) noexcept nogil:
        """The task gives its slot back, or says that it will not want back the one that it gave."""
        cdef Waiting entry
        if record.away == HERE:
            self.n_away += 1
        elif record.away == WAITS:
            self._forget_waiting(record)
        if seceded:
            record.away = SECEDED
            return
        record.away = WAITS
        entry.record = record
        entry.since = now
        self.waiting.push_back(entry)
        self._find_floor()

    cdef void come_back(self, TaskRecord* record) noexcept nogil:
        """The task has a slot again, or has ended."""
        cdef size_t i
        if record.away == HERE:
            return
        if record.away == WAITS:
            self._forget_waiting(record)
        record.away = HERE
        self.n_away -= 1
        for i in range(self.returning.size()):
            if self.returning[i] == record:
                self.returning.erase(self.returning.begin() + i)
                return

    cdef void _forget_waiting(self, TaskRecord* record) noexcept nogil:
        cdef size_t i
        for i in range(self.waiting.size()):
            if self.waiting[i].record == record:
                self.waiting.erase(self.waiting.begin() + i)
                break
        self._find_floor()

    cdef bint relax(self, double since) noexcept nogil:
        """Any task may use the slots of those that wait since then or longer. False if there are none."""
        cdef size_t i, kept = 0
        for i in range(self.waiting.size()):
            if self.waiting[i].since <= since:
                self.waiting[i].record.away = WAITS_LONG
            else:
                self.waiting[kept] = self.waiting[i]
                kept += 1
        if kept == self.waiting.size():
            return False
        self.waiting.resize(kept)
        self._find_floor()
        return True

    cdef double oldest(self) noexcept nogil:
        """Since when the first of those that `relax` may apply to waits; infinity if there are none."""
        return INFINITY if self.waiting.empty() else self.waiting[0].since

    cdef bint is_next(self, TaskRecord* record) noexcept nogil:
        """Whether none of those that want a slot goes before this one."""
        cdef TaskRecord* other
        for other in self.returning:
            if other != record and goes_before(other, record):
                return False
        return True

    cdef void _find_floor(self) noexcept nogil:
        cdef size_t i
        self.floor = NULL
        for i in range(self.waiting.size()):
            if self.floor == NULL or goes_before(self.waiting[i].record, self.floor):
                self.floor = self.waiting[i].record
