# The records behind a client's futures.
#
# The GIL is the one lock of this table: a method that changes slots runs C code only between its first and its last
# change. Python code (pickling, user decrefs, collector passes) runs before or after, never in between.
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libcpp.vector cimport vector

from fastdist._core.codec.frames cimport STATUS_PENDING

cdef enum:
    CHUNK_BITS = 10
    CHUNK_SLOTS = 1 << CHUNK_BITS
    SMALL_PAYLOAD = 16              # payloads up to this length live in the slot itself
    LARGE_HEADER = 8
    NO_TYPE = 0xFFFFFFFF

cdef enum:
    SLOT_LIVE = 1                   # the id is in use
    SLOT_INDEXED = 2                # its key is in the index: the same key means this id
    SLOT_WATCHED = 4                # somebody wants to hear when it is done
    SLOT_HAS_PAYLOAD = 8            # the payload of the last STATE was kept


cdef union Payload:
    uint8_t small[16]
    uint8_t* large                  # after its count of slots (LARGE_HEADER bytes)


cdef struct Slot:
    Payload payload
    uint64_t size                   # of the result, in bytes
    uint64_t key_hash
    uint32_t payload_length
    uint32_t references             # Future objects, waiters and unsent frames that hold the id
    uint32_t type                   # index into the table's type names
    uint32_t key_offset             # into the keys of the chunk
    uint32_t key_length
    uint8_t status                  # TaskStatus
    uint8_t flags


cdef struct Chunk:
    Slot slots[1024]
    vector[uint8_t]* keys
    uint32_t live                   # slots in use or reserved


cdef struct IndexEntry:
    uint64_t id                     # 0: empty
    uint64_t hash


cdef inline bint is_done(Slot* slot) noexcept nogil:
    return slot.status != STATUS_PENDING


cdef inline uint8_t* payload_of(Slot* slot) noexcept nogil:
    if slot.payload_length <= SMALL_PAYLOAD:
        return slot.payload.small
    return slot.payload.large


cdef class SlotTable:
    cdef vector[Chunk*] chunks      # chunk i holds the ids from (first_chunk + i) * CHUNK_SLOTS on; NULL: all gone
    cdef uint64_t first_chunk
    cdef readonly uint64_t next_id  # the next id to be given
    cdef uint64_t live              # ids in use
    cdef vector[IndexEntry] index   # linear probing over a power of two, at most half full
    cdef uint64_t indexed
    cdef vector[uint64_t] released  # ids whose count fell to 0; may hold an id twice, or one that is in use again
    cdef vector[uint64_t] watched   # watched ids that are done and were not yet reported
    cdef readonly uint64_t payload_bytes
    cdef readonly uint64_t payload_limit
    cdef readonly uint64_t dropped_payloads
    cdef uint64_t failures          # STATE rows that said erred or cancelled
    cdef uint32_t readers           # decoders at work; while there are any, payloads are not freed
    cdef vector[uint8_t*] graveyard

    cdef Slot* slot(self, uint64_t id) noexcept nogil
    cdef Chunk* chunk_of(self, uint64_t id) noexcept nogil
    cdef const uint8_t* key_of(self, uint64_t id, Slot* slot) noexcept nogil
    cdef uint64_t reserve(self, uint64_t count) except 0
    cdef void unreserve(self, uint64_t first, uint64_t count) noexcept nogil
    cdef Slot* fill(self, uint64_t id, const uint8_t* key, uint32_t length, uint64_t hash) except NULL
    cdef uint64_t find(self, const uint8_t* key, uint32_t length, uint64_t hash) noexcept nogil
    cdef int resize_index(self, uint64_t capacity) except -1
    cdef void index_put(self, uint64_t id, uint64_t hash) noexcept nogil
    cdef void index_remove(self, uint64_t id, uint64_t hash) noexcept nogil
    cdef void drop(self, uint64_t id) noexcept nogil
    cdef void cancel_slot(self, uint64_t id, Slot* slot) noexcept nogil
    cdef void leave_chunk(self, uint64_t number, uint32_t count) noexcept nogil
    cdef void free_chunk(self, uint64_t number) noexcept nogil
    cdef int trim(self) except -1
    cdef void store_payload(self, Slot* slot, const uint8_t* data, uint32_t length, bint bounded) noexcept nogil
    cdef void share_payload(self, Slot* slot, Slot* other) noexcept nogil
    cdef void free_payload(self, Slot* slot) noexcept nogil
    cdef void unindex(self, uint64_t id, Slot* slot) noexcept nogil
    cdef void bury(self) noexcept nogil
    cdef void hold(self, uint64_t id) noexcept nogil
    cdef void let_go(self, uint64_t id) noexcept nogil


cdef uint64_t hash_key(const uint8_t* key, size_t length) noexcept nogil
