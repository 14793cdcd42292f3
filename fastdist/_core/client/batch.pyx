"""Batches of tasks: from Python calls to TASKS frames.

A batch belongs to one call (submit, map, get). It keys, encodes and numbers its tasks and hands full frames to `send`
while it goes on, so a map of any length streams. Imports only `fastdist.errors` and other parts of `_core`.

One lock, shared by all batches of a client, is held from the first row of a frame until the frame is sent: ids of a
frame are consecutive, and no frame overtakes one that it depends on. Encoding runs Python code of the user, which may
submit again from the same thread: the inner batch then sends the outer one's rows first.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libcpp.vector cimport vector

from fastdist._core.client.futures cimport FutureSlot, FutureTable
from fastdist._core.client.slots cimport Slot, hash_key
from fastdist._core.codec.frames cimport NO_FUNCTION, ColumnWriter
from fastdist._core.codec.values cimport encode_arguments_into

from fastdist.errors import FrameError

NO_OPTIONS = <uint32_t>NONE
WANTED = ROW_WANTED
INLINE = ROW_INLINE

cdef enum:
    LAST_FRAME = 1              # flags of a frame
    NESTED = 2

cdef dict NO_KEYWORDS = {}


@cython.final
cdef class TaskBatch:
    """Turns calls into TASKS frames.

    Parameters
    ----------
    table : FutureTable
    send : callable
        Called with the body of each frame while the lock is held.
    lock : threading.RLock
        Shared by all batches of the table.
    encode_fallback : callable
        `(args, kwargs, future_type) -> (payload, references)` for arguments that the compiled encoding does not know.
    is_new_function : callable
        `hash -> bool`: whether the scheduler still needs the pickle; called under the lock, once per function and
        frame.
    make_room : callable, optional
        Called before a frame is begun, without the lock: it may wait until there is room for another one.
    submission : int
        The number of the submission.
    fifo_timeout : int
        Microseconds within which submissions count as one for their order.
    max_bytes : int
        A frame is sent before its keys, arguments and functions exceed this, unless one task alone does.
    limit : int
        A task that makes a frame longer than this is refused with a FrameError.
    """

    def __cinit__(
        self, FutureTable table not None, send, lock, encode_fallback, is_new_function, make_room=None,
        uint64_t submission=0, uint64_t fifo_timeout=100_000, uint64_t max_bytes=8 << 20, uint64_t limit=1 << 31,
    ):
        self.table = table
        self.send = send
        self.lock = lock
        self.encode_fallback = encode_fallback
        self.is_new_function = is_new_function
        self.make_room = make_room
        self.submission = submission
        self.fifo_timeout = fifo_timeout
        self.limit = limit
        self.max_bytes = min(max_bytes, limit)
        self.writer = ColumnWriter(14)
        self.functions = []
        self.function_numbers = {}
        self.frame_functions = []
        self.options = []
        self.frame_options = []

    def add_function(self, bytes hash, bytes payload) -> int:
        """Make a function known to this batch; its number is what `add` takes."""
        if len(hash) != 16:
            raise ValueError(f"the hash of a function has 16 bytes, not {len(hash)}")
        # Different functions may have the same bytes: a frame names each hash once.
        number = self.function_numbers.setdefault(hash, len(self.functions))
        if number == len(self.functions):
            self.functions.append((hash, payload))
            self.function_places.push_back(NONE)
        return number

    def add_options(self, bytes packed) -> int:
        """Make a packed msgpack map of options known to this batch; its number is what `add` takes."""
        self.options.append(packed)
        self.option_places.push_back(NONE)
        return len(self.options) - 1

    # -- rows --------------------------------------------------------------------------------------------------

    def map(
        self, rows, uint64_t expected, make_key, make_other_key, dict kwargs, uint32_t function, uint32_t option=NONE
    ) -> list:
        """Add one task per row and return their futures, in order.

        Parameters
        ----------
        rows : iterable of tuple
            The arguments of each task.
        expected : int
            About how many rows there are.
        make_key : callable
            `args -> canonical key bytes`, or None for arguments that have no key of their own.
        make_other_key : callable
            Called without arguments for such a row.
        kwargs : dict
            Keyword arguments of every task.
        function, option : int
            Numbers given by `add_function` and `add_options`.
        """
        cdef list futures = []
        cdef tuple args
        cdef bytes key
        for args in rows:
            key = make_key(args)
            if key is None:
                key = make_other_key()
            futures.append(self.add(key, function, args, kwargs, option, expected))
            if expected > 1:
                expected -= 1
        return futures

    cpdef FutureSlot add(
        self, bytes key, uint32_t function, tuple args, dict kwargs=NO_KEYWORDS, uint32_t option=NONE,
        uint64_t expected=1,
    ):
        """Add one task, unless its key is known already, and return a future of it."""
        cdef const uint8_t* data
        cdef uint32_t length
        cdef uint64_t known
        cdef bint is_new
        if key is None:
            raise TypeError("the key of a task must be bytes")
        data = <const uint8_t*>PyBytes_AS_STRING(key)
        length = <uint32_t>PyBytes_GET_SIZE(key)
        known = self.table.find(data, length, hash_key(data, length))
        if known:
            return self.table.make_future(known)
        self.stage(args, kwargs, [])
        return self.table.make_future(
            self.put_row(data, length, function, option, ROW_WANTED | ROW_INLINE, expected, &is_new)
        )

    def add_reference(self, bytes key not None) -> FutureSlot:
        """A future of a task that exists already under this key."""
        cdef const uint8_t* data = <const uint8_t*>PyBytes_AS_STRING(key)
        cdef uint32_t length = <uint32_t>PyBytes_GET_SIZE(key)
        cdef bint is_new
        self.staging.clear()
        self.inputs.clear()
        return self.table.make_future(
            self.put_row(data, length, NONE, NONE, ROW_WANTED | ROW_INLINE, 1, &is_new)
        )

    cdef int stage(self, tuple args, dict kwargs, list references) except -1:
        cdef bytes payload
        self.staging.clear()
        if not encode_arguments_into(self.staging, args, kwargs or None, self.table.future_type, references):
            payload, references = self.encode_fallback(args, kwargs, self.table.future_type)
            self.staging.assign(
                <uint8_t*>PyBytes_AS_STRING(payload), <uint8_t*>PyBytes_AS_STRING(payload) + PyBytes_GET_SIZE(payload)
            )
        self.inputs.clear()
        if references:
            self.take_inputs(references)
        return 0

    cdef int take_inputs(self, list references) except -1:
        cdef FutureSlot future
        for future in references:
            if future.table is not self.table:
                raise ValueError(f"{future!r} belongs to another client and cannot be an input of this one's tasks")
            if future.live_slot() == NULL:
                raise ValueError(f"{future!r} was released and cannot be an input any more")
            self.inputs.push_back(future.id)
        return 0

    cdef uint64_t put_row(
        self, const uint8_t* key, uint32_t key_length, uint32_t function, uint32_t option, uint8_t flags,
        uint64_t expected, bint* is_new,
    ) except 0:
        cdef ColumnWriter writer = self.writer
        cdef uint64_t hash = hash_key(key, key_length)
        cdef uint64_t id
        cdef uint32_t place
        cdef size_t i
        self.check_size(key_length, function)
        if self.rows == self.reserved or self.frame_bytes + key_length + self.staging.size() > self.max_bytes:
            if self.rows:
                self.flush(False)
        if not self.first_id:
            self.open_frame(expected)
        id = self.table.find(key, key_length, hash)
        is_new[0] = id == 0
        if id:
            return id
        place = NO_FUNCTION
        if function != NONE:
            place = self.place_of(self.function_places, function, self.functions, self.frame_functions)
        if option == NONE:
            option = 0
        else:
            option = self.place_of(self.option_places, option, self.options, self.frame_options) + 1
            self.explicit_options = True
        id = self.first_id + self.rows
        if flags & ROW_WANTED:
            self.table.fill(id, key, key_length, hash)
        # C only from here: the frame and the table never disagree.
        writer.put_piece(1, 2, key, key_length)
        writer.put_u32(3, place)
        writer.put_piece(4, 5, self.staging.data(), self.staging.size())
        for i in range(self.inputs.size()):
            writer.put_u64(7, self.inputs[i])
            self.table.hold(self.inputs[i])
            self.pinned.push_back(self.inputs[i])
        writer.put_u32(6, <uint32_t>(writer.size(7) // 8))
        writer.put_u32(8, self.order)
        writer.put_u32(9, option)
        writer.put_u8(10, flags)
        self.explicit_flags |= flags != ROW_WANTED | ROW_INLINE
        self.frame_bytes += key_length + self.staging.size() + 8 * self.inputs.size()
        self.order += 1
        self.rows += 1
        writer.n_rows += 1
        return id

    cdef int check_size(self, uint32_t key_length, uint32_t function) except -1:
        cdef uint64_t code = 0
        if function < self.function_places.size():
            code = len(self.functions[function][1])
        if key_length + code + self.staging.size() + FRAME_MARGIN > self.limit:
            raise FrameError(
                f"the function of a task takes {code} bytes and its arguments {self.staging.size()}, more than the "
                f"{self.limit} that a frame can hold (the setting comm.max-frame-bytes); scatter large data first and "
                "pass the future"
            )
        return 0

    cdef uint32_t place_of(
        self, vector[uint32_t]& places, uint32_t number, list source, list target
    ) except? 0xFFFFFFFE:
        if number >= places.size():
            raise IndexError(f"this batch has no function or options with the number {number}")
        if places[number] == NONE:
            target.append(source[number])
            places[number] = <uint32_t>(len(target) - 1)
            if target is self.frame_functions:
                self.frame_bytes += len(source[number][1])
        return places[number]

    # -- frames ------------------------------------------------------------------------------------------------

    cdef int open_frame(self, uint64_t expected) except -1:
        cdef uint32_t column
        cdef size_t i
        if self.closed:
            raise ValueError("this batch is finished")
        if self.make_room is not None and self.table.open_batch is None:
            self.make_room()
        self.lock.acquire()
        try:
            if self.table.open_batch is not None:
                (<TaskBatch>self.table.open_batch).flush(False)
            self.reserved = min(max(expected, <uint64_t>1), <uint64_t>MAX_ROWS)
            self.first_id = self.table.reserve(self.reserved)
        except BaseException:
            self.lock.release()
            raise
        self.table.open_batch = self
        self.rows = 0
        self.frame_bytes = 0
        self.explicit_options = self.explicit_flags = False
        self.explicit_order |= self.frames > 0
        for column in (1, 4, 6, 11):
            self.writer.put_u32(column, 0)
        for i in range(self.function_places.size()):
            self.function_places[i] = NONE
        for i in range(self.option_places.size()):
            self.option_places[i] = NONE
        return 0

    cdef int close_frame(self) except -1:
        # Gives back what the frame held; the lock stays with the caller.
        cdef size_t i
        self.table.unreserve(self.first_id + self.rows, self.reserved - self.rows)
        for i in range(self.pinned.size()):
            self.table.let_go(self.pinned[i])
        self.pinned.clear()
        self.writer.clear()
        self.frame_functions = []
        self.frame_options = []
        self.table.open_batch = None
        self.first_id = 0
        self.rows = 0
        self.reserved = 0
        return 0

    cdef int flush(self, bint last) except -1:
        cdef bytes body
        cdef uint64_t first = self.first_id
        cdef uint64_t end = first + self.rows
        if not first:
            return 0
        try:
            try:
                body = self.build(last)
                # Rows that nobody holds a Future of have no slot; their ids are spent.
                self.spend_unwanted()
            finally:
                self.close_frame()
            self.frames += 1
            self.send(body)
        except BaseException:
            self.cancel_rows(first, end)
            raise
        finally:
            self.lock.release()
        return 0

    cdef void cancel_rows(self, uint64_t first, uint64_t end) noexcept:
        # The scheduler will never hear of them.
        cdef uint64_t id
        cdef Slot* slot
        for id in range(first, end):
            slot = self.table.slot(id)
            if slot != NULL:
                self.table.cancel_slot(id, slot)

    cdef void spend_unwanted(self) noexcept:
        cdef uint64_t id
        if self.explicit_flags:
            for id in range(self.first_id, self.first_id + self.rows):
                if self.table.slot(id) == NULL:
                    self.table.leave_chunk(id >> 10, 1)

    cdef bytes build(self, bint last):
        cdef ColumnWriter writer = self.writer
        cdef bytes hash, payload, packed
        cdef uint64_t header[4]
        header[0] = self.first_id
        header[1] = LAST_FRAME * last | NESTED * self.nested
        header[2] = self.submission
        header[3] = self.fifo_timeout
        writer.put(0, header, sizeof(header))
        if not self.explicit_order:
            writer.columns[8].clear()
        if not self.explicit_options:
            writer.columns[9].clear()
        if not self.explicit_flags:
            writer.columns[10].clear()
        for hash, payload in self.frame_functions:
            writer.put(12, PyBytes_AS_STRING(hash), 16)
            if self.is_new_function(hash):
                writer.put(12, PyBytes_AS_STRING(payload), PyBytes_GET_SIZE(payload))
            writer.put_u32(11, <uint32_t>writer.size(12))
        put_array_header(writer, <uint32_t>len(self.frame_options))
        for packed in self.frame_options:
            writer.put(13, PyBytes_AS_STRING(packed), PyBytes_GET_SIZE(packed))
        return writer.finish()

    def finish(self) -> None:
        """Send what is left; the last frame says so."""
        if self.closed:
            return
        if not self.first_id and self.frames:
            self.open_frame(1)
        self.flush(True)
        self.closed = True

    def abort(self) -> None:
        """Forget the rows of the open frame: no frame will name them. Frames that were sent stay."""
        cdef uint64_t id
        self.closed = True
        if not self.first_id:
            return
        try:
            for id in range(self.first_id, self.first_id + self.rows):
                if self.table.slot(id) != NULL:
                    self.table.drop(id)
                else:
                    self.table.leave_chunk(id >> 10, 1)
            self.close_frame()
        finally:
            self.lock.release()


cdef void put_array_header(ColumnWriter writer, uint32_t length) noexcept:
    # msgpack "array 32", big endian
    cdef uint8_t header[5]
    cdef int i
    header[0] = 0xDD
    for i in range(4):
        header[1 + i] = <uint8_t>(length >> (24 - 8 * i))
    writer.put(13, header, 5)
