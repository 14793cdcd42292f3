"""What a script written for dask.distributed may import and call: names and signatures, written down once.

Each line is a signature as its caller sees it, without `self`; `no_default` stands for "left out". Where fastdist
has not got something, it is in `LATER` (it raises NotImplementedError that names it) or in `ABSENT` (with the
reason); both lists can only shrink: `tests/test_exports.py` finds what they no longer describe.
"""

# ruff: noqa: E501, SIM905
from __future__ import annotations

#: The names of the package itself.
TOP_LEVEL = """
Actor ActorFuture Adaptive BaseActorFuture CancelledError Client CompatibleExecutor CondaInstall Environ Event Future
InstallPlugin KilledWorker LocalCluster Lock MultiLock Nanny NannyPlugin PipInstall Queue Reschedule SSHCluster
Scheduler SchedulerPlugin Security Semaphore SpecCluster Status SubprocessCluster TimeoutError UploadDirectory
UploadFile Variable Worker WorkerPlugin as_completed config connect dask default_client fire_and_forget futures_of
get_client get_task_metadata get_task_stream get_worker local_client performance_report print progress rejoin rpc
secede span sync wait warn widgets worker_client
""".split()

FUNCTIONS = """
connect(addr, timeout=None, deserialize=True, handshake_overrides=None, **connection_args)
default_client(c=None)
fire_and_forget(obj)
futures_of(o, client=None)
get_client(address=None, timeout=None, resolve_address=True)
get_task_metadata()
get_task_stream(client=None, plot=False, filename="task-stream.html")
get_worker()
performance_report(filename="dask-report.html", stacklevel=1, mode=None, storage_options=None)
print(*args, sep=" ", end="\\n", file=None, flush=False)
progress(*futures, notebook=None, multi=True, complete=True, group_by="prefix", **kwargs)
rejoin()
rpc(arg=None, comm=None, deserialize=True, timeout=None, connection_args=None, serializers=None, deserializers=None)
secede()
span(*tags)
sync(loop, func, *args, callback_timeout=None, **kwargs)
wait(fs, timeout=None, return_when="ALL_COMPLETED")
warn(message, category=UserWarning, stacklevel=1, source=None)
worker_client(timeout=None, separate_thread=True)
"""

CONSTRUCTORS = """
Client(address=None, loop=None, timeout=no_default, set_as_default=True, scheduler_file=None, security=None, asynchronous=False, name=None, heartbeat_interval=None, serializers=None, deserializers=None, extensions=None, direct_to_workers=None, connection_limit=512, **kwargs)
CondaInstall(packages, conda_options=None, restart_workers=False)
Environ(environ=None)
Event(name=None, client=None)
FutureCancelledError(key, reason, msg=None)
FuturesCancelledError(error_groups)
InstallPlugin(install_fn, restart_workers)
KilledWorker(task, last_worker, allowed_failures)
LocalCluster(name=None, n_workers=None, threads_per_worker=None, processes=None, loop=None, start=None, host=None, ip=None, scheduler_port=0, silence_logs=30, dashboard_address=":8787", worker_dashboard_address=None, services=None, worker_services=None, service_kwargs=None, asynchronous=False, security=None, protocol=None, blocked_handlers=None, interface=None, worker_class=None, scheduler_kwargs=None, scheduler_sync_interval=1, **worker_kwargs)
Lock(name=None, scheduler_rpc=None, loop=None)
MultiLock(names=None, client=None)
PipInstall(packages, pip_options=None, restart_workers=False)
Queue(name=None, client=None, maxsize=0)
Semaphore(max_leases=1, name=None, scheduler_rpc=None, loop=None)
SpecCluster(workers=None, scheduler=None, worker=None, asynchronous=False, loop=None, security=None, silence_logs=False, name=None, shutdown_on_close=True, scheduler_sync_interval=1, shutdown_scheduler=True)
Security(require_encryption=None, **kwargs)
SubprocessCluster(host=None, scheduler_port=0, scheduler_kwargs=None, dashboard_address=":8787", worker_class="distributed.Nanny", n_workers=None, threads_per_worker=None, worker_kwargs=None, silence_logs=30, **kwargs)
UploadFile(filepath, load=True)
Variable(name=None, client=None)
as_completed(futures=None, loop=None, with_results=False, raise_errors=True, *, timeout=None)
"""

