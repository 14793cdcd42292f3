"""What clients send: TASKS frames become records and edges, RELEASE frames take wants away.

A frame is checked whole before the first record changes. Keys are hashed for the whole frame first, so that the table's
memory is fetched while the hashes of later keys are computed. May import: the scheduler's model, queue and transitions.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp
from libcpp.algorithm cimport sort
from libcpp.pair cimport pair
from libcpp.unordered_set cimport unordered_set
from libcpp.vector cimport vector

from fastdist._core.codec.frames cimport NO_FUNCTION, STATUS_LOST, STATUS_PENDING, ColumnReader
from fastdist._core.keys.canonical cimport key_prefix
from fastdist._core.scheduler.model cimport FIRST_GENERATION, Model
from fastdist._core.scheduler.parties cimport ClientRecord, Options
from fastdist._core.scheduler.queue cimport ReadyQueue
from fastdist._core.scheduler.records cimport ACTOR, ERRED, INLINE, NONE, PURE_DATA, READY, RELEASED, Task
from fastdist._core.scheduler.reporting cimport report, report_current, report_to
from fastdist._core.scheduler.transitions cimport any_to_erred, erred_to_released, readable_key, released_to_needed

from fastdist._core.scheduler.reasons import Reason, reason_payload
from fastdist.errors import FrameError

cdef enum:
    TASKS_COLUMNS = 14
    RELEASE_COLUMNS = 2
    LAST_FRAME = 1
    NESTED = 2
    WANTED = 1
    MAY_INLINE = 2
    MAX_FRAME_TASKS = 100000
    MAX_KEY_BYTES = 65536
    PAGE_BITS = 10
    MAX_GAP_PAGES = 1 << 14
    MAX_CLIENT_ID = 0x3FFFFFFFFFFFFFFF


cdef struct Columns:
    # The columns of one TASKS frame; see docs/wire.md.
    uint32_t n
    const uint64_t* header
    const uint32_t* key_offsets
    const uint8_t* keys
    const uint32_t* functions
    const uint32_t* argument_offsets
    const uint8_t* arguments
    const uint32_t* dependency_offsets
    const uint64_t* dependencies
    const uint32_t* order
    const uint32_t* options
    const uint8_t* flags
    uint64_t n_functions
    const uint32_t* function_offsets
    const uint8_t* function_bytes


cdef int read_columns(ColumnReader reader, Columns* columns, uint64_t n_options) except -1:
    """Check the frame and fill `columns`."""
    cdef uint32_t n = reader.n_rows
    cdef uint32_t i, j
    if n > MAX_FRAME_TASKS:
        raise FrameError(f"a TASKS frame has {n} tasks, more than {MAX_FRAME_TASKS}")
    columns.n = n
    columns.header = <const uint64_t*>reader.fixed(0, 4, 8)
    columns.key_offsets = reader.offsets(1, 2, n)
    columns.keys = reader.starts[2]
    columns.functions = <const uint32_t*>reader.fixed(3, n, 4)
    columns.argument_offsets = reader.offsets(4, 5, n)
    columns.arguments = reader.starts[5]
    columns.dependency_offsets = reader.index_offsets(6, n, reader.length_of(7, 8))
    columns.dependencies = <const uint64_t*>reader.starts[7]
    columns.order = <const uint32_t*>reader.optional(8, n, 4)
    columns.options = <const uint32_t*>reader.optional(9, n, 4)
    columns.flags = reader.optional(10, n, 1)
    columns.n_functions = reader.length_of(11, 4)
    if columns.n_functions == 0:
        raise FrameError("a TASKS frame has no offsets for its functions")
    columns.n_functions -= 1
    columns.function_offsets = reader.offsets(11, 12, columns.n_functions)
    columns.function_bytes = reader.starts[12]
    for i in range(<uint32_t>columns.n_functions):
        if columns.function_offsets[i + 1] - columns.function_offsets[i] < 16:
            raise FrameError("a function of a TASKS frame has no hash")
    for i in range(n):
        if columns.functions[i] != NO_FUNCTION and columns.functions[i] >= columns.n_functions:
            raise FrameError(f"task {i} of a TASKS frame names function {columns.functions[i]}, which is not there")
        if columns.key_offsets[i + 1] == columns.key_offsets[i]:
            raise FrameError(f"task {i} of a TASKS frame has no key")
        if columns.key_offsets[i + 1] - columns.key_offsets[i] > MAX_KEY_BYTES:
            raise FrameError(f"the key of task {i} of a TASKS frame is longer than {MAX_KEY_BYTES} bytes")
        if columns.options != NULL and columns.options[i] > n_options:
            raise FrameError(f"task {i} of a TASKS frame names options {columns.options[i]}, which are not there")
        for j in range(columns.dependency_offsets[i], columns.dependency_offsets[i + 1]):
            if columns.dependencies[j] >= columns.header[0] + i:
                raise FrameError(f"task {i} of a TASKS frame needs a later one")
    return 0


cdef int take_tasks(
    Model model, ReadyQueue queue, ClientRecord client, object body, list options, double now
) except -1:
    """Apply a TASKS frame; `options` are the numbers of the frame's options."""
    cdef ColumnReader reader = ColumnReader(body, TASKS_COLUMNS)
    cdef Columns columns
    cdef vector[uint32_t] functions, option_numbers, slots
    cdef vector[uint64_t] hashes
    cdef uint32_t i, n, slot
    cdef uint8_t flags
    cdef uint32_t option
    read_columns(reader, &columns, len(options))
    check_functions(model, &columns)
    n = columns.n
    check_ids(client, columns.header[0], n)
    client.next_id = columns.header[0] + n
    for number in options:
        option_numbers.push_back(number)
    take_functions(model, client, &columns, functions)
    begin_submission(model, client, &columns, now)
    hashes.resize(n)
    model.keys.reserve(n)
    for i in range(n):
        hashes[i] = model.keys.hash(columns.keys + columns.key_offsets[i],
                                    columns.key_offsets[i + 1] - columns.key_offsets[i])
    for i in range(n):
        if i + 8 < n:
            model.keys.prefetch(hashes[i + 8])
        flags = columns.flags[i] if columns.flags != NULL else WANTED | MAY_INLINE
        option = 0
        if columns.options != NULL and columns.options[i]:
            option = option_numbers[columns.options[i] - 1]
        slot = take_row(model, client, &columns, i, hashes[i], functions, option)
        if slot == NONE:
            continue
        client.set_slot(columns.header[0] + i, slot)
        # While its submission is open, a task that nobody asked for is kept by the submission itself.
        model.add_want(slot, client.number, columns.header[0] + i if flags & WANTED else 0)
        if not flags & WANTED:
            client.open_ids.push_back(columns.header[0] + i)
        elif flags & MAY_INLINE:
            model.task(slot).flags |= INLINE
        slots.push_back(slot)
        slots.push_back(i)
    start_rows(model, queue, client, &columns, slots)
    if columns.header[1] & LAST_FRAME:
        close_submission(model, client)
    return 0


