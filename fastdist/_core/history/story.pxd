# The last transitions of all tasks, always on: a ring that costs one write per transition.
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libcpp.vector cimport vector


# 32 bytes.
cdef struct Moment:
    uint64_t task              # what names the task: its id, or the place of its record
    uint64_t key_hash          # of a task that is forgotten, else 0
    uint32_t generation        # of the record
    uint32_t batch             # of events
    uint32_t worker            # where it is or was; the slot of a task that is forgotten
    uint8_t start
    uint8_t finish


cdef class Story:
    cdef vector[Moment] ring
    cdef vector[double] times          # of batches, by the low bits of their number
    cdef readonly uint64_t n_moments   # written in all
    cdef readonly uint32_t batch       # the current one
    cdef uint64_t mask
    cdef uint32_t time_mask

    cdef inline void note(self, uint64_t task, uint64_t key_hash, uint32_t generation, uint32_t worker, uint8_t start,
                          uint8_t finish) noexcept nogil:
        cdef Moment* moment = &self.ring[self.n_moments & self.mask]
        self.n_moments += 1
        moment.task = task
        moment.key_hash = key_hash
        moment.generation = generation
        moment.batch = self.batch
        moment.worker = worker
        moment.start = start
        moment.finish = finish

    cdef inline void begin_batch(self, double now) noexcept nogil:
        self.batch += 1
        self.times[self.batch & self.time_mask] = now

    cdef inline void end_batch(self, double now) noexcept nogil:
        self.times[self.batch & self.time_mask] = now
        self.begin_batch(0.0)

    cdef double time_of(self, uint32_t batch) noexcept nogil
