"""Tasks that may start, in the order in which they should.

A C++ heap by (user priority, submission and graph order, arrival). Tasks that need resources wait in a heap of their
own for each distinct set of needs, so that a task whose resources are taken costs nothing until they return. A task
that is withdrawn leaves its entry behind; such entries are recognised by their arrival number and swept when they are
many.
May import: the model.
"""

cimport cython
from libc.stdint cimport int64_t, uint32_t
from libcpp.algorithm cimport make_heap, pop_heap, push_heap

from fastdist._core.worker.model cimport READY, goes_before


cdef bint starts_later(const Entry& left, const Entry& right) noexcept nogil:
    if left.priority != right.priority:
        return left.priority > right.priority
    if left.order != right.order:
        return left.order > right.order
    return left.arrival > right.arrival


cdef inline bint is_stale(const Entry& entry) noexcept nogil:
    return entry.record.arrival != entry.arrival or entry.record.state != READY


@cython.final
cdef class ReadyQueue:
    """The ready tasks of one worker core."""

    def __cinit__(self):
        self.heaps.resize(1)
        self.needs.resize(1)
        self.arrivals = 0
        self.live = 0
        self.stale = 0

    cdef uint32_t heap_number(self, uint32_t option_id) noexcept nogil:
        """The heap of the tasks that come with this option now."""
        if option_id == 0 or self.heap_of_option.count(option_id) == 0:
            return 0
        return self.heap_of_option[option_id]

    cdef void push(self, TaskRecord* record) noexcept nogil:
        cdef Heap* heap = &self.heaps[record.heap]
        cdef Entry entry
        self.arrivals += 1
        record.arrival = self.arrivals
        entry.priority = record.priority
        entry.order = record.order
        entry.arrival = record.arrival
        entry.record = record
        heap.push_back(entry)
        push_heap(heap.begin(), heap.end(), &starts_later)
        self.live += 1

    cdef void withdraw(self, TaskRecord* record) noexcept nogil:
        """Forget a ready task; its entry is swept later."""
        record.arrival = 0
        self.live -= 1
        self.stale += 1
        if self.stale > 64 and self.stale > self.live:
            self.sweep()

    cdef void sweep(self) noexcept nogil:
        """Drop all stale entries; needed before the pool may give memory back."""
        cdef Heap* heap
        cdef size_t number, i, kept
        for number in range(self.heaps.size()):
            heap = &self.heaps[number]
            kept = 0
            for i in range(heap.size()):
                if not is_stale(heap[0][i]):
                    heap[0][kept] = heap[0][i]
                    kept += 1
            heap.resize(kept)
            make_heap(heap.begin(), heap.end(), &starts_later)
        self.stale = 0

    cdef void _settle(self, Heap* heap) noexcept nogil:
        """Take stale entries off the top."""
        while not heap.empty() and is_stale(heap.front()):
            pop_heap(heap.begin(), heap.end(), &starts_later)
            heap.pop_back()
            self.stale -= 1

    cdef int64_t _best(self) noexcept nogil:
        """Number of the heap with the next task that could start now, or -1."""
        cdef int64_t best = -1
        cdef size_t number
        cdef Need need
        cdef bint enough
        for number in range(self.heaps.size()):
            if self.heaps[number].empty():
                continue
            self._settle(&self.heaps[number])
            if self.heaps[number].empty():
                continue
            enough = True
            for need in self.needs[number]:
                # Amounts are fractions as often as not (0.1 three times): forgive the rounding.
                if self.available[need.first] + 1e-9 < need.second:
                    enough = False
            if enough and (best < 0 or starts_later(self.heaps[best].front(), self.heaps[number].front())):
                best = number
        return best

    cdef bint startable(self) noexcept nogil:
        return self.live != 0 and self._best() >= 0

    cdef bint startable_before(self, TaskRecord* record) noexcept nogil:
        """Whether a task that goes before this one could start now."""
        cdef int64_t best
        if self.live == 0:
            return False
        best = self._best()
        return best >= 0 and goes_before(self.heaps[best].front().record, record)

    cdef TaskRecord* pop(self) noexcept nogil:
        """The next task that may start, its resources taken; NULL when there is none."""
        cdef int64_t best
        cdef Heap* heap
        cdef TaskRecord* record
        cdef Need need
        if self.live == 0:
            return NULL
        best = self._best()
        if best < 0:
            return NULL
        heap = &self.heaps[best]
        record = heap.front().record
        pop_heap(heap.begin(), heap.end(), &starts_later)
        heap.pop_back()
        record.arrival = 0
        self.live -= 1
        for need in self.needs[best]:
            self.available[need.first] -= need.second
        return record

    cdef void give_back(self, TaskRecord* record) noexcept nogil:
        """The task does not execute any more: its resources are free."""
        cdef Need need
        if record.option_id:
            for need in self.needs[record.heap]:
                self.available[need.first] += need.second

    cdef uint32_t add_resource(self) noexcept nogil:
        """The number of a new resource, of which this worker has nothing yet."""
        self.total.push_back(0.0)
        self.available.push_back(0.0)
        return <uint32_t>(self.total.size() - 1)

    cdef void set_total(self, uint32_t number, double amount) noexcept nogil:
        self.available[number] += amount - self.total[number]
        self.total[number] = amount

    cdef void add_option(self, uint32_t option_id, vector[Need] wanted) noexcept nogil:
        """Say what the tasks that come with this option from now on need."""
        cdef uint32_t number
        if option_id == 0:
            return
        for number in range(<uint32_t>self.needs.size()):
            if self.needs[number] == wanted:
                self.heap_of_option[option_id] = number
                return
        self.heap_of_option[option_id] = <uint32_t>self.needs.size()
        self.needs.push_back(wanted)
        self.heaps.push_back(Heap())