cdef int check_ids(ClientRecord client, uint64_t first, uint32_t count) except -1:
    """Whether a client may use the ids from `first` on."""
    if first < client.next_id or first == 0:
        raise FrameError(f"client ids from {first} on were used already")
    if first > MAX_CLIENT_ID - count:
        raise FrameError(f"client id {first} is too large")
    if not client.pages.empty() and (
        (first + count) >> PAGE_BITS > client.first_page + client.pages.size() + MAX_GAP_PAGES
    ):
        raise FrameError(f"client id {first} leaves a gap of more than {MAX_GAP_PAGES << PAGE_BITS} ids")
    return 0


cdef int check_functions(Model model, Columns* columns) except -1:
    """Whether each function is in the frame or known already."""
    cdef uint32_t i, start
    for i in range(<uint32_t>columns.n_functions):
        start = columns.function_offsets[i]
        if columns.function_offsets[i + 1] - start == 16:
            if (<const char*>columns.function_bytes)[start:start + 16] not in model.function_index:
                raise FrameError("a TASKS frame uses a function that was never sent")
    return 0


cdef int take_functions(Model model, ClientRecord client, Columns* columns, vector[uint32_t]& numbers) except -1:
    cdef uint32_t i, start, number
    for i in range(<uint32_t>columns.n_functions):
        start = columns.function_offsets[i]
        number = model.function_number(columns.function_bytes + start, columns.function_bytes + start + 16,
                                       columns.function_offsets[i + 1] - start - 16)
        if number not in client.functions:
            client.functions.add(number)
            model.functions[number].n_clients += 1
        numbers.push_back(number)
    return 0


cdef int begin_submission(Model model, ClientRecord client, Columns* columns, double now) except -1:
    """A new submission gets a new generation unless it follows the last one within its fifo timeout."""
    if columns.header[2] != client.last_submission_number or client.submission == 0:
        if (
            client.submission == 0
            or columns.header[1] & NESTED
            or now - client.last_submission > columns.header[3] * 1e-6
        ):
            client.submission = next_submission(model, columns.header[1] & NESTED)
        client.last_submission_number = columns.header[2]
    client.last_submission = now
    return 0


cdef uint32_t next_submission(Model model, bint nested) noexcept:
    """A number for the order of submissions: nested ones go before all others, the newest first."""
    if not nested:
        model.generation += 1
        return model.generation
    model.nested_generation -= 1
    if model.nested_generation == 0:
        model.nested_generation = FIRST_GENERATION - 1
    return model.nested_generation