#: The methods of each class.
METHODS = {
    "Client": """
as_current()
benchmark_hardware()
call_stack(futures=None, keys=None)
cancel(futures, asynchronous=None, force=False, reason=None, msg=None)
close(timeout=no_default)
compute(collections, sync=False, optimize_graph=True, workers=None, allow_other_workers=False, resources=None, retries=0, priority=0, fifo_timeout="60s", actors=None, traverse=True, **kwargs)
current(allow_global=True)
dump_cluster_state(filename="dask-cluster-dump", write_from_scheduler=None, exclude=(), format="msgpack", **storage_options)
forward_logging(logger_name=None, level=0)
futures_of(futures)
gather(futures, errors="raise", direct=None, asynchronous=None)
get(dsk, keys, workers=None, allow_other_workers=None, resources=None, sync=True, asynchronous=None, direct=None, retries=None, priority=0, fifo_timeout="60s", actors=None, **kwargs)
get_dataset(name, default=no_default)
get_events(topic=None)
get_executor(**kwargs)
get_metadata(keys, default=no_default)
get_scheduler_logs(n=None)
get_task_stream(start=None, stop=None, count=None, plot=False, filename="task-stream.html", bokeh_resources=None)
get_versions(check=False, packages=None)
get_worker_logs(n=None, workers=None, nanny=False)
has_what(workers=None)
list_datasets()
log_event(topic, msg)
map(func, *iterables, key=None, workers=None, retries=None, resources=None, priority=0, allow_other_workers=False, fifo_timeout="100 ms", actor=False, actors=False, pure=True, batch_size=None, **kwargs)
nbytes(keys=None, summary=True)
ncores(workers=None)
normalize_collection(collection)
nthreads(workers=None)
persist(collections, optimize_graph=True, workers=None, allow_other_workers=None, resources=None, retries=None, priority=0, fifo_timeout="60s", actors=None, **kwargs)
processing(workers=None)
profile(key=None, start=None, stop=None, workers=None, merge_workers=True, plot=False, filename=None, server=False, scheduler=False)
publish_dataset(*args, name=None, override=False, **kwargs)
rebalance(futures=None, workers=None)
register_plugin(plugin, name=None)
register_worker_callbacks(setup=None)
replicate(futures, n=None, workers=None, branching_factor=2)
restart(timeout=no_default, wait_for_workers=True)
restart_workers(workers, timeout=no_default, raise_for_error=True)
retire_workers(workers=None, close_workers=True, **kwargs)
retry(futures, asynchronous=None)
run(function, *args, workers=None, wait=True, nanny=False, on_error="raise", **kwargs)
run_on_scheduler(function, *args, **kwargs)
scatter(data, workers=None, broadcast=False, direct=None, hash=True, timeout=no_default, asynchronous=None)
scheduler_info(n_workers=-1)
set_metadata(key, value)
shutdown()
start(**kwargs)
story(*keys_or_stimuli, on_error="raise")
submit(func, *args, key=None, workers=None, resources=None, retries=None, priority=0, fifo_timeout="100 ms", allow_other_workers=False, actor=False, actors=False, pure=True, **kwargs)
subscribe_topic(topic, handler)
sync(func, *args, asynchronous=None, callback_timeout=None, **kwargs)
unforward_logging(logger_name=None)
unpublish_dataset(name)
unregister_scheduler_plugin(name)
unregister_worker_plugin(name, nanny=None)
unsubscribe_topic(topic)
upload_file(filename, load=True)
wait_for_workers(n_workers, timeout=None)
who_has(futures=None)
write_scheduler_file(scheduler_file)
""",
    "Future": """
add_done_callback(fn)
bind_client(client)
cancel(reason=None, msg=None, **kwargs)
cancelled()
done()
exception(timeout=None)
release()
result(timeout=None)
retry(**kwargs)
traceback(timeout=None)
""",
    "ActorFuture": """
done()
result(timeout=None)
""",
    "as_completed": """
add(future)
batches()
clear()
count()
has_ready()
is_empty()
next()
next_batch(block=True)
update(futures)
""",
    "Lock": """
acquire(blocking=True, timeout=None)
close()
get_value()
locked()
register()
release()
""",
    "MultiLock": """
acquire(blocking=True, timeout=None, num_locks=None)
locked()
release()
""",
    "Semaphore": """
acquire(timeout=None)
close()
get_value()
register()
release()
""",
    "Event": """
clear()
is_set()
set()
wait(timeout=None)
""",
    "Queue": """
close()
get(timeout=None, batch=False)
put(value, timeout=None)
qsize()
""",
    "Variable": """
delete()
get(timeout=None)
set(value, timeout="30 s")
""",
    "LocalCluster": """
adapt(**kwargs)
close(timeout=None)
get_client()
get_logs(cluster=True, scheduler=True, workers=True)
scale(n=0, memory=None, cores=None)
sync(func, *args, asynchronous=None, callback_timeout=None, **kwargs)
wait_for_workers(n_workers, timeout=None)
""",
    "SchedulerPlugin": """
add_client(scheduler, client)
add_worker(scheduler, worker)
before_close()
close()
log_event(topic, msg)
remove_client(scheduler, client)
remove_worker(scheduler, worker, *, stimulus_id, **kwargs)
restart(scheduler)
start(scheduler)
transition(key, start, finish, *args, stimulus_id, **kwargs)
update_graph(scheduler, *, client, keys, tasks, annotations, priority, stimulus_id, **kwargs)
valid_workers_downscaling(scheduler, workers)
""",
    "WorkerPlugin": """
setup(worker)
teardown(worker)
transition(key, start, finish, **kwargs)
""",
    "NannyPlugin": """
setup(nanny)
teardown(nanny)
""",
}

