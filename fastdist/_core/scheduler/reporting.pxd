# What clients are told: the rows of STATE frames.
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from fastdist._core.scheduler.model cimport Model
from fastdist._core.scheduler.parties cimport ClientRecord
from fastdist._core.scheduler.records cimport Task

cdef int report(Model model, Task* task, uint8_t status, const uint8_t* payload, uint32_t length) except -1
cdef int report_to(Model model, uint32_t client_number, uint64_t id, Task* task, uint8_t status,
                   const uint8_t* payload, uint32_t length) except -1
cdef int report_error(Model model, Task* task) except -1
cdef int report_current(Model model, uint32_t slot, uint32_t client, uint64_t id) except -1
cdef int report_everything(Model model, ClientRecord client) except -1
cdef int end_state_frame(ClientRecord client) except -1
