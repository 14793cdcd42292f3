"""What clients are told: the rows of STATE frames.

May import: _core/codec, the model.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from fastdist._core.codec.frames cimport STATUS_ERRED, STATUS_FINISHED, STATUS_LOST, STATUS_PENDING
from fastdist._core.scheduler.model cimport Model
from fastdist._core.scheduler.parties cimport MAX_FRAME_BYTES, ClientRecord
from fastdist._core.scheduler.records cimport ERRED, MEMORY, NONE, Task

cdef enum:
    PAGE_BITS = 10
    PAGE_IDS = 1 << PAGE_BITS


cdef int report_to(Model model, uint32_t client_number, uint64_t id, Task* task, uint8_t status,
                   const uint8_t* payload, uint32_t length) except -1:
    """One STATE row for one client."""
    cdef ClientRecord client = model.client(client_number)
    cdef uint32_t type = task.type if task != NULL and status == STATUS_FINISHED else 0
    cdef uint32_t index
    if not client.alive:
        return 0
    if client.state.size(5) > MAX_FRAME_BYTES:
        end_state_frame(client)
    model.mark_client(client)
    if client.state.n_rows == 0:
        client.state.put_u32(4, 0)
        client.state.put_u32(6, 0)
    if status == STATUS_FINISHED and not client.inline_allowed:
        length = 0
    if model.reporting_error:
        # A row without its error has that of the last row before it that has one.
        if client.frame_error == model.reporting_error:
            length = 0
        client.frame_error = model.reporting_error
    elif length:
        client.frame_error = 0
    if client.frame_types.size() <= type:
        client.frame_types.resize(type + 1)
    index = client.frame_types[type]
    if index == 0:
        client.frame_type_list.push_back(type)
        index = <uint32_t>client.frame_type_list.size()
        client.frame_types[type] = index
        client.state.put_piece(6, 7, model.type_names[type].data(), model.type_names[type].size())
    client.state.put_u64(0, id)
    client.state.put_u8(1, status)
    client.state.put_u64(2, task.nbytes if task != NULL and status == STATUS_FINISHED else 0)
    client.state.put_u32(3, index - 1)
    client.state.put_piece(4, 5, payload, length)
    client.state.n_rows += 1
    return 0


cdef int end_state_frame(ClientRecord client) except -1:
    """Finish the STATE frame of a client."""
    cdef size_t i
    client.early.append(client.state.finish())
    for i in range(client.frame_type_list.size()):
        client.frame_types[client.frame_type_list[i]] = 0
    client.frame_type_list.clear()
    client.frame_error = 0
    return 0


cdef int report(Model model, Task* task, uint8_t status, const uint8_t* payload, uint32_t length) except -1:
    """One STATE row for each client that wants the task."""
    cdef uint32_t number
    if task.want_client == NONE:
        return 0
    if task.want_id:
        report_to(model, task.want_client, task.want_id, task, status, payload, length)
    number = task.more_wants
    while number != NONE:
        if model.wants[number].id:
            report_to(model, model.wants[number].client, model.wants[number].id, task, status, payload, length)
        number = model.wants[number].next
    return 0


cdef int report_error(Model model, Task* task) except -1:
    """Tell each client that wants an ERRED task its error."""
    model.reporting_error = model.errors[task.nbytes].serial
    report(model, task, STATUS_LOST if task.function == NONE else STATUS_ERRED, model.errors[task.nbytes].payload,
           model.errors[task.nbytes].length)
    model.reporting_error = 0
    return 0


cdef int report_current(Model model, uint32_t slot, uint32_t client, uint64_t id) except -1:
    """Tell a client that joins late what became of the task already."""
    cdef Task* task = model.task(slot)
    if task.state == MEMORY:
        report_to(model, client, id, task, STATUS_FINISHED, NULL, 0)
    elif task.state == ERRED:
        model.reporting_error = model.errors[task.nbytes].serial
        report_to(model, client, id, task, STATUS_LOST if task.function == NONE else STATUS_ERRED,
                  model.errors[task.nbytes].payload, model.errors[task.nbytes].length)
        model.reporting_error = 0
    return 0


cdef int report_everything(Model model, ClientRecord client) except -1:
    """Tell a client whose connection broke what it may have missed of all that it wants."""
    cdef size_t page
    cdef uint32_t i, slot
    cdef uint64_t id
    cdef Task* task
    for page in range(client.pages.size()):
        if client.pages[page] == NULL:
            continue
        for i in range(PAGE_IDS):
            slot = client.pages[page][i]
            if slot == NONE:
                continue
            id = ((client.first_page + page) << PAGE_BITS) | i
            task = model.task(slot)
            if task.state == MEMORY or task.state == ERRED:
                report_current(model, slot, client.number, id)
            elif task.attempt:
                # It may have been finished, and lost with its worker.
                report_to(model, client.number, id, task, STATUS_PENDING, NULL, 0)
    return 0
