"""Future slots: what a client knows about each of its tasks, without a collector-tracked object per task.

A slot is a C struct in a chunk; its number is the client id. A `FutureSlot` (the base of the public Future) holds
the table and the id, nothing else. Imports only `fastdist.errors` and other parts of `_core`.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.list cimport PyList_SET_ITEM
from cpython.ref cimport Py_INCREF
from cpython.tuple cimport PyTuple_GET_ITEM
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp, memcpy, memset
from libcpp.vector cimport vector

from fastdist._core.codec.frames cimport (
    STATUS_CANCELLED,
    STATUS_ERRED,
    STATUS_FINISHED,
    STATUS_LOST,
    STATUS_PENDING,
    ColumnReader,
    ColumnWriter,
)
from fastdist._core.codec.values cimport decode_result

from fastdist.errors import FrameError


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


cdef inline bint is_done(Slot* slot) noexcept nogil:
    return slot.status != STATUS_PENDING and slot.status != STATUS_LOST


cdef inline uint8_t* payload_of(Slot* slot) noexcept nogil:
    if slot.payload_length <= SMALL_PAYLOAD:
        return slot.payload.small
    return slot.payload.large


@cython.final
cdef class FutureTable:
    """The slots of one client.

    Parameters
    ----------
    future_type : type
        What to make for a task: a subclass of FutureSlot with empty `__slots__`.
    payload_limit : int
        How many bytes of inline results are kept; over it, results are not kept and have to be gathered.
    """

    def __cinit__(self, type future_type, uint64_t payload_limit):
        if not issubclass(future_type, FutureSlot):
            raise TypeError(f"futures must be made of a subclass of FutureSlot, not of {future_type!r}")
        self.future_type = future_type
        self.payload_limit = payload_limit
        self.next_id = 1
        self.waiters = []
        self.type_names = []
        self.type_numbers = {}
        self.errors = {}
        self.resize_index(64)

    def __dealloc__(self):
        cdef Chunk* chunk
        cdef size_t i, j
        for i in range(self.chunks.size()):
            chunk = self.chunks[i]
            if chunk == NULL:
                continue
            for j in range(<size_t>CHUNK_SLOTS):
                if chunk.slots[j].payload_length > SMALL_PAYLOAD:
                    free(chunk.slots[j].payload.large)
            del chunk.keys
            free(chunk)
        self.readers = 0
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
        if slot.flags & SLOT_INDEXED:
            self.index_remove(id, slot.key_hash)
        self.free_payload(slot)
        slot.flags = 0
        self.live -= 1
        self.leave_chunk(id >> CHUNK_BITS, 1)

    cdef void cancel_slot(self, uint64_t id, Slot* slot) noexcept nogil:
        # Final for this id: its key is free to be submitted again under another one.
        if slot.flags & SLOT_INDEXED:
            self.index_remove(id, slot.key_hash)
        self.free_payload(slot)
        slot.flags &= ~SLOT_INDEXED
        slot.status = STATUS_CANCELLED
        self.failures += 1
        if slot.flags & SLOT_WATCHED:
            slot.flags &= ~SLOT_WATCHED
            self.watched.push_back(id)

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
            copy = <uint8_t*>malloc(length)
            if copy == NULL:
                self.dropped_payloads += 1
                return
            memcpy(copy, data, length)
            slot.payload.large = copy
            self.payload_bytes += length
        slot.payload_length = length
        slot.flags |= SLOT_HAS_PAYLOAD

    cdef void free_payload(self, Slot* slot) noexcept nogil:
        if slot.payload_length > SMALL_PAYLOAD:
            self.payload_bytes -= slot.payload_length
            if self.readers:
                self.graveyard.push_back(slot.payload.large)
            else:
                free(slot.payload.large)
        slot.payload_length = 0
        slot.flags &= ~SLOT_HAS_PAYLOAD

    cdef void bury(self) noexcept nogil:
        cdef size_t i
        if self.readers == 0 and not self.graveyard.empty():
            for i in range(self.graveyard.size()):
                free(self.graveyard[i])
            self.graveyard.clear()

    cdef object decode(self, Slot* slot):
        # Decoding makes objects, so the collector may run anything meanwhile: work on bytes that stay.
        cdef uint8_t small[SMALL_PAYLOAD]
        cdef uint32_t length = slot.payload_length
        if length <= SMALL_PAYLOAD:
            memcpy(small, slot.payload.small, SMALL_PAYLOAD)
            return decode_result(small, length)
        self.readers += 1
        try:
            return decode_result(slot.payload.large, length)
        finally:
            self.readers -= 1
            self.bury()

    # -- references --------------------------------------------------------------------------------------------

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

    cdef FutureSlot make_future(self, uint64_t id):
        cdef FutureSlot future = self.future_type.__new__(self.future_type)
        future.table = self
        future.id = id
        self.hold(id)
        return future

    def future(self, uint64_t id) -> FutureSlot | None:
        """Another future of a live id, or None."""
        return self.make_future(id) if self.slot(id) != NULL else None

    def find_key(self, bytes key not None) -> int:
        """The live id that has this key (canonical bytes), or 0."""
        cdef const uint8_t* data = <const uint8_t*>PyBytes_AS_STRING(key)
        return self.find(data, <uint32_t>PyBytes_GET_SIZE(key), hash_key(data, PyBytes_GET_SIZE(key)))

    def add_keys(self, list keys) -> tuple[int, list]:
        """New slots for these keys (canonical bytes, none of them known): the first id, and their futures.

        Whoever calls holds the submission lock, since the ids are consecutive.
        """
        cdef bytes key
        cdef uint64_t first
        cdef Py_ssize_t i
        for key in keys:
            if self.find_key(key):
                raise ValueError(f"the key {key!r} is known already")
        first = self.reserve(max(<uint64_t>1, <uint64_t>len(keys)))
        for i, key in enumerate(keys):
            self.fill(
                first + i, <const uint8_t*>PyBytes_AS_STRING(key), <uint32_t>PyBytes_GET_SIZE(key),
                hash_key(<const uint8_t*>PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key)),
            )
        return first, [self.make_future(first + i) for i in range(len(keys))]

    def live_ids(self) -> list[int]:
        """All ids in use, in rising order."""
        cdef uint64_t id
        cdef uint64_t first = self.first_chunk << CHUNK_BITS
        return [id for id in range(first, self.next_id) if self.slot(id) != NULL]

    def release_frame(self, bytes function_hashes not None=b"") -> bytes | None:
        """The body of a RELEASE frame for what was let go since the last call, or None if there is nothing to send.

        Parameters
        ----------
        function_hashes : bytes
            Hashes of the functions that the client drops, 16 bytes each.
        """
        cdef ColumnWriter writer = ColumnWriter(2)
        cdef vector[uint64_t] released
        cdef Slot* slot
        cdef size_t i
        cdef uint64_t id
        cdef list forgotten = None
        released.swap(self.released)
        for i in range(released.size()):
            id = released[i]
            slot = self.slot(id)
            if slot == NULL or slot.references:
                continue
            self.drop(id)
            writer.put_u64(0, id)
            writer.n_rows += 1
        self.trim()
        if self.errors:
            forgotten = [self.errors.pop(id, None) for id in list(self.errors) if self.slot(id) == NULL]
        writer.put(1, PyBytes_AS_STRING(function_hashes), PyBytes_GET_SIZE(function_hashes))
        if writer.n_rows == 0 and not function_hashes:
            return None
        return writer.finish()

    # -- what the scheduler says -------------------------------------------------------------------------------

    cdef uint32_t type_number(self, str name) except? 0xFFFFFFFE:
        cdef object number = self.type_numbers.get(name)
        if number is None:
            if len(self.type_names) >= MAX_TYPE_NAMES:
                return NO_TYPE
            number = len(self.type_names)
            self.type_names.append(name)
            self.type_numbers[name] = number
        return number

    def on_state(self, body) -> list[int]:
        """Apply a STATE frame and wake the waiters whose futures are all done.

        Parameters
        ----------
        body : bytes-like
            The body of the frame.

        Returns
        -------
        list of int
            The watched ids that are done now; they are no longer watched.

        Raises
        ------
        FrameError
            If the frame is malformed; nothing is applied then.
        """
        cdef ColumnReader reader = ColumnReader(body, 8)
        cdef uint64_t n = reader.n_rows
        cdef uint64_t n_types = reader.length_of(6, 4)
        cdef const uint64_t* ids = <const uint64_t*>reader.fixed(0, n, 8)
        cdef const uint8_t* status = reader.fixed(1, n, 1)
        cdef const uint64_t* sizes = <const uint64_t*>reader.fixed(2, n, 8)
        cdef const uint32_t* types = <const uint32_t*>reader.fixed(3, n, 4)
        cdef const uint32_t* offsets = reader.offsets(4, 5, n)
        cdef const uint32_t* type_offsets
        cdef const uint8_t* payloads = reader.starts[5]
        cdef vector[uint32_t] numbers
        cdef uint64_t i
        cdef Slot* slot
        cdef bint known = True
        if n_types == 0:
            raise FrameError("a STATE frame has no offsets of type names")
        n_types -= 1
        type_offsets = reader.offsets(6, 7, n_types)
        for i in range(n):
            known &= status[i] <= STATUS_LOST
        if not known:
            raise FrameError("a STATE frame has a row with an unknown status")
        for i in range(n_types):
            numbers.push_back(self.type_number(
                reader.starts[7][type_offsets[i]:type_offsets[i + 1]].decode("utf-8", "replace")
            ))
        # C only from here ...
        for i in range(n):
            slot = self.slot(ids[i])
            if slot == NULL or slot.status == STATUS_CANCELLED:
                continue
            if status[i] == STATUS_CANCELLED:
                self.cancel_slot(ids[i], slot)
            slot.status = status[i]
            slot.size = sizes[i]
            slot.type = numbers[types[i]] if types[i] < n_types else NO_TYPE
            if offsets[i + 1] > offsets[i]:
                self.store_payload(
                    slot, payloads + offsets[i], offsets[i + 1] - offsets[i], status[i] == STATUS_FINISHED
                )
            else:
                self.free_payload(slot)
            if status[i] == STATUS_ERRED:
                self.failures += 1
            if slot.flags & SLOT_WATCHED and is_done(slot):
                slot.flags &= ~SLOT_WATCHED
                self.watched.push_back(ids[i])
        # ... to here.
        if self.errors:
            for i in range(n):
                slot = self.slot(ids[i])
                if slot == NULL or slot.status != STATUS_CANCELLED:
                    self.errors.pop(ids[i], None)
        self.fire_waiters()
        return self.take_watched()

    def cancel(self, futures) -> list[int]:
        """Mark futures cancelled on this side, so that their keys can be submitted anew; watched ids are returned."""
        cdef FutureSlot future
        cdef Slot* slot
        for future in futures:
            slot = future.live_slot()
            if slot != NULL and future.table is self and slot.status != STATUS_CANCELLED:
                self.cancel_slot(future.id, slot)
        self.fire_waiters()
        return self.take_watched()

    def cancel_all(self) -> list[int]:
        """Mark every future cancelled (closed, or the connection was lost); watched ids are returned."""
        cdef uint64_t id
        cdef Slot* slot
        for id in range(self.first_chunk << CHUNK_BITS, self.next_id):
            slot = self.slot(id)
            if slot != NULL and slot.status != STATUS_CANCELLED and slot.status != STATUS_ERRED:
                self.cancel_slot(id, slot)
        self.fire_waiters()
        return self.take_watched()

    cdef list take_watched(self):
        cdef vector[uint64_t] watched
        watched.swap(self.watched)
        return [watched[i] for i in range(watched.size())]

    def watch(self, FutureSlot future not None) -> bool:
        """Have `on_state` report this future once when it is done; False if it is done already (or gone)."""
        cdef Slot* slot = future.live_slot()
        if slot == NULL or is_done(slot):
            return False
        slot.flags |= SLOT_WATCHED
        return True

    # -- waiting and gathering ---------------------------------------------------------------------------------

    cdef int fire_waiters(self) except -1:
        cdef Waiter waiter
        cdef list fired
        if not self.waiters:
            return 0
        fired = [waiter for waiter in self.waiters if waiter.advance()]
        if fired:
            self.waiters = [waiter for waiter in self.waiters if not waiter.done]
            for waiter in fired:
                waiter.notify()
        return 0

    def gather(self, list futures not None) -> tuple[list, list[int]]:
        """The results that are here, and the positions of the futures whose results are not.

        Parameters
        ----------
        futures : list of FutureSlot
            Futures of this table.

        Raises
        ------
        TypeError, ValueError
            If an element is no future, or one of another client.
        """
        cdef tuple items = tuple(futures)
        cdef Py_ssize_t i, n = len(items)
        cdef list values = [None] * n
        cdef list missing = []
        cdef object value
        cdef Slot* slot
        for i in range(n):
            slot = self.checked_slot(<object>PyTuple_GET_ITEM(items, i))
            if slot != NULL and slot.status == STATUS_FINISHED and slot.flags & SLOT_HAS_PAYLOAD:
                value = self.decode(slot)
                Py_INCREF(value)
                PyList_SET_ITEM(values, i, value)
            else:
                missing.append(i)
        return values, missing

    cdef Slot* checked_slot(self, object item) except? NULL:
        if not isinstance(item, FutureSlot):
            raise TypeError(f"expected a Future, not {type(item).__name__}")
        if (<FutureSlot>item).table is not self:
            raise ValueError("this Future belongs to another client")
        return (<FutureSlot>item).live_slot()


@cython.no_gc
cdef class FutureSlot:
    """One reference on an id of a table. Its end is counted without a lock; the shell releases in batches.

    Not tracked by the collector: it holds the table, the id, and nothing that could lead back to it.
    """

    def __dealloc__(self):
        if self.table is not None and self.kept_key is None:
            self.table.let_go(self.id)

    cdef Slot* live_slot(self) noexcept:
        if self.table is None:
            return NULL
        return self.table.slot(self.id)

    def give_up(self) -> None:
        """Give the reference back now. The key stays readable."""
        cdef bytes key = self.key_bytes
        if self.kept_key is None:
            self.kept_key = key
            if self.table is not None:
                self.table.let_go(self.id)

    @property
    def is_released(self) -> bool:
        """Whether the reference was given back."""
        return self.kept_key is not None

    @property
    def key_bytes(self) -> bytes:
        """The canonical bytes of the key; empty for an object that was never bound."""
        cdef Slot* slot
        if self.kept_key is not None:
            return self.kept_key
        slot = self.live_slot()
        if slot == NULL:
            return b""
        return PyBytes_FromStringAndSize(<const char*>self.table.key_of(self.id, slot), slot.key_length)

    @property
    def state(self) -> int:
        """The TaskStatus; cancelled if nothing is known of the id any more."""
        cdef Slot* slot = self.live_slot()
        return slot.status if slot != NULL else STATUS_CANCELLED

    @property
    def size(self) -> int:
        """The size of the result in bytes; 0 as long as it is not known."""
        cdef Slot* slot = self.live_slot()
        return slot.size if slot != NULL else 0

    @property
    def type_name(self) -> str | None:
        """The name of the type of the result, or None."""
        cdef Slot* slot = self.live_slot()
        if slot == NULL or slot.type == NO_TYPE:
            return None
        return self.table.type_names[slot.type]

    @property
    def payload(self) -> bytes | None:
        """A copy of the payload that came with the last state, or None."""
        cdef Slot* slot = self.live_slot()
        if slot == NULL or not slot.flags & SLOT_HAS_PAYLOAD:
            return None
        return PyBytes_FromStringAndSize(<const char*>payload_of(slot), slot.payload_length)


@cython.final
cdef class Waiter:
    """Waits until all of some futures are done; costs O(n) in total, however many frames that takes.

    Parameters
    ----------
    table : FutureTable
    futures : iterable of FutureSlot
        Futures of that table; their ids are held until the waiter ends.
    notify : callable
        Called without arguments, once, by whoever applies the frame that ends the wait.
    stop_on_failure : bool
        Whether a future that erred or was cancelled ends the wait; `failed` is set then.
    """

    def __cinit__(self, FutureTable table not None, futures, object notify, bint stop_on_failure=False):
        cdef object future
        cdef list items = list(futures)
        self.table = table
        self.notify = notify
        self.stop_on_failure = stop_on_failure
        self.ids.reserve(len(items))
        for future in items:
            table.checked_slot(future)
            self.ids.push_back((<FutureSlot>future).id)
            table.hold((<FutureSlot>future).id)
        # Not equal to the table's count: what failed already is found by the first look.
        self.failures_seen = table.failures - 1

    def start(self) -> bool:
        """Begin to wait; True (and no call of `notify`) if there is nothing to wait for."""
        if not self.done and not self.advance():
            self.table.waiters.append(self)
        return self.done

    def stop(self) -> None:
        """Wait no longer; `notify` is not called any more."""
        if not self.done:
            self.table.waiters = [waiter for waiter in self.table.waiters if waiter is not self]

    cdef bint advance(self) noexcept nogil:
        cdef size_t n = self.ids.size()
        cdef size_t i
        cdef Slot* slot
        while self.position < n:
            slot = self.table.slot(self.ids[self.position])
            if slot != NULL and not is_done(slot):
                break
            self.position += 1
        self.done = self.position == n
        if self.stop_on_failure and self.failures_seen != self.table.failures:
            self.failures_seen = self.table.failures
            for i in range(n):
                slot = self.table.slot(self.ids[i])
                if slot == NULL or slot.status == STATUS_ERRED or slot.status == STATUS_CANCELLED:
                    self.failed = True
                    self.done = True
                    break
        return self.done

    def __dealloc__(self):
        cdef size_t i
        if self.table is not None:
            for i in range(self.ids.size()):
                self.table.let_go(self.ids[i])
