"""Tasks that raised and are tried again after a while, or on another worker.

Their policies are evaluated by the workers; here are only times and worker numbers. A task that waits is in the state
NO_WORKER, so it takes no slot and everything that ends a wait for a worker ends this wait, too.

May import: the records.
"""

cimport cython
from libc.stdint cimport uint32_t, uint64_t
from libcpp.pair cimport pair

from fastdist._core.scheduler.records cimport NONE


@cython.final
cdef class RetryNotes:
    """A note for each task that waits to be tried again, or shall go to another worker."""

    cdef int add(self, uint64_t id, double seconds, uint32_t avoid) except -1:
        """The task waits for so long (not at all if it is 0) and goes to another worker than `avoid`."""
        cdef RetryNote note
        cdef pair[double, uint64_t] entry
        note.due = self.now + seconds if seconds > 0 else -1.0
        note.avoid = avoid
        self.notes[id] = note
        if seconds > 0:
            entry.first = -note.due
            entry.second = id
            self.waiting.push(entry)
        return 0

    cdef int hold(self, uint64_t id, double until) except -1:
        """The task waits until then, for another reason than its own failure."""
        cdef RetryNote note
        cdef pair[double, uint64_t] entry
        note.due = until
        note.avoid = self.avoided(id)
        self.notes[id] = note
        entry.first = -until
        entry.second = id
        self.waiting.push(entry)
        return 0

    cdef void end_wait(self, uint64_t id) noexcept:
        """The task waits no longer."""
        if self.notes[id].avoid == NONE:
            self.notes.erase(id)
        else:
            self.notes[id].due = -1.0

    cdef void forget(self, uint64_t id) noexcept:
        """The task is gone."""
        self.notes.erase(id)

    cdef bint waits(self, uint64_t id) noexcept:
        """Whether the task waits to be tried again."""
        return self.due(id) >= 0

    cdef double due(self, uint64_t id) noexcept:
        """Until when the task waits; < 0 if it does not."""
        if self.notes.empty() or not self.notes.count(id):
            return -1.0
        return self.notes[id].due

    cdef uint32_t avoided(self, uint64_t id) noexcept:
        """The worker that the task shall not go to, or NONE."""
        if self.notes.empty() or not self.notes.count(id):
            return NONE
        return self.notes[id].avoid

    cdef uint64_t take_due(self, double now) noexcept:
        """The id of a task whose wait is over, or 0; it does not wait any more."""
        cdef pair[double, uint64_t] entry
        while not self.waiting.empty() and -self.waiting.top().first <= now:
            entry = self.waiting.top()
            self.waiting.pop()
            if self.due(entry.second) == -entry.first:
                self.notes[entry.second].due = -1.0
                if self.notes[entry.second].avoid == NONE:
                    self.notes.erase(entry.second)
                return entry.second
        return 0

    cdef double next_due(self) noexcept:
        """When the next wait is over; < 0 if nothing waits."""
        while not self.waiting.empty() and self.due(self.waiting.top().second) != -self.waiting.top().first:
            self.waiting.pop()
        return -1.0 if self.waiting.empty() else -self.waiting.top().first
