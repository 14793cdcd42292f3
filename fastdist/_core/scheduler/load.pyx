"""Which worker has least to do.

The heap holds the running workers: those with a free thread first, then by booked seconds per thread. May import: the
records of workers.
"""

cimport cython
from libc.stdint cimport int32_t, uint32_t

from fastdist._core.scheduler.parties cimport WorkerRecord, n_pressing


@cython.final
cdef class LoadHeap:
    """The running workers by load, and the load of each worker."""

    cdef int update(self, WorkerRecord worker) except -1:
        cdef uint32_t number = worker.number
        cdef int32_t position
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
        if position < 0:
            position = <int32_t>self.heap.size()
            self.heap.push_back(number)
            self.positions[number] = position
        self._sift(position)
        return 0

    cdef void _remove(self, uint32_t number) noexcept nogil:
        cdef int32_t position = self.positions[number]
        cdef uint32_t last = <uint32_t>self.heap.size() - 1
        if position < 0:
            return
        if <uint32_t>position != last:
            self._swap(position, last)
        self.heap.pop_back()
        self.positions[number] = -1
        if <uint32_t>position < self.heap.size():
            self._sift(position)

    cdef void _swap(self, uint32_t first, uint32_t second) noexcept nogil:
        cdef uint32_t a = self.heap[first], b = self.heap[second]
        self.heap[first] = b
        self.heap[second] = a
        self.positions[a] = second
        self.positions[b] = first

    cdef bint _lighter(self, uint32_t first, uint32_t second) noexcept nogil:
        cdef uint32_t a = self.heap[first], b = self.heap[second]
        return self.ranks[a] < self.ranks[b] or (self.ranks[a] == self.ranks[b] and a < b)

    cdef void _sift(self, uint32_t position) noexcept nogil:
        cdef uint32_t size = <uint32_t>self.heap.size()
        cdef uint32_t child
        while position and self._lighter(position, (position - 1) >> 1):
            self._swap(position, (position - 1) >> 1)
            position = (position - 1) >> 1
        while True:
            child = 2 * position + 1
            if child >= size:
                return
            if child + 1 < size and self._lighter(child + 1, child):
                child += 1
            if not self._lighter(child, position):
                return
            self._swap(position, child)
            position = child
