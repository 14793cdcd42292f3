"""How far some tasks, and all that they need, have come. May import: the scheduler's model and records."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libcpp.unordered_set cimport unordered_set
from libcpp.vector cimport vector

from fastdist._core.scheduler.model cimport Model
from fastdist._core.scheduler.records cimport ERRED, MEMORY, NONE, RELEASED, Task


cdef class TaskWatch:
    """Some tasks and everything that they depend on, by prefix.

    Parameters
    ----------
    model : Model
        The data of the core.
    keys : list of bytes
        Canonical keys; those that name no task are left out.
    complete : bool
        Whether tasks count that are done already.
    """

    cdef Model model
    cdef vector[uint64_t] ids
    cdef vector[uint32_t] groups       # of each id: index in `names`
    cdef readonly list names

    def __cinit__(self, Model model not None, list keys not None, bint complete):
        cdef unordered_set[uint32_t] seen
        cdef vector[uint32_t] stack
        cdef dict numbers = {}
        cdef bytes key
        cdef uint32_t slot, i
        cdef Task* task
        self.model = model
        self.names = []
        for key in keys:
            slot = model.keys.find(
                model.keys.hash(<const uint8_t*><const char*>key, <uint32_t>len(key)),
                <const uint8_t*><const char*>key, <uint32_t>len(key)
            )
            if slot != NONE and seen.insert(slot).second:
                stack.push_back(slot)
        while not stack.empty():
            slot = stack.back()
            stack.pop_back()
            task = model.task(slot)
            if complete or not is_done(task):
                self.ids.push_back(model.id_of(slot))
                self.groups.push_back(self._group(numbers, task.prefix))
            if is_done(task) and not complete:
                # What it needed was done before it.
                continue
            for i in range(task.n_dependencies):
                if seen.insert(model.dependencies_of(task)[i]).second:
                    stack.push_back(model.dependencies_of(task)[i])

    cdef uint32_t _group(self, dict numbers, uint32_t prefix) except? NONE:
        cdef bytes name
        number = numbers.get(prefix)
        if number is None:
            name = self.model.prefix_names[prefix]
            number = numbers[prefix] = len(self.names)
            self.names.append(name.decode(errors="replace"))
        return number

    def __len__(self) -> int:
        return self.ids.size()

    def counts(self) -> list[tuple[str, int, int, int]]:
        """(prefix, tasks, of these done, of these failed) of each prefix; what failed is not done."""
        cdef vector[uint64_t] total, done, erred
        cdef Task* task
        cdef size_t i
        total.resize(len(self.names))
        done.resize(len(self.names))
        erred.resize(len(self.names))
        for i in range(self.ids.size()):
            task = self.model.find(self.ids[i])
            total[self.groups[i]] += 1
            if task != NULL and task.state == ERRED:
                erred[self.groups[i]] += 1
            elif task == NULL or is_done(task):
                done[self.groups[i]] += 1
        return [(self.names[i], total[i], done[i], erred[i]) for i in range(total.size())]


cdef inline bint is_done(Task* task) noexcept nogil:
    # RELEASED: its result was used by all, or nobody wants it any more.
    return task.state == MEMORY or task.state == ERRED or task.state == RELEASED
