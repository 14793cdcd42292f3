# The worker core: frames and events in, tasks to execute, fetches and DONE frames out.
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libcpp.string cimport string
from libcpp.vector cimport vector

from fastdist._core.worker.frames cimport RunColumns
from fastdist._core.worker.model cimport Gate, TaskRecord
from fastdist._core.worker.ready cimport Need
from fastdist._core.worker.transitions cimport WorkerModel

cdef class WorkerCore(WorkerModel):
    cdef Gate gate
    cdef readonly dict functions            # function id -> its pickle, or what the shell made of it
    cdef readonly dict addresses            # worker number -> address
    cdef readonly dict options              # option id -> its bytes, for those that the shell reads
    cdef dict resource_numbers
    cdef object read_option                 # msgpack bytes of an option -> resources that it asks for
    cdef readonly uint32_t slots
    cdef readonly bint paused
    cdef readonly uint64_t stale            # rows that came too late to mean anything
    cdef vector[string] type_names          # by number
    cdef vector[uint32_t] scratch

    # For execution threads. Each locks; none needs the GIL.
    cdef TaskRecord* take(self) noexcept nogil
    cdef TaskRecord* wait(self) noexcept nogil
    cdef bint finish(self, TaskRecord* record, uint64_t nbytes, uint32_t type_number, float seconds,
                     const uint8_t* payload, size_t length, double now, TaskRecord** following) noexcept nogil
    cdef void discard(self, TaskRecord* record, double now) noexcept nogil
    cdef void fail(self, TaskRecord* record, uint64_t verdict, float seconds, const uint8_t* payload, size_t length,
                   double now) noexcept nogil
    cdef void give_up(self, TaskRecord* record, uint8_t status, float seconds, double now) noexcept nogil
    cdef uint32_t name_type(self, const uint8_t* name, size_t length) noexcept nogil
    cdef size_t done_size(self) noexcept nogil

    cdef void _leave(self, TaskRecord* record, double now) noexcept nogil
    cdef TaskRecord* _start(self) noexcept nogil
    cdef int _claim(self) noexcept nogil
    cdef long _room(self) noexcept nogil
    cdef int _learn(self, object reader) except -1
    cdef void _add_option(self, uint32_t option, vector[Need] needs) noexcept nogil
    cdef uint32_t _resource_number(self, str name) except? 0
    cdef void _run(self, RunColumns* columns, double now) noexcept nogil
    cdef void _run_row(self, RunColumns* columns, uint32_t row, double now) noexcept nogil
    cdef void _fill(self, TaskRecord* record, RunColumns* columns, uint32_t row, double now) noexcept nogil
    cdef TaskRecord* _input(self, RunColumns* columns, uint32_t place) noexcept nogil
    cdef void _lose_input(self, TaskRecord* record, double now) noexcept nogil
    cdef void _free(self, uint64_t task_id, double now) noexcept nogil
    cdef void _retract(self, uint64_t task_id, uint32_t attempt, double now) noexcept nogil
    cdef void _tidy(self) noexcept nogil
