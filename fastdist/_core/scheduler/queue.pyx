"""The queue of ready tasks that are not bound to a worker.

The root tasks of one frame arrive sorted and form a *run*; a worker claims a contiguous part of the first run and is
served from there, so that neighbours land together (guided self-scheduling: a claim is a share of what is left). Tasks
that become ready one by one are *loose*, in a binary heap. The better head of both goes first.
May import: the scheduler's model.
"""

from libc.stdint cimport uint32_t, uint64_t
from libcpp.map cimport map
from libcpp.vector cimport vector

from cython.operator cimport dereference

from fastdist._core.scheduler.model cimport Model
from fastdist._core.scheduler.parties cimport Claim, WorkerRecord
from fastdist._core.scheduler.records cimport READY, Task


cdef inline bint goes_before(const Loose& a, const Loose& b) noexcept nogil:
    if a.priority != b.priority:
        return a.priority < b.priority
    return a.rank < b.rank or (a.rank == b.rank and a.id < b.id)


cdef void sift_up(vector[Loose]& heap, size_t position) noexcept nogil:
    cdef Loose moved = heap[position]
    while position and goes_before(moved, heap[(position - 1) >> 1]):
        heap[position] = heap[(position - 1) >> 1]
        position = (position - 1) >> 1
    heap[position] = moved


cdef void sift_down(vector[Loose]& heap, size_t position) noexcept nogil:
    cdef Loose moved = heap[position]
    cdef size_t child
    while True:
        child = 2 * position + 1
        if child >= heap.size():
            break
        if child + 1 < heap.size() and goes_before(heap[child + 1], heap[child]):
            child += 1
        if not goes_before(heap[child], moved):
            break
        heap[position] = heap[child]
        position = child
    heap[position] = moved


cdef class ReadyQueue:
    """Ready tasks by priority, then age of their submission, then order inside it."""

    def __cinit__(self, Model model):
        self.model = model
        self.next_serial = 1

    def __len__(self) -> int:
        return self.size

    cdef int push(self, double priority, uint64_t rank, uint64_t id) except -1:
        cdef Loose entry
        entry.priority = priority
        entry.rank = rank
        entry.id = id
        self.loose.push_back(entry)
        sift_up(self.loose, self.loose.size() - 1)
        self.size += 1
        return 0

    cdef int push_run(self, double priority, uint64_t rank, vector[uint64_t]& ids) except -1:
        """Queue `ids`, sorted by rank; `rank` is that of the first."""
        cdef RunKey key
        cdef Run* run
        cdef Task* task
        cdef size_t i
        if ids.size() < 8:
            for i in range(ids.size()):
                task = self.model.task(<uint32_t>ids[i])
                self.push(priority, (<uint64_t>task.submission << 32) | task.order, ids[i])
            return 0
        key.first = priority
        key.second.first = rank
        key.second.second = self.next_serial
        self.next_serial += 1
        run = &self.runs[key]
        run.priority = priority
        run.rank = rank
        run.ids.swap(ids)
        run.cursor = 0
        run.unserved = <uint32_t>run.ids.size()
        self.size += run.unserved
        return 0

    cdef uint64_t _pop_loose(self) noexcept nogil:
        cdef uint64_t id = self.loose[0].id
        self.loose[0] = self.loose.back()
        self.loose.pop_back()
        if self.loose.size() > 1:
            sift_down(self.loose, 0)
        elif self.loose.empty() and self.loose.capacity() > 4096:
            self.loose.shrink_to_fit()
        self.size -= 1
        return id

    cdef bint _loose_first(self) noexcept:
        cdef Run* run
        if self.runs.empty():
            return True
        if self.loose.empty():
            return False
        run = &dereference(self.runs.begin()).second
        if self.loose[0].priority != run.priority:
            return self.loose[0].priority < run.priority
        return self.loose[0].rank <= run.rank

    cdef uint64_t next_for(self, WorkerRecord worker) except? 0:
        """The id of the next READY task for this worker, or 0 when the queue is empty; `take` removes it."""
        cdef uint64_t id
        cdef Task* task
        while not self.loose.empty() or not self.runs.empty():
            id = self.loose[0].id if self._loose_first() else self._next_of_run(worker)
            task = self.model.find(id)
            if task != NULL and task.state == READY:
                return id
            self.take(worker)
        return 0

    cdef int take(self, WorkerRecord worker) except -1:
        """Remove what `next_for` returned."""
        cdef Run* run
        if self._loose_first():
            self._pop_loose()
            return 0
        run = &dereference(self.runs.begin()).second
        worker.claim.begin += 1
        run.unserved -= 1
        self.size -= 1
        if run.unserved == 0:
            self.runs.erase(self.runs.begin())
        return 0

    cdef uint64_t _next_of_run(self, WorkerRecord worker) except? 0:
        cdef RunKey key = dereference(self.runs.begin()).first
        cdef Run* run = &dereference(self.runs.begin()).second
        if worker.claim.run != key.second.second or worker.claim.begin >= worker.claim.end:
            self.give_back(worker)
            self._claim(worker, run, key.second.second)
        return run.ids[worker.claim.begin]

    cdef int _claim(self, WorkerRecord worker, Run* run, uint64_t serial) except -1:
        cdef uint32_t left = <uint32_t>run.ids.size() - run.cursor
        cdef uint32_t share
        cdef WorkerRecord other
        if not run.returned.empty():
            worker.claim.begin = run.returned.back().begin
            worker.claim.end = run.returned.back().end
            run.returned.pop_back()
        elif left:
            share = left // (2 * (<uint32_t>self.model.load.heap.size() or 1)) or 1
            worker.claim.begin = run.cursor
            worker.claim.end = run.cursor + share
            run.cursor += share
        else:
            # Everything is claimed, so some claimer still has an unserved part: take its second half.
            other = self._claimer_of(serial)
            worker.claim.end = other.claim.end
            worker.claim.begin = (other.claim.begin + other.claim.end) // 2
            other.claim.end = worker.claim.begin
        worker.claim.run = serial
        if not worker.in_claimers:
            worker.in_claimers = True
            self.claimers.push_back(worker.number)
        return 0

    cdef WorkerRecord _claimer_of(self, uint64_t serial):
        cdef WorkerRecord other
        while not self.claimers.empty():
            other = self.model.worker(self.claimers.back())
            if other.claim.run == serial and other.claim.begin < other.claim.end:
                return other
            self.give_back(other)
            other.in_claimers = False
            self.claimers.pop_back()
        raise RuntimeError("a run of the ready queue has unserved tasks that nobody claims")

    cdef int give_back(self, WorkerRecord worker) except -1:
        """Return what a worker has claimed and not been served."""
        cdef Claim claim = worker.claim
        cdef Span span
        cdef map[RunKey, Run].iterator position = self.runs.begin()
        worker.claim.run = 0
        worker.claim.begin = 0
        worker.claim.end = 0
        if claim.run == 0 or claim.begin >= claim.end:
            return 0
        while position != self.runs.end():
            if dereference(position).first.second.second == claim.run:
                span.begin = claim.begin
                span.end = claim.end
                dereference(position).second.returned.push_back(span)
                break
            position = next_of(position)
        return 0