#: Parameters of the servers' constructors, which go by name.
SERVER_PARAMETERS = {
    "Scheduler": """
services service_kwargs allowed_failures extensions validate scheduler_file security worker_ttl idle_timeout interface
host port protocol dashboard_address dashboard http_prefix preload preload_argv plugins contact_address
transition_counter_max jupyter blocked_handlers connection_limit local_directory
""".split(),
    "Worker": """
scheduler_ip scheduler_port scheduler_file nthreads local_directory services name executor resources silence_logs
death_timeout preload preload_argv security contact_address heartbeat_interval extensions metrics startup_information
interface host port protocol dashboard_address dashboard http_prefix nanny plugins low_level_profiler validate
profile_cycle_interval lifetime lifetime_stagger lifetime_restart transition_counter_max memory_limit data
scheduler_sni WorkerStateClass
""".split(),
    "Nanny": """
scheduler_ip scheduler_port scheduler_file worker_port nthreads local_directory services name memory_limit reconnect
validate quiet resources silence_logs death_timeout preload preload_argv preload_nanny preload_nanny_argv security
contact_address listen_address worker_class env interface host port protocol config
""".split(),
}

#: What an object has beside methods; of a running one.
ATTRIBUTES = {
    "Client": """
id status asynchronous loop scheduler cluster futures refcount datasets dashboard_link amm security scheduler_file
extensions preloads rpc direct_to_workers generation recreate_task_locally recreate_error_locally
""".split(),
    "Future": "key client executor type status".split(),
    "as_completed": "futures queue lock loop condition thread_condition".split(),
    "LocalCluster": """
status name loop asynchronous scheduler_address scheduler_info dashboard_link workers scheduler worker_spec new_spec
scheduler_spec security plan requested observed
""".split(),
    "Scheduler": """
tasks task_groups task_prefixes task_metadata workers aliases host_info resources running idle idle_task_count
saturated queued unrunnable replicated_tasks clients client_comms stream_comms plugins worker_plugins nanny_plugins
extensions total_nthreads total_memory total_occupancy memory bandwidth n_tasks is_idle idle_since idle_timeout
worker_ttl allowed_failures validate generation time_started transition_log preloads services contact_address
scheduler_file address id host port ip listeners status loop local_directory
""".split(),
    "Worker": """
data state memory_manager name address contact_address worker_address nanny local_directory scheduler client loop rpc
security executors executor plugins extensions metrics preloads services active_threads active_keys
transfer_incoming_log transfer_outgoing_log bandwidth latency heartbeat_interval id status
""".split(),
    "Nanny": "process worker_address worker_dir pid env plugins memory_manager status name id preloads".split(),
}  # fmt: skip

#: Methods of the servers that others than their own code call.
SERVER_METHODS = {
    "Scheduler": """
add_plugin remove_plugin register_scheduler_plugin unregister_scheduler_plugin broadcast proxy transition transitions
story update_graph scatter gather client_desires_keys client_releases_keys stimulus_cancel stimulus_retry add_worker
remove_worker close_worker workers_to_close retire_workers adaptive_target rebalance replicate restart restart_workers
get_processing get_who_has get_has_what get_ncores get_nbytes get_task_status get_task_prefix_states get_task_stream
set_metadata get_metadata set_restrictions log_event get_events subscribe_topic unsubscribe_topic check_idle
coerce_address coerce_hostname workers_list identity validate_state is_rootish worker_objective valid_workers
get_comm_cost get_cluster_state performance_report get_profile get_worker_logs benchmark_hardware run_function feed
finished close start
""".split(),
    "Worker": """
close close_gracefully log_event plugin_add plugin_remove set_resources update_data gather get_data heartbeat
get_metrics get_current_task finished identity run actor_execute actor_attribute
""".split(),
    "Nanny": "kill restart is_alive close close_gracefully plugin_add plugin_remove log_event finished instantiate".split(),
}

