"""The key table: canonical key bytes to slots.

Open addressing with linear probing and backward-shift deletion (no tombstones), 8 bytes an entry, SipHash-1-3 with
seeds that the owner gives, so that no peer can choose keys that collide. The table grows at 0.7 and shrinks below
1/8 of its capacity. The bytes of the keys stay with their owner. May import nothing.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.ref cimport Py_INCREF, Py_DECREF, PyObject
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp
from libcpp.vector cimport vector

from fastdist._core.keys.siphash cimport siphash_1_3

cdef enum:
    SMALLEST = 64           # the capacity below which a table never shrinks
    WINDOW = 16             # how many keys ahead a bulk insertion looks


cdef const uint8_t* no_key(void* context, uint32_t slot, uint32_t* length) noexcept nogil:
    length[0] = 0
    return NULL


cdef size_t capacity_for(size_t count) noexcept nogil:
    cdef size_t capacity = SMALLEST
    while 7 * capacity < 10 * count:
        capacity *= 2
    return capacity


@cython.final
cdef class KeyTable:
    """Maps canonical key bytes, kept by somebody else, to 32-bit slots.

    Parameters
    ----------
    seed0, seed1 : int
        The secret of the hash, 64 bits each.
    """

    def __cinit__(self, uint64_t seed0, uint64_t seed1):
        self.seed0 = seed0
        self.seed1 = seed1
        self.callback = no_key
        self.context = NULL
        self.entries = NULL
        self.mask = 0
        self.count = 0
        if self.resize(SMALLEST) < 0:
            raise MemoryError("no memory for a key table")

    def __dealloc__(self):
        free(self.entries)

    def __len__(self):
        return self.count

    @property
    def capacity(self):
        """How many entries the table has room for before load is considered."""
        return self.mask + 1

    cdef void bind(self, key_of callback, void* context) noexcept nogil:
        self.callback = callback
        self.context = context

    cdef uint64_t hash(self, const uint8_t* key, uint32_t length) noexcept nogil:
        return siphash_1_3(key, length, self.seed0, self.seed1)

    cdef uint32_t find(self, uint64_t hash, const uint8_t* key, uint32_t length) noexcept nogil:
        cdef uint32_t fragment = <uint32_t>hash
        cdef size_t position = fragment & self.mask
        cdef const uint8_t* other
        cdef uint32_t other_length
        cdef Entry entry
        while True:
            entry = self.entries[position]
            if entry.slot == 0:
                return ABSENT
            if entry.fragment == fragment:
                other = self.callback(self.context, entry.slot - 1, &other_length)
                if other_length == length and memcmp(other, key, length) == 0:
                    return entry.slot - 1
            position = (position + 1) & self.mask

    cdef int insert(self, uint64_t hash, uint32_t slot) noexcept nogil:
        cdef uint32_t fragment = <uint32_t>hash
        cdef size_t position
        # The load is kept at 0.7 if there is memory; a full table is the only reason to refuse.
        if 10 * (self.count + 1) > 7 * (self.mask + 1):
            if self.resize(2 * (self.mask + 1)) < 0 and self.count + 1 > self.mask:
                return -1
        position = fragment & self.mask
        while self.entries[position].slot != 0:
            position = (position + 1) & self.mask
        self.entries[position].fragment = fragment
        self.entries[position].slot = slot + 1
        self.count += 1
        return 0

    cdef void remove(self, uint64_t hash, uint32_t slot) noexcept nogil:
        cdef uint32_t fragment = <uint32_t>hash
        cdef size_t position = fragment & self.mask
        cdef size_t hole, distance
        while self.entries[position].slot != slot + 1 or self.entries[position].fragment != fragment:
            if self.entries[position].slot == 0:
                return
            position = (position + 1) & self.mask
        hole = position
        while True:
            position = (position + 1) & self.mask
            if self.entries[position].slot == 0:
                break
            # An entry may move back into the hole unless that is before its home.
            distance = (position - (self.entries[position].fragment & self.mask)) & self.mask
            if distance >= ((position - hole) & self.mask):
                self.entries[hole] = self.entries[position]
                hole = position
        self.entries[hole].slot = 0
        self.count -= 1
        if self.mask + 1 > SMALLEST and 8 * self.count < self.mask + 1:
            # Without memory for the smaller table the larger one simply stays.
            self.resize(capacity_for(2 * self.count))

    cdef void reserve(self, size_t more) noexcept nogil:
        cdef size_t capacity = capacity_for(self.count + more)
        if capacity > self.mask + 1:
            self.resize(capacity)

    cdef int resize(self, size_t capacity) noexcept nogil:
        cdef Entry* old = self.entries
        cdef size_t old_capacity = self.mask + 1 if old != NULL else 0
        cdef Entry* entries = <Entry*>calloc(capacity, sizeof(Entry))
        cdef size_t mask = capacity - 1
        cdef size_t i, position
        if entries == NULL:
            return -1
        for i in range(old_capacity):
            if old[i].slot != 0:
                position = old[i].fragment & mask
                while entries[position].slot != 0:
                    position = (position + 1) & mask
                entries[position] = old[i]
        self.entries = entries
        self.mask = mask
        free(old)
        return 0


cdef extern from "Python.h":
    Py_ssize_t size_of_bytes "PyBytes_GET_SIZE" (PyObject* data) noexcept nogil
    const char* start_of_bytes "PyBytes_AS_STRING" (PyObject* data) noexcept nogil


cdef const uint8_t* bytes_in_list(void* context, uint32_t slot, uint32_t* length) noexcept nogil:
    cdef PyObject* key = (<vector[PyObject*]*>context)[0][slot]
    length[0] = <uint32_t>size_of_bytes(key)
    return <const uint8_t*>start_of_bytes(key)


@cython.final
cdef class KeyIndex:
    """A key table that owns its keys: numbers distinct bytes in the order of their first appearance.

    Numbers of discarded keys are used again.

    >>> index = KeyIndex(1, 2)
    >>> index.add(b"sx"), index.add(b"sy"), index.add(b"sx")
    (0, 1, 0)
    """

    cdef KeyTable table
    cdef vector[PyObject*] keys
    cdef vector[uint32_t] free_slots

    def __cinit__(self, uint64_t seed0, uint64_t seed1):
        self.table = KeyTable(seed0, seed1)
        self.table.bind(bytes_in_list, &self.keys)

    def __dealloc__(self):
        cdef PyObject* key
        for key in self.keys:
            if key != NULL:
                Py_DECREF(<object>key)

    def __len__(self):
        return self.table.count

    @property
    def capacity(self):
        """How many entries the table behind this index has."""
        return self.table.mask + 1

    def hash(self, bytes key not None) -> int:
        """The seeded 64-bit hash of the bytes."""
        return self.hash_of(key)

    cdef uint32_t find(self, bytes key) noexcept:
        cdef const uint8_t* data = <const uint8_t*>PyBytes_AS_STRING(key)
        cdef uint32_t length = <uint32_t>PyBytes_GET_SIZE(key)
        return self.table.find(self.table.hash(data, length), data, length)

    def __contains__(self, bytes key not None):
        return self.find(key) != ABSENT

    def __getitem__(self, bytes key not None):
        cdef uint32_t slot = self.find(key)
        if slot == ABSENT:
            raise KeyError(key)
        return slot

    def add(self, bytes key not None) -> int:
        """The number of the key, which is new if the key is."""
        return self.slot_for(key, self.hash_of(key))

    def add_all(self, list keys not None) -> None:
        """Add many keys at once, with room made for them first."""
        cdef Py_ssize_t i, total = len(keys)
        cdef uint64_t[WINDOW] hashes
        self.table.reserve(total)
        # The entry of a key is asked for some keys ahead of its use, so that memory answers in time.
        for i in range(total + WINDOW):
            if i >= WINDOW:
                self.slot_for(<bytes?>keys[i - WINDOW], hashes[i % WINDOW])
            if i < total:
                hashes[i % WINDOW] = self.hash_of(<bytes?>keys[i])
                self.table.prefetch(hashes[i % WINDOW])

    cdef uint64_t hash_of(self, bytes key) noexcept:
        return self.table.hash(<const uint8_t*>PyBytes_AS_STRING(key), <uint32_t>PyBytes_GET_SIZE(key))

    cdef int64_t slot_for(self, bytes key, uint64_t hash) except -1:
        cdef const uint8_t* data = <const uint8_t*>PyBytes_AS_STRING(key)
        cdef uint32_t slot = self.table.find(hash, data, <uint32_t>PyBytes_GET_SIZE(key))
        if slot != ABSENT:
            return slot
        if self.free_slots.empty():
            slot = <uint32_t>self.keys.size()
            self.keys.push_back(NULL)
        else:
            slot = self.free_slots.back()
            self.free_slots.pop_back()
        if self.table.insert(hash, slot) < 0:
            self.free_slots.push_back(slot)
            raise MemoryError("no memory for another key")
        Py_INCREF(key)
        self.keys[slot] = <PyObject*>key
        return slot

    def discard(self, bytes key not None) -> bool:
        """Forget the key; whether it was known."""
        cdef uint32_t slot = self.find(key)
        if slot == ABSENT:
            return False
        self.table.remove(self.hash(key), slot)
        Py_DECREF(<object>self.keys[slot])
        self.keys[slot] = NULL
        self.free_slots.push_back(slot)
        return True

    def reserve(self, size_t more) -> None:
        """Make room for `more` further keys."""
        self.table.reserve(more)

    def validate(self) -> None:
        """Check that every entry can be found from its home position; AssertionError otherwise."""
        cdef KeyTable table = self.table
        cdef size_t i, position, seen = 0
        for i in range(table.mask + 1):
            if table.entries[i].slot == 0:
                continue
            seen += 1
            position = table.entries[i].fragment & table.mask
            while position != i:
                assert table.entries[position].slot != 0, "an entry is cut off from its home"
                position = (position + 1) & table.mask
        assert seen == table.count, f"{seen} entries, but the count says {table.count}"
