"""What libraries import from dask.distributed: every module, and the names in it, written down once.

By library where it is known who imports it; the names that nobody is known for are those of dask.distributed itself.
`NOT_AVAILABLE` are those without a counterpart: they can be imported, and raise NotImplementedError when used.
"""

# ruff: noqa: SIM905
from __future__ import annotations

MODULES = """
_signals actor active_memory_manager batched cfexecutor client cluster_dump comm comm.addressing comm.core comm.registry
comm.tcp comm.inproc comm.utils compatibility config core deploy deploy.adaptive deploy.adaptive_core deploy.cluster
deploy.local deploy.spec deploy.ssh deploy.subprocess deploy.utils diagnostics diagnostics.plugin diagnostics.nvml
diagnostics.memory_sampler diagnostics.progressbar diagnostics.task_stream diagnostics.memray event exceptions http
http.utils http.health http.scheduler http.scheduler.api http.scheduler.info http.scheduler.json lock metrics multi_lock
nanny node objects preloading proctitle process protocol protocol.serialize protocol.pickle protocol.core
protocol.compression protocol.cuda protocol.numpy publish queues scheduler security semaphore shuffle shuffle._core
shuffle._shuffle shuffle._merge shuffle._rechunk shuffle._arrow shuffle._exceptions sizeof spans spill stealing system
system_monitor threadpoolexecutor utils utils_comm utils_test variable versions worker worker_client worker_memory
worker_state_machine cli.dask_scheduler cli.dask_worker cli.dask_spec cli.dask_ssh
""".split()

