"""What has to be fetched from other workers, and from whom.

Every wanted input stands in the queue of each worker that may have it; the first of them that is free gets to serve it.
An entry whose input is in flight, here or unwanted by now is skipped when its turn comes (`next_of` gives all of them;
the model knows the state). A worker that failed to serve an input is not asked for it again. May import: nothing.
"""

cimport cython
from libc.stdint cimport int64_t, uint32_t, uint64_t


UNREACHED_VERDICT = <uint64_t>3 << 62 | 100_000


cdef bint contains(vector[uint32_t]& numbers, uint32_t number) noexcept nogil:
    cdef uint32_t one
    for one in numbers:
        if one == number:
            return True
    return False


@cython.final
cdef class FetchPlan:
    """Inputs to fetch, by worker number.

    Parameters
    ----------
    max_peers : int
        How many workers are asked at the same time.
    max_bytes : int
        How many bytes one request asks for; an input that is larger travels alone.
    """

    def __cinit__(self, uint32_t max_peers, uint64_t max_bytes):
        self.max_peers = max_peers
        self.max_bytes = max_bytes

    cdef bint obtainable(self, uint64_t task_id) noexcept nogil:
        """Whether some worker may still have the input."""
        return self.wants.count(task_id) != 0 and self.wants[task_id].untried.size() != 0

    cdef void add(self, uint64_t task_id, uint64_t nbytes, const uint32_t* holders, size_t n) noexcept nogil:
        """Want an input, or learn of more workers that have it."""
        cdef Want* want = &self.wants[task_id]
        cdef size_t i
        want.nbytes = nbytes
        for i in range(n):
            if not contains(want.untried, holders[i]) and not contains(want.failed, holders[i]):
                want.untried.push_back(holders[i])
                self._queue(task_id, holders[i])

    cdef void drop(self, uint64_t task_id) noexcept nogil:
        self.wants.erase(task_id)

    cdef bint exclude(self, uint64_t task_id, uint32_t peer, bint reached) noexcept nogil:
        """This worker cannot serve the input. Returns whether another one may."""
        cdef Want* want = &self.wants[task_id]
        cdef vector[uint32_t] left
        cdef uint32_t holder
        for holder in want.untried:
            if holder != peer:
                left.push_back(holder)
        want.untried.swap(left)
        if not contains(want.failed, peer):
            want.failed.push_back(peer)
            if not reached:
                want.unreached.push_back(peer)
        return want.untried.size() != 0

    cdef void requeue(self, uint64_t task_id) noexcept nogil:
        """Put an input whose fetch failed back into the queues of those that are left."""
        cdef uint32_t holder
        for holder in self.wants[task_id].untried:
            self._queue(task_id, holder)

    cdef void _queue(self, uint64_t task_id, uint32_t peer) noexcept nogil:
        if self.queues.count(peer) == 0:
            self.peers.push_back(peer)
        self.queues[peer].push_back(task_id)

    cdef int64_t next_peer(self) noexcept nogil:
        """A worker that can be asked now, or -1."""
        cdef uint32_t peer
        if self.busy.size() >= self.max_peers:
            return -1
        for peer in self.peers:
            if self.busy.count(peer) == 0 and self.queues[peer].size():
                return peer
        return -1

    cdef bint next_of(self, uint32_t peer, uint64_t* task_id, uint64_t* nbytes) noexcept nogil:
        """Take the first entry of a queue; False when it is empty, and then the queue is gone."""
        cdef deque[uint64_t]* queue = &self.queues[peer]
        cdef vector[uint32_t] left
        cdef uint32_t other
        while queue.size():
            task_id[0] = queue.front()
            queue.pop_front()
            if self.wants.count(task_id[0]) and contains(self.wants[task_id[0]].untried, peer):
                nbytes[0] = self.wants[task_id[0]].nbytes
                return True
        self.queues.erase(peer)
        for other in self.peers:
            if other != peer:
                left.push_back(other)
        self.peers.swap(left)
        return False