cdef uint32_t take_row(Model model, ClientRecord client, Columns* columns, uint32_t row, uint64_t hash,
                       vector[uint32_t]& functions, uint32_t option) except? NONE:
    """The slot of the row's key, made if it is new; NONE when the row refers to a key that does not exist."""
    cdef const uint8_t* key = columns.keys + columns.key_offsets[row]
    cdef uint32_t key_length = columns.key_offsets[row + 1] - columns.key_offsets[row]
    cdef uint32_t slot = model.keys.find(hash, key, key_length)
    cdef uint32_t former
    cdef Task* task
    if slot != NONE:
        if columns.functions[row] != NO_FUNCTION and may_take_work(model, client, columns, row, slot):
            task = model.task(slot)
            if task.state == ERRED:
                erred_to_released(model, slot)
                task.suspicious = 0
                report(model, task, STATUS_PENDING, NULL, 0)
            former = task.options
            task.options = 0
            task.retries = 0
            model.payload.drop(task)
            model.payload.store(slot, key, key_length, columns.arguments + columns.argument_offsets[row],
                                columns.argument_offsets[row + 1] - columns.argument_offsets[row])
            take_work(model, client, columns, row, slot, functions, option)
            # They may be those of this row, too.
            model.release_options(former)
        return slot
    if columns.functions[row] == NO_FUNCTION:
        text = str(readable_key(key, key_length))
        refuse(model, client, columns.header[0] + row, reason_payload(
            Reason.UNKNOWN_KEY, f"there is no task {text!r} on the scheduler: it was never submitted, or it was "
            "released by everyone who wanted it", key=text))
        return NONE
    slot = model.new_task()
    task = model.task(slot)
    model.payload.store(slot, key, key_length, columns.arguments + columns.argument_offsets[row],
                        columns.argument_offsets[row + 1] - columns.argument_offsets[row])
    if model.keys.insert(hash, slot) < 0:
        raise MemoryError("no memory for the table of keys")
    task.prefix = number_of_prefix(model, key, key_length)
    model.prefixes[task.prefix].n_alive += 1
    take_work(model, client, columns, row, slot, functions, option)
    return slot


cdef int take_work(Model model, ClientRecord client, Columns* columns, uint32_t row, uint32_t slot,
                   vector[uint32_t]& functions, uint32_t option) except -1:
    """What a row says of its task beside the key and the arguments."""
    cdef Task* task = model.task(slot)
    cdef Options asked
    task.function = functions[columns.functions[row]]
    model.functions[task.function].n_tasks += 1
    task.submission = client.submission
    task.order = columns.order[row] if columns.order != NULL else <uint32_t>(columns.header[0] + row)
    if option:
        task.options = option
        asked = model.option(option)
        asked.n_tasks += 1
        task.retries = <uint16_t>asked.retries
        if asked.actor:
            task.flags |= ACTOR
    return take_inputs(model, client, columns, row, slot)


cdef bint may_take_work(Model model, ClientRecord client, Columns* columns, uint32_t row, uint32_t slot) except -1:
    """Whether a record without work, because an input was unknown when it came, can have this row's work.

    Other tasks depend on the record by now; its inputs may not be among them.
    """
    cdef Task* task = model.task(slot)
    cdef vector[uint32_t] stack
    cdef unordered_set[uint32_t] seen
    cdef uint32_t i, dependency
    if task.function != NONE or task.flags & (PURE_DATA | ACTOR) or task.n_dependencies or (
        task.state != ERRED and task.state != RELEASED
    ):
        return False
    for i in range(columns.dependency_offsets[row], columns.dependency_offsets[row + 1]):
        dependency = client.slot_of(columns.dependencies[i])
        if dependency == NONE:
            return False
        stack.push_back(dependency)
    while not stack.empty():
        dependency = stack.back()
        stack.pop_back()
        if dependency == slot:
            return False
        if seen.insert(dependency).second:
            for i in range(model.task(dependency).n_dependencies):
                stack.push_back(model.dependencies_of(model.task(dependency))[i])
    return True


cdef inline uint32_t number_of_prefix(Model model, const uint8_t* key, uint32_t length) except? NONE:
    cdef size_t start = 0, end = 0
    key_prefix(key, length, &start, &end)
    if model.prefix_names.size() and model.prefix_names[model.last_prefix].size() == end - start and (
        memcmp(model.prefix_names[model.last_prefix].data(), key + start, end - start) == 0
    ):
        return model.last_prefix
    model.last_prefix = model.prefix_number(key + start, <uint32_t>(end - start))
    return model.last_prefix


cdef int refuse(Model model, ClientRecord client, uint64_t id, bytes payload) except -1:
    return report_to(model, client.number, id, NULL, STATUS_LOST, payload, <uint32_t>len(payload))


