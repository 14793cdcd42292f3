"""Linear fusion: finds the chains of a task graph that can run as one task each.

A graph is two arrays of u32: the dependencies of node `i` are `needs[offsets[i]:offsets[i + 1]]`. A node continues a
chain if it needs nothing but the node before it, and nobody else needs that one. Linear in nodes and edges. May import
the standard library only.
"""

cimport cython
from libc.stdint cimport uint32_t, uint8_t
from libcpp.vector cimport vector

from array import array

cdef enum:
    NOBODY = 0xFFFFFFFF
    SEVERAL = 0xFFFFFFFE


@cython.boundscheck(False)
@cython.wraparound(False)
def fuse_linear(
    const uint32_t[::1] offsets, const uint32_t[::1] needs, const uint8_t[::1] fixed, const uint32_t[::1] labels,
    const uint32_t[::1] weights, uint32_t max_weight,
):
    """For each node the next one of its chain.

    Parameters
    ----------
    offsets, needs : buffer of u32
        The graph.
    fixed : buffer of u8
        Not 0: somebody wants the result of this node, or it has none of its own; it is never followed.
    labels : buffer of u32
        Only nodes with the same label are fused.
    weights : buffer of u32
        Of each node, at least 1.
    max_weight : int
        The largest sum of the weights in a chain; a longer one becomes several.

    Returns
    -------
    array of u32
        The node that node `i` is fused into, `i` itself if none. Nodes that need each other in a circle stay apart.
    """
    cdef uint32_t n = <uint32_t>fixed.shape[0]
    cdef uint32_t i, j, node, other, weight
    cdef vector[uint32_t] user
    if offsets.shape[0] != n + 1 or labels.shape[0] != n or weights.shape[0] != n:
        raise ValueError("the arrays do not belong to the same nodes")
    user.assign(n, <uint32_t>NOBODY)
    result = array("I", range(n))
    cdef uint32_t[::1] into = result
    with nogil:
        for i in range(n):
            for j in range(offsets[i], offsets[i + 1]):
                other = needs[j]
                user[other] = i if user[other] == <uint32_t>NOBODY else <uint32_t>SEVERAL
        for i in range(n):
            # The first one of a chain: it continues none.
            if fuses(i, offsets, needs, fixed, labels, user):
                continue
            node = i
            weight = weights[i]
            while True:
                other = user[node]
                if other >= <uint32_t>SEVERAL or not fuses(other, offsets, needs, fixed, labels, user):
                    break
                if weight + weights[other] > max_weight:
                    weight = weights[other]
                else:
                    weight += weights[other]
                    into[node] = other
                node = other
    return result


@cython.boundscheck(False)
@cython.wraparound(False)
cdef inline bint fuses(
    uint32_t node, const uint32_t[::1] offsets, const uint32_t[::1] needs, const uint8_t[::1] fixed,
    const uint32_t[::1] labels, vector[uint32_t]& user,
) noexcept nogil:
    # Whether a node continues the chain of the only one that it needs.
    cdef uint32_t before
    if offsets[node + 1] - offsets[node] != 1:
        return False
    before = needs[offsets[node]]
    return before != node and not fixed[before] and user[before] == node and labels[before] == labels[node]
