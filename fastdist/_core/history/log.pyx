"""What happened to which task: a list of transitions that is filled only while somebody listens, and read in batches.

Keys are copied, so that an entry outlives the record of its task. The list is bounded: what finds no room is counted.
May import: `_core/keys`.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from fastdist._core.keys.canonical cimport decode_key_at

cdef enum:
    MAX_CHANGES = 1 << 20
    MAX_KEY_BYTES = 1 << 28


cdef class TransitionLog:
    """Transitions that nobody has read yet.

    Parameters
    ----------
    max_changes, max_key_bytes : int
        How many, and how many bytes of keys, wait at most.
    """

    def __cinit__(self, uint64_t max_changes=MAX_CHANGES, uint64_t max_key_bytes=MAX_KEY_BYTES):
        self.lost = 0
        self.max_changes = max_changes
        self.max_key_bytes = max_key_bytes

    def __len__(self) -> int:
        return self.changes.size()

    cdef void note(self, const uint8_t* key, uint32_t key_length, uint8_t start, uint8_t finish, uint32_t worker,
                   uint64_t nbytes, uint32_t type, float seconds) noexcept nogil:
        """Append one transition."""
        cdef Change change
        if self.changes.size() >= self.max_changes or self.keys.size() + key_length > self.max_key_bytes:
            self.lost += 1
            return
        self.keys.insert(self.keys.end(), key, key + key_length)
        change.key_end = self.keys.size()
        change.nbytes = nbytes
        change.worker = worker
        change.type = type
        change.seconds = seconds
        change.start = start
        change.finish = finish
        self.changes.push_back(change)

    cdef void swap(self, TransitionLog other) noexcept nogil:
        """Exchange the contents with those of another log."""
        cdef uint64_t lost = self.lost
        self.changes.swap(other.changes)
        self.keys.swap(other.keys)
        self.lost = other.lost
        other.lost = lost

    cdef list rows(self):
        """(key, start, finish, worker, nbytes, type, seconds) of each transition, in order; all but the key numbers."""
        cdef list answer = []
        cdef uint64_t begin = 0
        cdef size_t i
        cdef Change* change
        for i in range(self.changes.size()):
            change = &self.changes[i]
            answer.append((
                readable(self.keys.data() + begin, <uint32_t>(change.key_end - begin)), change.start, change.finish,
                change.worker, change.nbytes, change.type, change.seconds,
            ))
            begin = change.key_end
        return answer


cdef object readable(const uint8_t* key, uint32_t length):
    """The key with these canonical bytes; other bytes as they are."""
    try:
        return decode_key_at(key, length)
    except ValueError:
        return (<const char*>key)[:length]
