"""Static analysis of a task graph: a good order to run it, a topological order, and culling.

A graph is two arrays of u32: the dependencies of node `i` are `dependencies[offsets[i]:offsets[i + 1]]`.

`order` imitates one thread that wants to hold as few results as possible. It walks depth first from an output to its
inputs, the hungriest subtree first; and as soon as a node that can run at once would be the last user of some result,
it runs, because that costs no memory and frees some. When an output is done, the walk goes on beside the newest result
that is still held. Everything is linear in nodes and edges but for the sorting of the edges of one node.
May import `fastdist.errors`.
"""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy
from libcpp.algorithm cimport sort
from libcpp.vector cimport vector

from array import array

from fastdist.errors import CycleError

cdef enum:
    NOWHERE = 0xFFFFFFFF
    FEW_USERS = 6           # so many users of one result may run together to free it


# Arrays in and out

cdef int read_array(object source, vector[uint32_t]& target, str what) except -1:
    cdef Py_buffer view
    PyObject_GetBuffer(source, &view, PyBUF_SIMPLE)
    try:
        if view.len % 4 or view.itemsize not in (1, 4):
            raise ValueError(f"{what} must be an array of 32-bit integers")
        target.resize(view.len // 4)
        if view.len:
            memcpy(target.data(), view.buf, view.len)
    finally:
        PyBuffer_Release(&view)
    return 0


cdef object make_array(vector[uint32_t]& source):
    result = array("I")
    result.frombytes(PyBytes_FromStringAndSize(<const char*>source.data(), 4 * source.size()))
    return result


@cython.final
cdef class _Graph:
    # Nodes and edges in both directions.
    cdef uint32_t size
    cdef vector[uint32_t] down_starts       # dependencies of a node: what it needs
    cdef vector[uint32_t] down
    cdef vector[uint32_t] up_starts         # dependents of a node: what needs it
    cdef vector[uint32_t] up

    def __cinit__(self, dependency_offsets, dependencies):
        cdef size_t i
        read_array(dependency_offsets, self.down_starts, "dependency_offsets")
        read_array(dependencies, self.down, "dependencies")
        if self.down_starts.empty() or self.down_starts[0] != 0 or self.down_starts.back() != self.down.size():
            raise ValueError("dependency_offsets must start with 0 and end with the number of dependencies")
        self.size = <uint32_t>(self.down_starts.size() - 1)
        for i in range(self.size):
            if self.down_starts[i] > self.down_starts[i + 1]:
                raise ValueError(f"dependency_offsets fall at node {i}")
        for i in range(self.down.size()):
            if self.down[i] >= self.size:
                raise ValueError(f"dependency {self.down[i]} is not one of the {self.size} nodes")

    cdef void link_up(self) noexcept nogil:
        cdef uint32_t node, edge
        cdef vector[uint32_t] filled
        self.up_starts.assign(self.size + 1, 0)
        self.up.resize(self.down.size())
        for edge in range(<uint32_t>self.down.size()):
            self.up_starts[self.down[edge] + 1] += 1
        for node in range(self.size):
            self.up_starts[node + 1] += self.up_starts[node]
        filled = self.up_starts
        for node in range(self.size):
            for edge in range(self.down_starts[node], self.down_starts[node + 1]):
                self.up[filled[self.down[edge]]] = node
                filled[self.down[edge]] += 1


# Topological order

# Fills `done` with all nodes, each after its dependencies; or `cycle`, and then returns False.
cdef bint sort_topologically(_Graph graph, vector[uint32_t]& done, vector[uint32_t]& cycle) noexcept nogil:
    cdef vector[uint32_t] next_edge = graph.down_starts
    cdef vector[uint8_t] state              # 0 = not seen, 1 = on the path, 2 = done
    cdef vector[uint32_t] path
    cdef uint32_t root, node, below
    cdef size_t i
    state.assign(graph.size, 0)
    done.reserve(graph.size)
    for root in range(graph.size):
        if state[root] != 0:
            continue
        path.push_back(root)
        state[root] = 1
        while not path.empty():
            node = path.back()
            if next_edge[node] == graph.down_starts[node + 1]:
                state[node] = 2
                done.push_back(node)
                path.pop_back()
                continue
            below = graph.down[next_edge[node]]
            next_edge[node] += 1
            if state[below] == 0:
                state[below] = 1
                path.push_back(below)
            elif state[below] == 1:
                i = path.size()
                while path[i - 1] != below:
                    i -= 1
                cycle.assign(path.begin() + (i - 1), path.end())
                return False
    return True


cdef int sorted_nodes(_Graph graph, vector[uint32_t]& done) except -1:
    cdef vector[uint32_t] cycle
    cdef bint acyclic
    with nogil:
        acyclic = sort_topologically(graph, done, cycle)
    if not acyclic:
        nodes = tuple(cycle)
        shown = " -> ".join(map(str, (*nodes[:10], *(("...",) if len(nodes) > 10 else ()), nodes[0])))
        raise CycleError(f"{len(nodes)} nodes of the graph need each other in a circle: {shown}", nodes)
    return 0


def topological(dependency_offsets, dependencies):
    """The nodes in an order in which each comes after its dependencies.

    Parameters
    ----------
    dependency_offsets, dependencies : array of u32
        The dependencies of node `i` are `dependencies[dependency_offsets[i]:dependency_offsets[i + 1]]`.

    Returns
    -------
    array of u32

    Raises
    ------
    CycleError
        If there is no such order; `indices` are the nodes of one cycle, each needing the next.

    Examples
    --------
    >>> from array import array
    >>> topological(array("I", [0, 1, 1]), array("I", [1]))
    array('I', [1, 0])
    """
    cdef _Graph graph = _Graph(dependency_offsets, dependencies)
    cdef vector[uint32_t] done
    sorted_nodes(graph, done)
    return make_array(done)


# Culling

def cull(dependency_offsets, dependencies, outputs):
    """The nodes that are needed for the outputs, in rising order.

    Parameters
    ----------
    dependency_offsets, dependencies : array of u32
        The graph, as for `topological`. It may have cycles.
    outputs : array of u32
        The nodes that are wanted.

    Returns
    -------
    array of u32
    """
    cdef _Graph graph = _Graph(dependency_offsets, dependencies)
    cdef vector[uint32_t] wanted, found
    cdef vector[uint8_t] needed
    cdef uint32_t node, edge
    read_array(outputs, wanted, "outputs")
    needed.assign(graph.size, 0)
    for node in wanted:
        if node >= graph.size:
            raise ValueError(f"output {node} is not one of the {graph.size} nodes")
        needed[node] = 1
    with nogil:
        while not wanted.empty():
            node = wanted.back()
            wanted.pop_back()
            for edge in range(graph.down_starts[node], graph.down_starts[node + 1]):
                if not needed[graph.down[edge]]:
                    needed[graph.down[edge]] = 1
                    wanted.push_back(graph.down[edge])
        for node in range(graph.size):
            if needed[node]:
                found.push_back(node)
    return make_array(found)


# The static order

@cython.final
cdef class _Ordering:
    # One run of the imaginary thread.
    cdef _Graph graph
    cdef vector[uint32_t] appetite      # how many results the subtree of a node must hold at once, about
    cdef vector[uint32_t] missing       # dependencies that have not run
    cdef vector[uint32_t] users         # dependents that have not run; at 0 the result is freed
    cdef vector[uint32_t] priority      # NOWHERE until the node has run
    cdef vector[uint32_t] next_down     # how far the walk has looked through the dependencies of a node
    cdef vector[uint32_t] next_up       # how far it has looked through the dependents
    cdef vector[uint32_t] held          # nodes that had users left when they ran, the newest last
    cdef vector[uint32_t] eager         # nodes that can run at once and free something
    cdef vector[uint32_t] path          # the walk towards the inputs
    cdef uint32_t count

    def __cinit__(self, _Graph graph):
        cdef uint32_t node
        self.graph = graph
        self.appetite.assign(graph.size, 1)
        self.missing.resize(graph.size)
        self.users.resize(graph.size)
        self.priority.assign(graph.size, NOWHERE)
        self.count = 0
        for node in range(graph.size):
            self.missing[node] = graph.down_starts[node + 1] - graph.down_starts[node]
            self.users[node] = graph.up_starts[node + 1] - graph.up_starts[node]
        self.next_down = graph.down_starts
        self.next_up = graph.up_starts

    # Sorts the dependencies of each node, the hungriest first, and from that knows the appetite of the node.
    cdef void measure(self, vector[uint32_t]& topological_order) noexcept nogil:
        cdef vector[uint64_t] edges
        cdef uint32_t node, below, start, end, i
        cdef uint64_t most
        for node in topological_order:
            start = self.graph.down_starts[node]
            end = self.graph.down_starts[node + 1]
            edges.clear()
            for i in range(start, end):
                below = self.graph.down[i]
                edges.push_back(<uint64_t>(NOWHERE - self.appetite[below]) << 32 | below)
            sort(edges.begin(), edges.end())
            most = end - start + 1
            for i in range(end - start):
                below = <uint32_t>edges[i]
                self.graph.down[start + i] = below
                most = max(most, <uint64_t>self.appetite[below] + i)
            self.appetite[node] = <uint32_t>min(most, <uint64_t>NOWHERE)

    # Sorts the dependents of each node, those that need least beside it first.
    cdef void sort_dependents(self) noexcept nogil:
        cdef vector[uint64_t] edges
        cdef uint32_t node, above, start, end, i
        for node in range(self.graph.size):
            start = self.graph.up_starts[node]
            end = self.graph.up_starts[node + 1]
            if end - start < 2:
                continue
            edges.clear()
            for i in range(start, end):
                above = self.graph.up[i]
                edges.push_back(<uint64_t>self.appetite[above] << 32 | above)
            sort(edges.begin(), edges.end())
            for i in range(end - start):
                self.graph.up[start + i] = <uint32_t>edges[i]

    cdef void run_all(self) noexcept nogil:
        cdef uint32_t node
        for node in range(self.graph.size):
            # An output, or the last node in its connected part: nothing held leads to it.
            if self.priority[node] == NOWHERE and self.users[node] == 0:
                self.reach(node)
                self.reach_beside_held()

    cdef void reach_beside_held(self) noexcept nogil:
        cdef uint32_t node, above
        while not self.held.empty():
            node = self.held.back()
            above = self.unfinished_user(node)
            if above == NOWHERE:
                self.held.pop_back()
            else:
                self.reach(above)

    cdef uint32_t unfinished_user(self, uint32_t node) noexcept nogil:
        cdef uint32_t i
        while self.next_up[node] < self.graph.up_starts[node + 1]:
            i = self.graph.up[self.next_up[node]]
            if self.priority[i] == NOWHERE:
                return i
            self.next_up[node] += 1
        return NOWHERE

    # Runs the node after everything that it needs.
    cdef void reach(self, uint32_t target) noexcept nogil:
        cdef uint32_t node, below
        self.path.push_back(target)
        while not self.path.empty():
            node = self.path.back()
            if self.priority[node] != NOWHERE:
                self.path.pop_back()
            elif self.missing[node] == 0:
                self.path.pop_back()
                self.run(node)
                self.run_eager()
            else:
                below = self.graph.down[self.next_down[node]]
                self.next_down[node] += 1
                if self.priority[below] == NOWHERE:
                    self.path.push_back(below)

    cdef void run_eager(self) noexcept nogil:
        cdef uint32_t node
        while not self.eager.empty():
            node = self.eager.back()
            self.eager.pop_back()
            if self.priority[node] == NOWHERE:
                self.run(node)

    cdef void run(self, uint32_t node) noexcept nogil:
        cdef uint32_t i, below, above
        self.priority[node] = self.count
        self.count += 1
        if self.users[node]:
            self.held.push_back(node)
        for i in range(self.graph.down_starts[node], self.graph.down_starts[node + 1]):
            below = self.graph.down[i]
            self.users[below] -= 1
            if self.users[below] and self.last_users_are_ready(below):
                self.push_users(below)
        for i in range(self.graph.up_starts[node], self.graph.up_starts[node + 1]):
            above = self.graph.up[i]
            self.missing[above] -= 1
            if self.missing[above] == 0 and self.frees_something(above):
                self.eager.push_back(above)

    # Whether the result could be freed by running the rest of its users at once; too many would hold more than it.
    cdef bint last_users_are_ready(self, uint32_t node) noexcept nogil:
        cdef uint32_t i, above
        if self.users[node] > 1 and self.graph.up_starts[node + 1] - self.graph.up_starts[node] > FEW_USERS:
            return False
        self.unfinished_user(node)
        for i in range(self.next_up[node], self.graph.up_starts[node + 1]):
            above = self.graph.up[i]
            if self.priority[above] == NOWHERE and self.missing[above] != 0:
                return False
        return True

    cdef void push_users(self, uint32_t node) noexcept nogil:
        cdef uint32_t i = self.graph.up_starts[node + 1]
        while i > self.next_up[node]:
            i -= 1
            if self.priority[self.graph.up[i]] == NOWHERE:
                self.eager.push_back(self.graph.up[i])

    cdef bint frees_something(self, uint32_t node) noexcept nogil:
        cdef uint32_t i
        for i in range(self.graph.down_starts[node], self.graph.down_starts[node + 1]):
            if self.users[self.graph.down[i]] == 1:
                return True
        return False


def order(dependency_offsets, dependencies):
    """Priorities, lower first, in which one thread would run the graph holding few results at a time.

    Running the nodes by rising priority keeps dependency order: the priorities are 0 to n - 1, and each node comes
    after its dependencies.

    Parameters
    ----------
    dependency_offsets, dependencies : array of u32
        The graph, as for `topological`. Ties are broken by node number, so nodes that belong together should be
        numbered together.

    Returns
    -------
    array of u32
        The priority of each node.

    Raises
    ------
    CycleError
        If the graph has a cycle; `indices` are the nodes of one.

    Examples
    --------
    >>> from array import array
    >>> order(array("I", [0, 0, 1, 2]), array("I", [0, 1]))
    array('I', [0, 1, 2])
    """
    cdef _Graph graph = _Graph(dependency_offsets, dependencies)
    cdef _Ordering ordering
    cdef vector[uint32_t] done
    sorted_nodes(graph, done)
    with nogil:
        graph.link_up()
    ordering = _Ordering(graph)
    with nogil:
        ordering.measure(done)
        ordering.sort_dependents()
        ordering.run_all()
    return make_array(ordering.priority)
