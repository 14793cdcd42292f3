# The heap of tasks that may start, and the resources that hold some of them back.
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libcpp.pair cimport pair
from libcpp.unordered_map cimport unordered_map
from libcpp.vector cimport vector

from fastdist._core.worker.model cimport TaskRecord

cdef struct Entry:
    double priority
    uint64_t order
    uint64_t arrival
    TaskRecord* record

ctypedef pair[uint32_t, double] Need
ctypedef vector[Entry] Heap


cdef class ReadyQueue:
    # Heap 0 holds the tasks that need no resources; every distinct set of needs has a heap of its own.
    cdef vector[Heap] heaps
    cdef vector[vector[Need]] needs
    cdef unordered_map[uint32_t, uint32_t] heap_of_option
    cdef vector[double] total
    cdef vector[double] available
    cdef uint64_t arrivals
    cdef readonly size_t live
    cdef size_t stale

    cdef void push(self, TaskRecord* record) noexcept nogil
    cdef void withdraw(self, TaskRecord* record) noexcept nogil
    cdef TaskRecord* pop(self) noexcept nogil
    cdef bint startable(self) noexcept nogil
    cdef bint startable_before(self, TaskRecord* record) noexcept nogil
    cdef void give_back(self, TaskRecord* record) noexcept nogil
    cdef uint32_t add_resource(self) noexcept nogil
    cdef void set_total(self, uint32_t number, double amount) noexcept nogil
    cdef void add_option(self, uint32_t option_id, vector[Need] wanted) noexcept nogil
    cdef void sweep(self) noexcept nogil
    cdef uint32_t heap_number(self, uint32_t option_id) noexcept nogil
    cdef int64_t _best(self) noexcept nogil
    cdef void _settle(self, Heap* heap) noexcept nogil