#: Library, or a guess at who, to module to names; "" is the package itself.
NAMES: dict[str, dict[str, str]] = {
    "dask": {
        "": "Client Scheduler SchedulerPlugin Worker WorkerPlugin __version__ default_client futures_of get_client"
        " get_worker wait",
        "lock": "Lock",
        "protocol.pickle": "dumps",
        "utils": "import_term iscoroutinefunction",
        "worker": "get_client",
    },
    "joblib": {
        "": "Client LocalCluster __version__ as_completed get_client get_worker rejoin secede",
        "metrics": "time",
        "utils": "TimeoutError thread_state",
        "utils_test": "cleanup cluster inc",
    },
    "xgboost": {
        "": "Client Future MultiLock Worker get_client get_worker wait worker_client",
        "comm": "get_address_host get_address_host_port",
    },
    "lightgbm": {"": "default_client wait"},
    "dask-jobqueue": {
        "core": "CommClosedError Status rpc",
        "deploy.local": "nprocesses_nthreads",
        "deploy.spec": "ProcessInterface SpecCluster",
        "scheduler": "Scheduler",
        "security": "Security",
        "utils": "LoopRunner SyncMethodMixin import_term",
        "worker": "Worker",
    },
    "dask-kubernetes": {
        "": "Scheduler",
        "core": "Status clean_exception rpc",
        "deploy": "Cluster",
        "protocol.pickle": "dumps",
        "utils": "Log Logs TimeoutError format_dashboard_link",
    },
    "dask-gateway": {
        "": "Client",
        "comm.core": "Connector",
        "comm.registry": "Backend backends",
        "comm.tcp": "MAX_BUFFER_SIZE TLS convert_stream_closed_error get_stream_address",
        "core": "rpc",
        "diagnostics.plugin": "SchedulerPlugin",
        "scheduler": "logger",
        "security": "Security",
        "utils": "LoopRunner ensure_ip get_ip",
    },
    "dask-mpi": {"": "Client Nanny Scheduler Worker", "utils": "import_term"},
    "dask-cuda": {
        "": "Client LocalCluster Nanny SSHCluster Worker WorkerPlugin performance_report wait",
        "_signals": "wait_for_signals",
        "comm": "parse_address",
        "comm.addressing": "get_address_host",
        "compatibility": "asyncio_run",
        "config": "get_loop_factory",
        "core": "Server",
        "deploy.cluster": "Cluster",
        "diagnostics.nvml": "CudaDeviceInfo device_get_count get_device_index_and_uuid has_cuda_context",
        "preloading": "validate_preload_argv",
        "proctitle": "enable_proctitle_on_children enable_proctitle_on_current",
        "protocol": "dask_deserialize dask_serialize deserialize deserialize_bytes serialize serialize_bytelist",
        "protocol.cuda": "cuda_deserialize cuda_serialize",
        "security": "Security",
        "sizeof": "safe_sizeof",
        "spill": "AnyKeyFile",
        "system": "MEMORY_LIMIT",
        "utils": "import_term nbytes parse_ports",
        "worker_memory": "parse_memory_limit",
    },
    "dask-ml": {
        "": "Future Lock Variable as_completed default_client futures_of get_client get_worker wait",
        "utils": "log_errors",
    },
    "prefect-dask": {
        "": "Client Future LocalCluster TimeoutError get_client performance_report",
        "deploy.cluster": "Cluster",
    },
    "xarray": {"": "Client Lock"},
    "coiled": {
        "": "Client Future LocalCluster NannyPlugin SchedulerPlugin Security Status WorkerPlugin get_client"
        " performance_report print progress rpc span",
        "comm.addressing": "parse_address",
        "core": "Status",
        "deploy.adaptive": "Adaptive",
        "deploy.cluster": "Cluster",
        "diagnostics.plugin": "NannyPlugin SchedulerPlugin WorkerPlugin",
        "objects": "SchedulerInfo",
        "utils": "Log Logs LoopRunner sync",
        "versions": "get_versions",
    },
    "others": {
        "client": "default_client",
        "utils": """
            All Any CancelledError Deadline Log Logs LoopRunner NoOpAwaitable SyncMethodMixin TimeoutError
            TupleComparable ensure_ip ensure_memoryview format_dashboard_link get_ip get_ip_interface get_ipv6
            get_traceback has_arg has_keyword import_file import_term is_kernel iscoroutinefunction json_load_robust
            key_split key_split_group log_errors nbytes offload open_port parse_ports read_block silence_logging_cmgr
            sync thread_state tmp_text truncate_exception wait_for""",
        "utils_test": """
            BlockedExecute BlockedGatherDep BlockedGetData SizeOf assert_story async_poll_for captured_logger cleanup
            client cluster dec div fetch_metrics gen_cluster gen_nbytes gen_test inc loop loop_in_thread new_config
            popen save_sys_modules slowadd slowinc throws tls_only_security varying wait_for_state""",
        "worker_state_machine": "ComputeTaskEvent TaskState WorkerState",
        "shuffle": "rechunk_p2p",
        "shuffle._arrow": "check_dtype_support",
        "shuffle._core": "P2PBarrierTask ShuffleId barrier_key p2p_barrier",
        "shuffle._exceptions": "P2PConsistencyError",
        "shuffle._merge": "merge_transfer merge_unpack",
        "shuffle._shuffle": "DataFrameShuffleSpec shuffle_transfer shuffle_unpack",
        "http.utils": "RequestHandler",
    },
}

#: Of the names above: module and name of those that raise NotImplementedError when they are used.
NOT_AVAILABLE = """
comm.core.Connector comm.tcp.MAX_BUFFER_SIZE comm.tcp.TLS comm.tcp.convert_stream_closed_error
comm.tcp.get_stream_address config.get_loop_factory core.Server diagnostics.nvml.CudaDeviceInfo
diagnostics.nvml.device_get_count diagnostics.nvml.get_device_index_and_uuid diagnostics.nvml.has_cuda_context
http.utils.RequestHandler proctitle.enable_proctitle_on_children proctitle.enable_proctitle_on_current
protocol.cuda.cuda_deserialize protocol.cuda.cuda_serialize protocol.dask_deserialize protocol.dask_serialize
shuffle._arrow.check_dtype_support shuffle._core.P2PBarrierTask shuffle._core.ShuffleId shuffle._core.barrier_key
shuffle._core.p2p_barrier shuffle._exceptions.P2PConsistencyError shuffle._merge.merge_transfer
shuffle._merge.merge_unpack shuffle._shuffle.DataFrameShuffleSpec shuffle._shuffle.shuffle_transfer
shuffle._shuffle.shuffle_unpack shuffle.rechunk_p2p spill.AnyKeyFile utils_test.BlockedExecute
utils_test.BlockedGatherDep utils_test.BlockedGetData utils_test.assert_story utils_test.fetch_metrics
utils_test.tls_only_security worker_state_machine.ComputeTaskEvent
""".split()
