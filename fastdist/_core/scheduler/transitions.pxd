# The transitions of the scheduler's task states; one function per edge of LEGAL (transitions.pyx).
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from fastdist._core.scheduler.model cimport Model
from fastdist._core.scheduler.parties cimport WorkerRecord
from fastdist._core.scheduler.records cimport Task

cdef int released_to_needed(Model model, uint32_t slot) except -1
cdef int ready_to_processing(Model model, uint32_t slot, WorkerRecord worker, bint ahead) except -1
cdef int processing_to_needed(Model model, uint32_t slot, bint tell_worker) except -1
cdef int processing_to_memory(Model model, uint32_t slot, uint64_t nbytes, uint32_t type, const uint8_t* inline_bytes,
                              uint32_t inline_length) except -1
cdef int scattering_to_memory(Model model, uint32_t slot, uint32_t worker, uint64_t nbytes, uint32_t type) except -1
cdef int any_to_erred(Model model, uint32_t slot, const uint8_t* payload, uint32_t length) except -1
cdef int note_stopping(Model model, WorkerRecord worker, uint64_t id) except -1
cdef bint note_stopped(Model model, WorkerRecord worker, uint64_t id) except -1
cdef int leave_worker(Model model, uint32_t slot) except -1
cdef int book(Model model, uint32_t slot, WorkerRecord worker) except -1
cdef int needed_to_memory(Model model, uint32_t slot, uint32_t worker, uint64_t nbytes, uint32_t type) except -1
cdef void give_thread_back(Model model, Task* task, uint8_t flag) noexcept
cdef void take_thread(Model model, Task* task) noexcept
cdef int memory_to_lost(Model model, uint32_t slot) except -1
cdef int release_unneeded(Model model) except -1
cdef int erred_to_released(Model model, uint32_t slot) except -1
cdef int withdraw_ahead(Model model, uint32_t slot) except -1
cdef object readable_key(const uint8_t* key, uint32_t length)
