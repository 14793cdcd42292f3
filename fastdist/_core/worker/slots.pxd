# Slots that executing tasks give back and take again.
from fastdist._core.worker.core cimport WorkerCore
from fastdist._core.worker.model cimport TaskRecord

cdef void note_started(WorkerCore core, TaskRecord* record, double now) noexcept nogil
cdef void leave_slot(WorkerCore core, TaskRecord* record, bint seceded, double now) noexcept nogil
cdef void take_slot(WorkerCore core, TaskRecord* record, bint at_once, double now) noexcept nogil
cdef void relax(WorkerCore core, double since) noexcept nogil
cdef double waits_since(WorkerCore core) noexcept nogil