#: Exceptions: where they are found, and a base class.
EXCEPTIONS = {
    "client.FutureCancelledError": "concurrent.futures.CancelledError",
    "client.FuturesCancelledError": "concurrent.futures.CancelledError",
    "client.CancelledError": "concurrent.futures.CancelledError",
    "client.ClosedClientError": "builtins.Exception",
    "client.TimeoutError": "builtins.Exception",
    "scheduler.KilledWorker": "builtins.Exception",
    "scheduler.NoValidWorkerError": "builtins.Exception",
    "scheduler.NoWorkerError": "builtins.Exception",
    "exceptions.WorkerStartTimeoutError": "builtins.TimeoutError",
    "exceptions.Reschedule": "builtins.Exception",
    "worker.Reschedule": "builtins.Exception",
    "comm.CommClosedError": "builtins.OSError",
    "core.CommClosedError": "builtins.OSError",
    "core.RPCClosed": "builtins.OSError",
    "versions.VersionMismatchWarning": "builtins.Warning",
    "utils.TimeoutError": "builtins.Exception",
    "utils.CancelledError": "concurrent.futures.CancelledError",
}

#: Names that libraries import from submodules.
SUBMODULES = {
    "active_memory_manager": "ActiveMemoryManagerExtension ActiveMemoryManagerPolicy ReduceReplicas RetireWorker",
    "actor": "Actor ActorFuture BaseActorFuture",
    "cfexecutor": "ClientExecutor",
    "client": "Client Future as_completed wait default_client futures_of fire_and_forget get_task_metadata"
    " ensure_default_client temp_default_client performance_report",
    "comm": "parse_address get_address_host get_address_host_port resolve_address",
    "core": "Status rpc CommClosedError connect clean_exception error_message",
    "deploy": "Cluster LocalCluster SpecCluster ProcessInterface",
    "deploy.cluster": "Cluster",
    "deploy.local": "LocalCluster nprocesses_nthreads",
    "deploy.spec": "SpecCluster ProcessInterface",
    "diagnostics.plugin": "SchedulerPlugin WorkerPlugin NannyPlugin UploadFile UploadDirectory PipInstall CondaInstall"
    " Environ ForwardOutput",
    "event": "Event",
    "exceptions": "Reschedule WorkerStartTimeoutError",
    "lock": "Lock",
    "multi_lock": "MultiLock",
    "nanny": "Nanny",
    "preloading": "Preload process_preloads validate_preload_argv",
    "protocol": "serialize deserialize",
    "queues": "Queue",
    "scheduler": "Scheduler KilledWorker",
    "security": "Security",
    "semaphore": "Semaphore",
    "spans": "span",
    "system": "CPU_COUNT MEMORY_LIMIT",
    "utils": "TimeoutError CancelledError LoopRunner SyncMethodMixin sync import_term get_ip ensure_ip parse_ports"
    " nbytes format_dashboard_link Log Logs thread_state log_errors key_split iscoroutinefunction",
    "utils_test": "gen_cluster gen_test cluster client loop loop_in_thread cleanup inc dec slowinc slowadd div throws"
    " varying",
    "variable": "Variable",
    "versions": "get_versions",
    "worker": "Worker get_worker get_client secede Reschedule thread_state print warn",
    "worker_client": "worker_client local_client",
}

VERSION = "2026.8"

STATUS = """
undefined created init starting running paused stopping stopped closing closing_gracefully closed failed dont_reply
""".split()

#: What raises NotImplementedError when it is called so, with its name in the text.
LATER: dict[str, tuple[object, ...]] = {
    "Adaptive": (None,),
    "connect": ("tcp://127.0.0.1:1",),
    "performance_report": (),
    "span": ("tag",),
}

_BY_CLIENT = "the scheduler's own operations go through its connections: use the method of Client"
_COLUMNS = "tasks come as columns, decided in the compiled core: there is no method a task"
_BETWEEN_WORKERS = "workers move data by messages of their own (docs/wire.md)"


def _because(reason: str, kind: str, names: str) -> dict[str, str]:
    return {f"{kind}.{name}": reason for name in names.split()}


#: What is not there, and why.
ABSENT: dict[str, str] = {
    **_because(_BY_CLIENT, "Scheduler", "run_function get_task_stream"),
    **_because(_COLUMNS, "Scheduler", "update_graph generation"),
    **_because("workers register by a message", "Scheduler", "add_worker"),
    **_because("not built yet", "Scheduler", "feed"),
    **_because(_BETWEEN_WORKERS, "Worker", "gather get_data update_data run actor_execute actor_attribute"),
    **_because("execution threads are the compiled core's own", "Worker", "executor"),
    **_because("not built yet", "Worker", "set_resources"),
    "as_completed.condition": "asynchronous iteration needs none; threads have thread_condition",
    "active_memory_manager:RetireWorker": "client.retire_workers",
}

#: How a signature differs from the inventory, for each place where it does.
DIFFERENT: dict[str, tuple[str, ...]] = {}
