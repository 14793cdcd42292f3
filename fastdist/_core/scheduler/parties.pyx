"""The records of options, workers and clients.

They know what belongs to one of them - a client its map from ids to tasks, a worker the rows that wait to be sent - and
nothing of the others. May import: _core/codec, the record of a task.
"""

cimport cython
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free, malloc

from fastdist._core.codec.frames cimport ColumnWriter
from fastdist._core.scheduler.records cimport NONE

cdef enum:
    PAGE_BITS = 10
    PAGE_IDS = 1 << PAGE_BITS
    STATE_COLUMNS = 8


@cython.final
cdef class Options:
    """What a submission asked for its tasks beyond the work itself.

    Parameters
    ----------
    number : int
        Index in the model's table.
    priority : float
        Lower goes first (a user's priority, negated).
    retries : int
        How often a task that raised is tried again.
    restricted, loose : bool
        Whether only some workers are allowed, and whether others may help when none of them runs.
    needs : list of (int, float)
        Resource numbers and amounts.
    for_worker : bytes
        msgpack map that the worker needs, or b"".
    described : object
        The options as the user wrote them; with an attribute `actor` that is true, results stay where they are.
    """

    def __cinit__(self, uint32_t number, double priority, uint32_t retries, bint restricted, bint loose,
                  list needs, bytes for_worker, object described):
        cdef Need need
        self.number = number
        self.priority = priority
        self.retries = retries
        self.restricted = restricted
        self.loose = loose
        self.for_worker = for_worker
        self.described = described
        self.actor = getattr(described, "actor", False)
        self.n_tasks = 0
        for resource, amount in needs:
            need.resource = resource
            need.amount = amount
            self.needs.push_back(need)


@cython.final
cdef class WorkerRecord:
    """One worker as the scheduler sees it."""

    def __cinit__(self, uint32_t number, str address, uint32_t nthreads, bint has_nanny):
        self.number = number
        self.address = address
        self.address_bytes = address.encode()
        self.nthreads = nthreads
        self.has_nanny = has_nanny
        self.alive = True
        self.running = True
        self.first = NONE
        self.last = NONE
        self.given = NONE


@cython.final
cdef class ClientRecord:
    """One client: what it wants, by its own ids.

    The ids of a client count up, so the map from id to task is a window of pages; a page whose ids are all released is
    given back.
    """

    def __cinit__(self, uint32_t number, str name):
        self.number = number
        self.name = name
        self.alive = True
        self.functions = set()
        self.state = ColumnWriter(STATE_COLUMNS)
        self.last_submission = -1e300
        self.inline_allowed = True
        self.early = []
        self.lost_at = -1.0

    def __dealloc__(self):
        cdef size_t i
        for i in range(self.pages.size()):
            free(self.pages[i])

    cdef uint32_t slot_of(self, uint64_t id) noexcept:
        cdef uint64_t page = id >> PAGE_BITS
        if page < self.first_page or page - self.first_page >= self.pages.size():
            return NONE
        page -= self.first_page
        if self.pages[page] == NULL:
            return NONE
        return self.pages[page][id & (PAGE_IDS - 1)]

    cdef int set_slot(self, uint64_t id, uint32_t slot) except -1:
        cdef uint64_t page = id >> PAGE_BITS
        cdef uint32_t* ids
        cdef uint32_t i
        if self.pages.empty():
            self.first_page = page
        if page < self.first_page:
            raise ValueError(f"client id {id} was already given back")
        page -= self.first_page
        if page - self.pages.size() > 1 << 20 and page >= self.pages.size():
            raise ValueError(f"client id {id} leaves a gap of more than a billion ids")
        while self.pages.size() <= page:
            self.pages.push_back(NULL)
            self.page_live.push_back(0)
        if self.pages[page] == NULL:
            ids = <uint32_t*>malloc(PAGE_IDS * sizeof(uint32_t))
            if ids == NULL:
                raise MemoryError("no memory for a page of client ids")
            for i in range(PAGE_IDS):
                ids[i] = NONE
            self.pages[page] = ids
        ids = self.pages[page]
        if ids[id & (PAGE_IDS - 1)] != NONE:
            raise ValueError(f"client id {id} is used twice")
        ids[id & (PAGE_IDS - 1)] = slot
        self.page_live[page] += 1
        self.n_wanted += 1
        return 0

    cdef void clear_slot(self, uint64_t id) noexcept:
        cdef uint64_t page = id >> PAGE_BITS
        if self.slot_of(id) == NONE:
            return
        page -= self.first_page
        self.pages[page][id & (PAGE_IDS - 1)] = NONE
        self.page_live[page] -= 1
        self.n_wanted -= 1
        if self.page_live[page] == 0:
            free(self.pages[page])
            self.pages[page] = NULL
            while not self.pages.empty() and self.pages.front() == NULL:
                self.drop_first_page()

    cdef void drop_first_page(self) noexcept:
        free(self.pages.front())
        self.pages.pop_front()
        self.page_live.pop_front()
        self.first_page += 1
