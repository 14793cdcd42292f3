# Slots that executing tasks give back and take again.
from libc.stdint cimport uint8_t, uint64_t

from fastdist._core.worker.core cimport WorkerCore
from fastdist._core.worker.model cimport TaskRecord

cdef bint watch(WorkerCore core, int descriptor) noexcept nogil
cdef TaskRecord* look(WorkerCore core) noexcept nogil
cdef void unwatch(WorkerCore core) noexcept nogil
cdef void note_started(WorkerCore core, TaskRecord* record, double now) noexcept nogil
cdef void leave_slot(WorkerCore core, TaskRecord* record, bint seceded, double now) noexcept nogil
cdef void take_slot(WorkerCore core, TaskRecord* record, bint at_once, double now) noexcept nogil
cdef void relax(WorkerCore core, double since) noexcept nogil
cdef double waits_since(WorkerCore core) noexcept nogil
cdef bint fail_early(WorkerCore core, TaskRecord* record, uint64_t verdict, float seconds, const uint8_t* payload,
                     size_t length, double now) noexcept nogil