cdef int take_inputs(Model model, ClientRecord client, Columns* columns, uint32_t row, uint32_t slot) except -1:
    cdef uint32_t begin = columns.dependency_offsets[row]
    cdef uint32_t end = columns.dependency_offsets[row + 1]
    cdef uint32_t i, dependency
    cdef bytes payload
    if begin == end:
        return 0
    model.scratch.clear()
    for i in range(begin, end):
        dependency = client.slot_of(columns.dependencies[i])
        if dependency == NONE:
            payload = reason_payload(Reason.UNKNOWN_KEY, "an input of this task is not known to the scheduler any more")
            # Without its inputs it can never run: it keeps no work that could be tried again.
            forget_work(model, model.task(slot))
            any_to_erred(model, slot, payload, <uint32_t>len(payload))
            return 0
        model.scratch.push_back(dependency)
    model.set_dependencies(model.task(slot), model.scratch.data(), end - begin)
    for i in range(end - begin):
        model.add_dependent(model.task(model.scratch[i]), model.id_of(slot))
    return 0


cdef int forget_work(Model model, Task* task) except -1:
    cdef uint32_t function = task.function
    task.function = NONE
    model.functions[function].n_tasks -= 1
    model.release_function(function)
    return 0


cdef int start_rows(
    Model model, ReadyQueue queue, ClientRecord client, Columns* columns, vector[uint32_t]& slots
) except -1:
    """Start what is wanted; roots without restrictions go to the queue as one sorted run."""
    cdef vector[pair[uint64_t, uint64_t]] roots
    cdef vector[uint64_t] run
    cdef pair[uint64_t, uint64_t] root
    cdef uint32_t i, slot, run_option = 0
    cdef Task* task
    cdef double priority
    cdef bint sorted_already = True
    for i in range(0, slots.size(), 2):
        slot = slots[i]
        task = model.task(slot)
        if task.state != RELEASED:
            report_current(model, slot, client.number, columns.header[0] + slots[i + 1])
            continue
        if task.n_dependencies or task.function == NONE or task.flags & ACTOR or (
            task.options and model.option(task.options).restricted) or (
            roots.size() and task.options != run_option
        ):
            released_to_needed(model, slot)
            continue
        model.set_state(task, READY)
        run_option = task.options
        root.first = (<uint64_t>task.submission << 32) | task.order
        root.second = model.id_of(slot)
        sorted_already = sorted_already and (roots.empty() or roots.back().first <= root.first)
        roots.push_back(root)
    if roots.empty():
        return 0
    if not sorted_already:
        sort(roots.begin(), roots.end())
    run.reserve(roots.size())
    for i in range(<uint32_t>roots.size()):
        run.push_back(roots[i].second)
    priority = model.option(run_option).priority if run_option else 0.0
    queue.push_run(priority, roots[0].first, run)
    return 0


cdef int close_submission(Model model, ClientRecord client) except -1:
    """The submission is complete: it lets go of the tasks that only it kept."""
    cdef size_t i
    cdef uint32_t slot
    for i in range(client.open_ids.size()):
        slot = client.slot_of(client.open_ids[i])
        client.clear_slot(client.open_ids[i])
        if slot != NONE:
            model.remove_want(model.task(slot), client.number, 0)
            model.to_check.push_back(model.id_of(slot))
    client.open_ids.clear()
    client.open_ids.shrink_to_fit()
    return 0


cdef int release_id(Model model, ClientRecord client, uint64_t id) except -1:
    cdef uint32_t slot = client.slot_of(id)
    if slot == NONE:
        return 0
    # What only the open submission keeps is not the user's to release.
    if model.remove_want(model.task(slot), client.number, id):
        client.clear_slot(id)
        model.to_check.push_back(model.id_of(slot))
    return 0


cdef int release_ids(Model model, ClientRecord client, list ids) except -1:
    for id in ids:
        release_id(model, client, id)
    return 0


cdef int take_release(Model model, ClientRecord client, object body) except -1:
    """Apply a RELEASE frame. An id that is not wanted is ignored: releasing twice is harmless."""
    cdef ColumnReader reader = ColumnReader(body, RELEASE_COLUMNS)
    cdef const uint64_t* ids = <const uint64_t*>reader.fixed(0, reader.n_rows, 8)
    cdef uint32_t i
    cdef bytes hashes
    reader.length_of(1, 16)
    for i in range(reader.n_rows):
        release_id(model, client, ids[i])
    hashes = reader.column_bytes(1)
    for i in range(0, <uint32_t>len(hashes), 16):
        number = model.function_index.get(hashes[i:i + 16])
        if number is not None and number in client.functions:
            client.functions.discard(number)
            model.functions[number].n_clients -= 1
            model.release_function(number)
    return 0
