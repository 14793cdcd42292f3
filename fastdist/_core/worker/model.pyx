"""The records of the worker core and the pool that owns them.

A task is one fixed-size record in a slab that never moves, so that records may point at each other; its key, its
edges and its arguments are one block of memory. Nothing here makes a Python object. May import: nothing.
"""

cimport cython
from libc.stdint cimport uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

cdef enum:
    SLAB_RECORDS = 512
    SMALLEST_TABLE = 1024


cdef inline size_t spread(uint64_t task_id) noexcept nogil:
    # Task ids are dense in both halves; the multiplication spreads them over the table (finaliser of a 64-bit mix).
    task_id ^= task_id >> 32
    task_id *= <uint64_t>0x9E3779B97F4A7C15
    return <size_t>(task_id >> 20)


@cython.final
cdef class RecordPool:
    """Owns the records of one worker core and finds them by task id."""

    def __cinit__(self):
        self.free_list = NULL
        self.live = 0
        self.table.resize(SMALLEST_TABLE)

    def __dealloc__(self):
        cdef TaskRecord* slab
        cdef size_t i
        for slab in self.slabs:
            for i in range(SLAB_RECORDS):
                free(slab[i].payload)
            free(slab)

    cdef TaskRecord* find(self, uint64_t task_id) noexcept nogil:
        cdef size_t mask = self.table.size() - 1
        cdef size_t place = spread(task_id) & mask
        cdef TaskRecord* record = self.table[place]
        while record != NULL:
            if record.task_id == task_id:
                return record
            place = (place + 1) & mask
            record = self.table[place]
        return NULL

    cdef TaskRecord* create(self, uint64_t task_id) noexcept nogil:
        """A zeroed record for a task id that has none."""
        cdef size_t mask, place
        cdef TaskRecord* record
        if 2 * (self.live + 1) > self.table.size():
            self._resize(2 * self.table.size())
        if self.free_list == NULL:
            self._add_slab()
        record = self.free_list
        self.free_list = record.next_free
        memset(record, 0, sizeof(TaskRecord))
        record.task_id = task_id
        mask = self.table.size() - 1
        place = spread(task_id) & mask
        while self.table[place] != NULL:
            place = (place + 1) & mask
        self.table[place] = record
        self.live += 1
        return record

    cdef void remove(self, TaskRecord* record) noexcept nogil:
        """Take the record out of the table and free its block."""
        cdef size_t mask = self.table.size() - 1
        cdef size_t hole = spread(record.task_id) & mask
        cdef size_t place, home
        while self.table[hole] != record:
            hole = (hole + 1) & mask
        # Entries behind the hole move up unless that would put them before their home, so no tombstones are needed.
        place = (hole + 1) & mask
        while self.table[place] != NULL:
            home = spread(self.table[place].task_id) & mask
            if ((place - home) & mask) >= ((place - hole) & mask):
                self.table[hole] = self.table[place]
                hole = place
            place = (place + 1) & mask
        self.table[hole] = NULL
        free(record.payload)
        record.payload = NULL
        record.state = RELEASED
        record.arrival = 0
        record.next_free = self.free_list
        self.free_list = record
        self.live -= 1
        if self.table.size() > SMALLEST_TABLE and 16 * self.live < self.table.size():
            self._resize(self.table.size() // 4)

    cdef void _resize(self, size_t size) noexcept nogil:
        cdef vector[TaskRecord*] old
        cdef TaskRecord* record
        cdef size_t mask, place
        if size < SMALLEST_TABLE:
            size = SMALLEST_TABLE
        old.swap(self.table)
        self.table.resize(size)
        mask = size - 1
        for record in old:
            if record != NULL:
                place = spread(record.task_id) & mask
                while self.table[place] != NULL:
                    place = (place + 1) & mask
                self.table[place] = record

    cdef void rehash(self) noexcept nogil:
        """The ids of records have changed."""
        self._resize(self.table.size())

    cdef void _add_slab(self) noexcept nogil:
        cdef TaskRecord* slab = <TaskRecord*>calloc(SLAB_RECORDS, sizeof(TaskRecord))
        cdef size_t i
        self.slabs.push_back(slab)
        for i in range(SLAB_RECORDS):
            slab[SLAB_RECORDS - 1 - i].next_free = self.free_list
            self.free_list = &slab[SLAB_RECORDS - 1 - i]

    cdef void trim(self) noexcept nogil:
        """Give the memory back; no record is left and nobody points at one. One slab stays."""
        cdef size_t i
        if self.table.size() > SMALLEST_TABLE:
            self._resize(SMALLEST_TABLE)
        if self.slabs.size() <= 1:
            return
        for i in range(1, self.slabs.size()):
            free(self.slabs[i])
        self.slabs.resize(1)
        self.free_list = NULL
        for i in range(SLAB_RECORDS):
            self.slabs[0][SLAB_RECORDS - 1 - i].next_free = self.free_list
            self.free_list = &self.slabs[0][SLAB_RECORDS - 1 - i]
