# Digests of sets that do not depend on the order: the sum of one number for each member.
#
# A worker and the scheduler keep the same sums of what the worker holds and of what it was given; if they differ, the
# two disagree. May cimport nothing.
from libc.stdint cimport uint32_t, uint64_t


cdef inline uint64_t digest_of(uint64_t id, uint32_t attempt) noexcept nogil:
    cdef uint64_t mixed = id + (<uint64_t>attempt + 1) * <uint64_t>0x9E3779B97F4A7C15
    mixed = (mixed ^ (mixed >> 30)) * <uint64_t>0xBF58476D1CE4E5B9
    mixed = (mixed ^ (mixed >> 27)) * <uint64_t>0x94D049BB133111EB
    return mixed ^ (mixed >> 31)
