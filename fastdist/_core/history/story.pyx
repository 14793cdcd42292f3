"""The last transitions of all tasks: always on, bounded, and as cheap as one write of 32 bytes.

No key is stored: a reader finds the moments of a task by what names it, and of a task that is forgotten by the hash of
its key, which its last moment has. A batch of events has one time. Imports nothing.
"""

from libc.stdint cimport uint32_t, uint64_t

cdef enum:
    BATCH_TIMES = 1 << 14


cdef class Story:
    """A ring of moments.

    Parameters
    ----------
    size : int
        How many are remembered; a power of two.
    """

    def __cinit__(self, uint64_t size=1 << 16):
        if size & (size - 1) or not size:
            raise ValueError(f"the size of a story must be a power of two, not {size}")
        self.ring.resize(size)
        self.times.resize(min(size, <uint64_t>BATCH_TIMES))
        self.mask = size - 1
        self.time_mask = <uint32_t>self.times.size() - 1
        self.n_moments = 0
        self.batch = 1

    cdef double time_of(self, uint32_t batch) noexcept nogil:
        """When a batch ended; 0 if that is forgotten, or has not happened yet."""
        if self.batch - batch >= self.times.size():
            return 0.0
        return self.times[batch & self.time_mask]
