"""What computes a task, as bytes: for running it again somewhere else. May import: the scheduler's model."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from fastdist._core.scheduler.model cimport Model
from fastdist._core.scheduler.records cimport NONE, Task


cdef bytes key_of(Model model, Task* task):
    cdef uint32_t length
    cdef const uint8_t* key = model.payload.key_bytes(task, &length)
    return (<const char*>key)[:length]


def work_of(Model model, uint64_t id) -> tuple | None:
    """(function, arguments, canonical keys of the inputs in their order) of a task; None of one that has no work."""
    cdef Task* task = model.find(id)
    cdef uint32_t* dependencies
    cdef const uint8_t* arguments
    cdef uint32_t length, i
    if task == NULL or task.function == NONE:
        return None
    arguments = model.payload.argument_bytes(task, &length)
    dependencies = model.dependencies_of(task)
    return (
        <bytes>(<const char*>model.functions[task.function].payload)[:model.functions[task.function].length],
        <bytes>(<const char*>arguments)[:length],
        [key_of(model, model.task(dependencies[i])) for i in range(task.n_dependencies)],
    )
