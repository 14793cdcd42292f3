"""The memory of keys and arguments.

Every task has one entry, with its key and its arguments, in a segment of 64 KiB or, if it is larger, one of its own. A
segment that is not written any more is given back when nothing in it lives, and moved when less than half of it does.
May import: _core/keys, the record of a task.
"""

cimport cython
from cython.operator cimport dereference
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy
from libcpp.vector cimport vector

from fastdist._core.keys.table cimport KeyTable
from fastdist._core.scheduler.records cimport NONE, SLAB_BITS, SLAB_TASKS, Slab, Task


cdef inline Task* task_at(vector[Slab]* slabs, uint32_t slot) noexcept nogil:
    return &dereference(slabs)[slot >> SLAB_BITS].tasks[slot & (SLAB_TASKS - 1)]


cdef const uint8_t* _key_of(void* context, uint32_t slot, uint32_t* length) noexcept nogil:
    cdef KeyPlace* place = <KeyPlace*>context
    cdef Task* task = task_at(place.slabs, slot)
    cdef uint8_t* entry = dereference(place.segments)[task.segment].data + task.offset
    length[0] = (<uint32_t*>entry)[1]
    return entry + ENTRY_HEADER


@cython.final
cdef class Payload:
    """Keys and arguments of all tasks."""

    def __cinit__(self):
        self.current_segment = NONE

    def __dealloc__(self):
        cdef size_t i
        for i in range(self.segments.size()):
            free(self.segments[i].data)

    cdef int bind(self, vector[Slab]* slabs, KeyTable keys) except -1:
        self.key_place.slabs = slabs
        self.key_place.segments = &self.segments
        keys.bind(_key_of, &self.key_place)
        return 0

    cdef int open_segment(self, uint32_t size) except -1:
        """Make a segment with room for `size` bytes the current one."""
        cdef Segment segment
        cdef uint32_t number, old = self.current_segment
        segment.capacity = size if size > SEGMENT_BYTES else <uint32_t>SEGMENT_BYTES
        segment.used = 0
        segment.live = 0
        segment.data = <uint8_t*>malloc(segment.capacity)
        if segment.data == NULL:
            raise MemoryError("no memory for a payload segment")
        if self.free_segments.empty():
            number = <uint32_t>self.segments.size()
            self.segments.push_back(segment)
        else:
            number = self.free_segments.back()
            self.free_segments.pop_back()
            self.segments[number] = segment
        self.current_segment = number
        if old != NONE:
            self._tidy_segment(old)
        return 0

    cdef int _tidy_segment(self, uint32_t number) except -1:
        """Give a segment back if nothing in it lives, or move what lives if that is less than half."""
        if self.segments[number].live == 0:
            self._free_segment(number)
        elif self.segments[number].live < self.segments[number].used // 2:
            self.compact(number)
        return 0

    cdef void _free_segment(self, uint32_t number) noexcept:
        free(self.segments[number].data)
        self.segments[number].data = NULL
        self.segments[number].capacity = 0
        self.segments[number].used = 0
        self.free_segments.push_back(number)

    cdef int store(self, uint32_t slot, const uint8_t* key, uint32_t key_length,
                   const uint8_t* arguments, uint32_t arguments_length) except -1:
        cdef uint64_t wide = (<uint64_t>ENTRY_HEADER + key_length + arguments_length + 3) & ~<uint64_t>3
        cdef uint32_t size = <uint32_t>wide
        cdef Task* task = task_at(self.key_place.slabs, slot)
        cdef Segment* segment
        cdef uint8_t* target
        if wide > 0xFFFFFFF0:
            raise ValueError("the arguments of a task are larger than 4 GiB")
        # Tidying the segment before may fill the new one.
        while self.current_segment == NONE or (
            self.segments[self.current_segment].capacity - self.segments[self.current_segment].used < size
        ):
            self.open_segment(size)
        segment = &self.segments[self.current_segment]
        target = segment.data + segment.used
        (<uint32_t*>target)[0] = slot
        (<uint32_t*>target)[1] = key_length
        (<uint32_t*>target)[2] = arguments_length
        memcpy(target + ENTRY_HEADER, key, key_length)
        if arguments_length:
            memcpy(target + ENTRY_HEADER + key_length, arguments, arguments_length)
        task.segment = self.current_segment
        task.offset = segment.used
        segment.used += size
        segment.live += size
        return 0

    cdef void drop(self, Task* task) noexcept:
        cdef uint8_t* entry
        cdef uint32_t number = task.segment
        cdef Segment* segment
        if number == NONE:
            return
        segment = &self.segments[number]
        entry = segment.data + task.offset
        segment.live -= (ENTRY_HEADER + (<uint32_t*>entry)[1] + (<uint32_t*>entry)[2] + 3) & ~<uint32_t>3
        (<uint32_t*>entry)[0] = NONE
        task.segment = NONE
        if number != self.current_segment:
            self._tidy_segment(number)
        elif segment.live == 0:
            if segment.capacity > SEGMENT_BYTES:
                self.current_segment = NONE
                self._free_segment(number)
            else:
                segment.used = 0

    cdef int compact(self, uint32_t number) except -1:
        """Move what lives in a segment to the current one and give the segment back."""
        cdef Segment old = self.segments[number]
        cdef uint32_t position = 0, size
        cdef uint32_t* entry
        self.segments[number].live = 0
        while position < old.used:
            entry = <uint32_t*>(old.data + position)
            size = (ENTRY_HEADER + entry[1] + entry[2] + 3) & ~<uint32_t>3
            if entry[0] != NONE:
                self.store(entry[0], <uint8_t*>entry + ENTRY_HEADER, entry[1],
                           <uint8_t*>entry + ENTRY_HEADER + entry[1], entry[2])
            position += size
        self._free_segment(number)
        return 0
