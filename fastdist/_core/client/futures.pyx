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
from libc.string cimport memcpy
from libcpp.vector cimport vector

from fastdist._core.client.slots cimport (
    CHUNK_BITS,
    NO_TYPE,
    SLOT_HAS_PAYLOAD,
    SLOT_WATCHED,
    SMALL_PAYLOAD,
    Slot,
    SlotTable,
    hash_key,
    is_done,
    payload_of,
)
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


cdef inline bint is_failure(uint8_t status) noexcept nogil:
    return status == STATUS_ERRED or status == STATUS_CANCELLED or status == STATUS_LOST


@cython.final
cdef class FutureTable(SlotTable):
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
        self.waiters = []
        self.type_names = []
        self.type_numbers = {}
        self.errors = {}

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
        if len(set(keys)) != len(keys):
            raise ValueError("a key is given twice")
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
        for id in list(self.errors):
            if self.slot(id) == NULL:
                self.errors.pop(id, None)
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
        cdef StateRows rows
        cdef vector[uint32_t] numbers
        cdef uint64_t i
        cdef Slot* slot
        self.read_state(reader, &rows, numbers)
        self.apply_state(&rows, numbers)
        if self.errors:
            for i in range(rows.n):
                slot = self.slot(rows.ids[i])
                if slot == NULL or slot.status != STATUS_CANCELLED:
                    self.errors.pop(rows.ids[i], None)
        self.fire_waiters()
        return self.take_watched()

    cdef int read_state(self, ColumnReader reader, StateRows* rows, vector[uint32_t]& numbers) except -1:
        # Checks the frame; `numbers` are this table's numbers of the types that it names.
        cdef uint64_t n = reader.n_rows
        cdef uint64_t n_types = reader.length_of(6, 4)
        cdef const uint32_t* type_offsets
        cdef uint64_t i
        cdef bint known = True
        rows.n = n
        rows.ids = <const uint64_t*>reader.fixed(0, n, 8)
        rows.status = reader.fixed(1, n, 1)
        rows.sizes = <const uint64_t*>reader.fixed(2, n, 8)
        rows.types = <const uint32_t*>reader.fixed(3, n, 4)
        rows.offsets = reader.offsets(4, 5, n)
        rows.payloads = reader.starts[5]
        if n_types == 0:
            raise FrameError("a STATE frame has no offsets of type names")
        n_types -= 1
        type_offsets = reader.offsets(6, 7, n_types)
        for i in range(n):
            known &= rows.status[i] <= STATUS_LOST
        if not known:
            raise FrameError("a STATE frame has a row with an unknown status")
        for i in range(n_types):
            numbers.push_back(self.type_number(
                reader.starts[7][type_offsets[i]:type_offsets[i + 1]].decode("utf-8", "replace")
            ))
        return 0

    cdef void apply_state(self, StateRows* rows, const vector[uint32_t]& numbers) noexcept nogil:
        cdef Slot* slot
        cdef Slot* teller = NULL            # keeps the error of the last row that has one of its own
        cdef const uint8_t* error = NULL
        cdef uint32_t error_length = 0
        cdef uint32_t length
        cdef uint64_t i
        for i in range(rows.n):
            length = rows.offsets[i + 1] - rows.offsets[i]
            if length and is_failure(rows.status[i]):
                teller = NULL
                error = rows.payloads + rows.offsets[i]
                error_length = length
            slot = self.slot(rows.ids[i])
            if slot == NULL or slot.status == STATUS_CANCELLED:
                continue
            if not length and rows.status[i] == STATUS_FINISHED and slot.status == STATUS_FINISHED:
                # Told again, after the connection broke: the result may be here already.
                continue
            if rows.status[i] == STATUS_CANCELLED:
                self.cancel_slot(rows.ids[i], slot)
            elif rows.status[i] == STATUS_LOST:
                self.unindex(rows.ids[i], slot)
            slot.status = rows.status[i]
            slot.size = rows.sizes[i]
            slot.type = numbers[rows.types[i]] if rows.types[i] < numbers.size() else NO_TYPE
            if slot == teller:
                teller = NULL
            if not is_failure(rows.status[i]):
                self.free_payload(slot)
                if length:
                    self.store_payload(slot, rows.payloads + rows.offsets[i], length, slot.status == STATUS_FINISHED)
            elif teller != NULL:
                self.share_payload(slot, teller)
            else:
                self.free_payload(slot)
                if error_length:
                    self.store_payload(slot, error, error_length, False)
                    teller = slot
            if rows.status[i] == STATUS_ERRED or rows.status[i] == STATUS_LOST:
                self.failures += 1
            if slot.flags & SLOT_WATCHED and is_done(slot):
                slot.flags &= ~SLOT_WATCHED
                self.watched.push_back(rows.ids[i])

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

    def reset(self, futures) -> None:
        """Mark failed futures pending: their tasks are tried again."""
        cdef FutureSlot future
        cdef Slot* slot
        for future in futures:
            slot = future.live_slot()
            if slot != NULL and future.table is self and slot.status == STATUS_ERRED:
                self.free_payload(slot)
                slot.status = STATUS_PENDING
                self.errors.pop(future.id, None)

    def cancel_all(self) -> list[int]:
        """Mark every future cancelled (closed, or the connection was lost); watched ids are returned."""
        cdef uint64_t id
        cdef Slot* slot
        for id in range(self.first_chunk << CHUNK_BITS, self.next_id):
            slot = self.slot(id)
            if slot != NULL and not is_failure(slot.status):
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
        cdef object interrupt = None
        if not self.waiters:
            return 0
        fired = [waiter for waiter in self.waiters if not waiter.done and waiter.advance()]
        if fired:
            self.waiters = [waiter for waiter in self.waiters if not waiter.done]
            for waiter in fired:
                try:
                    waiter.notify()
                except BaseException as error:
                    # Ctrl-C in the thread that read this: whoever else waits must hear of it all the same.
                    interrupt = error
                    waiter.notify()
            if interrupt is not None:
                raise interrupt
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
        # What was given back may live on for others, or until the next RELEASE frame: not for this object.
        if self.table is None or self.kept_key is not None:
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
    def references(self) -> int:
        """How many references there are on the id, this one included."""
        cdef Slot* slot = self.live_slot()
        return slot.references if slot != NULL else 0

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
        Called without arguments, by whoever applies the frame that ends the wait; again if it was interrupted.
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
                if slot == NULL or is_failure(slot.status):
                    self.failed = True
                    self.done = True
                    break
        return self.done

    def __dealloc__(self):
        cdef size_t i
        if self.table is not None:
            for i in range(self.ids.size()):
                self.table.let_go(self.ids[i])
