"""Slots: C records of tasks in chunks that go when they are empty, an index of their keys, their payloads.

What a slot means is said in `futures`. Imports only other parts of `_core`.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp, memcpy, memset
from libcpp.vector cimport vector

from fastdist._core.codec.frames cimport STATUS_CANCELLED


cdef uint64_t hash_key(const uint8_t* key, size_t length) noexcept nogil:
    # Keys carry a cryptographic digest already; this only has to spread them.
    cdef uint64_t mixed = 0x9E3779B97F4A7C15ULL ^ length
    cdef uint64_t word
    while length >= 8:
        memcpy(&word, key, 8)
        mixed = (mixed ^ word) * 0xD6E8FEB86659FD93ULL
        mixed ^= mixed >> 32
        key += 8
        length -= 8
    if length:
        word = 0
        memcpy(&word, key, length)
        mixed = (mixed ^ word) * 0xD6E8FEB86659FD93ULL
        mixed ^= mixed >> 32
    mixed *= 0xD6E8FEB86659FD93ULL
    return mixed ^ (mixed >> 29)


cdef class SlotTable:
    """The slots of one client, numbered by client id; see `FutureTable`."""

    def __cinit__(self):
        self.next_id = 1
        self.resize_index(64)

    def __dealloc__(self):
        cdef Chunk* chunk
        cdef size_t i, j
        self.readers = 0
        for i in range(self.chunks.size()):
            chunk = self.chunks[i]
            if chunk == NULL:
                continue
            for j in range(<size_t>CHUNK_SLOTS):
                self.free_payload(&chunk.slots[j])
            del chunk.keys
            free(chunk)
        self.bury()

    def __len__(self) -> int:
        return self.live

    @property
    def n_released(self) -> int:
        """How many ids wait for the next RELEASE frame; some of them may be in use again."""
        return self.released.size()

    @property
    def n_chunks(self) -> int:
        """Chunks that are in memory."""
        cdef size_t i
        cdef uint64_t count = 0
        for i in range(self.chunks.size()):
            count += self.chunks[i] != NULL
        return count

    @property
    def index_capacity(self) -> int:
        """Places in the key index."""
        return self.index.size()

    # -- slots -------------------------------------------------------------------------------------------------

    cdef Chunk* chunk_of(self, uint64_t id) noexcept nogil:
        cdef uint64_t number = id >> CHUNK_BITS
        if number < self.first_chunk or number - self.first_chunk >= self.chunks.size():
            return NULL
        return self.chunks[number - self.first_chunk]

    cdef Slot* slot(self, uint64_t id) noexcept nogil:
        cdef Chunk* chunk = self.chunk_of(id)
        if chunk == NULL or not chunk.slots[id & (CHUNK_SLOTS - 1)].flags & SLOT_LIVE:
            return NULL
        return &chunk.slots[id & (CHUNK_SLOTS - 1)]

    cdef const uint8_t* key_of(self, uint64_t id, Slot* slot) noexcept nogil:
        return self.chunk_of(id).keys.data() + slot.key_offset

    cdef uint64_t reserve(self, uint64_t count) except 0:
        # Gives `count` consecutive ids; each is filled or unreserved later.
        cdef uint64_t first = self.next_id
        cdef uint64_t last = first + count - 1
        cdef uint64_t number, begin, end
        cdef Chunk* chunk
        for number in range(first >> CHUNK_BITS, (last >> CHUNK_BITS) + 1):
            if self.chunks.empty():
                self.first_chunk = number
            while self.first_chunk + self.chunks.size() <= number:
                self.chunks.push_back(NULL)
            if self.chunks[number - self.first_chunk] == NULL:
                chunk = <Chunk*>calloc(1, sizeof(Chunk))
                if chunk == NULL:
                    raise MemoryError("no memory for more futures")
                chunk.keys = new vector[uint8_t]()
                self.chunks[number - self.first_chunk] = chunk
            chunk = self.chunks[number - self.first_chunk]
            begin = max(first, number << CHUNK_BITS)
            end = min(last, (number << CHUNK_BITS) + CHUNK_SLOTS - 1)
            chunk.live += <uint32_t>(end - begin + 1)
        self.next_id = last + 1
        number = (first - 1) >> CHUNK_BITS
        if number != last >> CHUNK_BITS:
            self.leave_chunk(number, 0)
        return first

    cdef void unreserve(self, uint64_t first, uint64_t count) noexcept nogil:
        cdef uint64_t id = first
        cdef uint64_t end = first + count
        cdef uint64_t stop
        if count and end == self.next_id:
            self.next_id = first
        while id < end:
            stop = min(end, ((id >> CHUNK_BITS) + 1) << CHUNK_BITS)
            self.leave_chunk(id >> CHUNK_BITS, <uint32_t>(stop - id))
            id = stop

    cdef Slot* fill(self, uint64_t id, const uint8_t* key, uint32_t length, uint64_t hash) except NULL:
        # The id must be reserved and its key not in the index.
        cdef Chunk* chunk = self.chunk_of(id)
        cdef Slot* slot = &chunk.slots[id & (CHUNK_SLOTS - 1)]
        cdef size_t offset = chunk.keys.size()
        if offset + length > 0xFFFFFFFFU:
            raise OverflowError("the keys of these tasks take more than 4 GiB")
        if 2 * (self.indexed + 1) > self.index.size():
            self.resize_index(2 * self.index.size())
        memset(slot, 0, sizeof(Slot))
        chunk.keys.resize(offset + length)
        memcpy(chunk.keys.data() + offset, key, length)
        slot.key_offset = <uint32_t>offset
        slot.key_length = length
        slot.key_hash = hash
        slot.type = NO_TYPE
        slot.flags = SLOT_LIVE | SLOT_INDEXED
        self.index_put(id, hash)
        self.live += 1
        return slot

    cdef void drop(self, uint64_t id) noexcept nogil:
        cdef Slot* slot = self.slot(id)
        if slot == NULL:
            return
        self.unindex(id, slot)
        self.free_payload(slot)
        slot.flags = 0
        self.live -= 1
        self.leave_chunk(id >> CHUNK_BITS, 1)

    cdef void cancel_slot(self, uint64_t id, Slot* slot) noexcept nogil:
        # Final for this id: its key is free to be submitted again under another one.
        self.unindex(id, slot)
        self.free_payload(slot)
        slot.status = STATUS_CANCELLED
        self.failures += 1
        if slot.flags & SLOT_WATCHED:
            slot.flags &= ~SLOT_WATCHED
            self.watched.push_back(id)

    cdef void unindex(self, uint64_t id, Slot* slot) noexcept nogil:
        # Its key may be used for another task from now on.
        if slot.flags & SLOT_INDEXED:
            self.index_remove(id, slot.key_hash)
            slot.flags &= ~SLOT_INDEXED

    cdef void leave_chunk(self, uint64_t number, uint32_t count) noexcept nogil:
        cdef Chunk* chunk
        if number < self.first_chunk or number - self.first_chunk >= self.chunks.size():
            return
        chunk = self.chunks[number - self.first_chunk]
        if chunk == NULL:
            return
        chunk.live -= count
        if chunk.live == 0:
            if number == self.next_id >> CHUNK_BITS:
                # More ids of this chunk are still to be given: keep it, so that one task at a time costs no allocation.
                chunk.keys.clear()
            else:
                self.free_chunk(number)

    cdef void free_chunk(self, uint64_t number) noexcept nogil:
        cdef Chunk* chunk = self.chunks[number - self.first_chunk]
        del chunk.keys
        free(chunk)
        self.chunks[number - self.first_chunk] = NULL

    cdef int trim(self) except -1:
        # Moves the window past the chunks that are gone, once that is worth the move, and shrinks the index.
        cdef size_t gone = 0
        cdef uint64_t capacity = self.index.size()
        while gone < self.chunks.size() and self.chunks[gone] == NULL:
            gone += 1
        if 2 * gone > self.chunks.size():
            self.chunks.erase(self.chunks.begin(), self.chunks.begin() + gone)
            self.first_chunk += gone
        while capacity > 64 and 8 * self.indexed < capacity:
            capacity //= 2
        if capacity < self.index.size():
            self.resize_index(capacity)
        return 0

    # -- the key index -----------------------------------------------------------------------------------------

    cdef uint64_t find(self, const uint8_t* key, uint32_t length, uint64_t hash) noexcept nogil:
        cdef uint64_t mask = self.index.size() - 1
        cdef uint64_t place = hash & mask
        cdef IndexEntry entry
        cdef Slot* slot
        while True:
            entry = self.index[place]
            if entry.id == 0:
                return 0
            if entry.hash == hash:
                slot = self.slot(entry.id)
                if slot.key_length == length and memcmp(self.key_of(entry.id, slot), key, length) == 0:
                    return entry.id
            place = (place + 1) & mask

    cdef int resize_index(self, uint64_t capacity) except -1:
        cdef vector[IndexEntry] old
        cdef size_t i
        old.swap(self.index)
        self.index.resize(capacity)
        self.indexed = 0
        for i in range(old.size()):
            if old[i].id:
                self.index_put(old[i].id, old[i].hash)
        return 0

    cdef void index_put(self, uint64_t id, uint64_t hash) noexcept nogil:
        cdef uint64_t mask = self.index.size() - 1
        cdef uint64_t place = hash & mask
        while self.index[place].id:
            place = (place + 1) & mask
        self.index[place].id = id
        self.index[place].hash = hash
        self.indexed += 1

    cdef void index_remove(self, uint64_t id, uint64_t hash) noexcept nogil:
        # Closes the gap by moving later entries of the run back, so that no tombstones pile up.
        cdef uint64_t mask = self.index.size() - 1
        cdef uint64_t place = hash & mask
        cdef uint64_t gap, home
        while self.index[place].id != id:
            if self.index[place].id == 0:
                return
            place = (place + 1) & mask
        gap = place
        while True:
            place = (place + 1) & mask
            if self.index[place].id == 0:
                break
            home = self.index[place].hash & mask
            if ((place - home) & mask) >= ((place - gap) & mask):
                self.index[gap] = self.index[place]
                gap = place
        self.index[gap].id = 0
        self.indexed -= 1

    # -- payloads ----------------------------------------------------------------------------------------------

    cdef void store_payload(self, Slot* slot, const uint8_t* data, uint32_t length, bint bounded) noexcept nogil:
        cdef uint8_t* copy
        self.free_payload(slot)
        if length <= SMALL_PAYLOAD:
            memcpy(slot.payload.small, data, length)
        else:
            if bounded and self.payload_bytes + length > self.payload_limit:
                self.dropped_payloads += 1
                return
            copy = <uint8_t*>malloc(LARGE_HEADER + <size_t>length)
            if copy == NULL:
                self.dropped_payloads += 1
                return
            (<uint64_t*>copy)[0] = 1
            memcpy(copy + LARGE_HEADER, data, length)
            slot.payload.large = copy + LARGE_HEADER
            self.payload_bytes += length
        slot.payload_length = length
        slot.flags |= SLOT_HAS_PAYLOAD

    cdef void share_payload(self, Slot* slot, Slot* other) noexcept nogil:
        # One error of many tasks is kept once.
        self.free_payload(slot)
        slot.payload = other.payload
        slot.payload_length = other.payload_length
        slot.flags |= other.flags & SLOT_HAS_PAYLOAD
        if slot.payload_length > SMALL_PAYLOAD:
            (<uint64_t*>(slot.payload.large - LARGE_HEADER))[0] += 1

    cdef void free_payload(self, Slot* slot) noexcept nogil:
        cdef uint64_t* holders
        if slot.payload_length > SMALL_PAYLOAD:
            holders = <uint64_t*>(slot.payload.large - LARGE_HEADER)
            if holders[0] > 1:
                holders[0] -= 1
            else:
                self.payload_bytes -= slot.payload_length
                if self.readers:
                    self.graveyard.push_back(<uint8_t*>holders)
                else:
                    free(holders)
        slot.payload_length = 0
        slot.flags &= ~SLOT_HAS_PAYLOAD

    cdef void bury(self) noexcept nogil:
        cdef size_t i
        if self.readers == 0 and not self.graveyard.empty():
            for i in range(self.graveyard.size()):
                free(self.graveyard[i])
            self.graveyard.clear()

    # -- references ------------------------------------------------------------------------------------

    cdef void hold(self, uint64_t id) noexcept nogil:
        cdef Slot* slot = self.slot(id)
        if slot != NULL:
            slot.references += 1

    cdef void let_go(self, uint64_t id) noexcept nogil:
        cdef Slot* slot = self.slot(id)
        if slot != NULL:
            slot.references -= 1
            if slot.references == 0:
                self.released.push_back(id)
