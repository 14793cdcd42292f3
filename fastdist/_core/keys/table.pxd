# A hash table from canonical key bytes to slots; the bytes belong to someone else.
cimport cython
from libc.stdint cimport uint8_t, uint32_t, uint64_t

cdef enum:
    ABSENT = 0xFFFFFFFF     # what find() answers for an unknown key; never a valid slot

# Where the bytes of the key in `slot` are, and their number.
ctypedef const uint8_t* (*key_of)(void* context, uint32_t slot, uint32_t* length) noexcept nogil

cdef struct Entry:
    uint32_t fragment       # low half of the hash: gives the home position and filters comparisons
    uint32_t slot           # slot + 1; 0 = this entry is empty


@cython.final
cdef class KeyTable:
    cdef uint64_t seed0
    cdef uint64_t seed1
    cdef key_of callback
    cdef void* context
    cdef Entry* entries
    cdef size_t mask            # capacity - 1; the capacity is a power of two
    cdef size_t count

    # Must be called once, before anything else; both stay valid as long as the table.
    cdef void bind(self, key_of callback, void* context) noexcept nogil

    cdef uint64_t hash(self, const uint8_t* key, uint32_t length) noexcept nogil
    # The slot of the key, or ABSENT.
    cdef uint32_t find(self, uint64_t hash, const uint8_t* key, uint32_t length) noexcept nogil
    # The key must not be in the table. 0, or -1 if there is no memory for it.
    cdef int insert(self, uint64_t hash, uint32_t slot) noexcept nogil
    # Nothing happens if the pair is not there. Does not look at key bytes: they may be gone already.
    cdef void remove(self, uint64_t hash, uint32_t slot) noexcept nogil
    # Makes room for `more` further keys; without memory the table stays as it is and insert() reports.
    cdef void reserve(self, size_t more) noexcept nogil
    cdef inline void prefetch(self, uint64_t hash) noexcept nogil:
        prefetch_address(&self.entries[<uint32_t>hash & self.mask])

    cdef int resize(self, size_t capacity) noexcept nogil


cdef extern from *:
    """
    #if defined(__GNUC__) || defined(__clang__)
    #define fastdist_prefetch(address) __builtin_prefetch(address)
    #else
    #define fastdist_prefetch(address) ((void)(address))
    #endif
    """
    void prefetch_address "fastdist_prefetch" (const void* address) noexcept nogil
