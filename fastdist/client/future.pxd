# The public Future; see future.pyx.
from fastdist._core.client.futures cimport FutureSlot


cdef class Future(FutureSlot):
    cdef object _bind(self, object client, bytes key)
