# What happened to tasks of the scheduler.
from fastdist._core.scheduler.model cimport Model

cdef list tell_story(Model model, list keys, list batches)
cdef list ids_of(Model model, list keys)
