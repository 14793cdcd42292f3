"""Which worker has least to do.

The heap holds the running workers: those with a free thread first, then by booked seconds per thread. Each place has
its rank beside the worker's number, and four children, which share a cache line. May import: the records of workers.
"""

cimport cython
from libc.stdint cimport int32_t, uint32_t

from fastdist._core.scheduler.parties cimport WorkerRecord, n_pressing

cdef enum:
    CHILDREN = 4


cdef inline bint is_lighter(const Place& a, const Place& b) noexcept nogil:
    return a.rank < b.rank or (a.rank == b.rank and a.worker < b.worker)


@cython.final
cdef class LoadHeap:
    """The running workers by load, and the load of each worker."""

    cdef int update(self, WorkerRecord worker) except -1:
        cdef uint32_t number = worker.number
        cdef int32_t position
        cdef Place place
        while self.positions.size() <= number:
            self.positions.push_back(-1)
            self.seconds.push_back(0.0)
            self.ranks.push_back(0.0)
        self.seconds[number] = worker.occupancy * 1e-9 / worker.nthreads
        self.ranks[number] = self.seconds[number]
        if n_pressing(worker) < worker.nthreads:
            self.ranks[number] = <double>n_pressing(worker) / worker.nthreads - 1.0
        position = self.positions[number]
        if not worker.running:
            if position >= 0:
                self._remove(number)
            return 0
        place.worker = number
        place.rank = self.ranks[number]
        if position < 0:
            position = <int32_t>self.heap.size()
            self.heap.push_back(place)
        self._settle(position, place)
        return 0

    cdef void _remove(self, uint32_t number) noexcept nogil:
        cdef uint32_t position = <uint32_t>self.positions[number]
        cdef Place last = self.heap.back()
        self.heap.pop_back()
        self.positions[number] = -1
        if position < self.heap.size():
            self._settle(position, last)

    cdef void _settle(self, uint32_t position, Place moved) noexcept nogil:
        """Put a place where it belongs, beginning with a position that is free."""
        cdef uint32_t size = <uint32_t>self.heap.size()
        cdef uint32_t parent, child, best, end
        while position:
            parent = (position - 1) // CHILDREN
            if not is_lighter(moved, self.heap[parent]):
                break
            self._put(position, self.heap[parent])
            position = parent
        while True:
            best = CHILDREN * position + 1
            if best >= size:
                break
            end = min(best + CHILDREN, size)
            for child in range(best + 1, end):
                if is_lighter(self.heap[child], self.heap[best]):
                    best = child
            if not is_lighter(self.heap[best], moved):
                break
            self._put(position, self.heap[best])
            position = best
        self._put(position, moved)

    cdef void _put(self, uint32_t position, Place place) noexcept nogil:
        self.heap[position] = place
        self.positions[place.worker] = position
