"""Names of dask.distributed that have no counterpart here: they can be imported, and raise an error when used.

Part of the table of aliases: module below `fastdist` to names. Where `aliases.ALIASES` has a home for one of them,
that counts. May import: nothing of fastdist.
"""

from __future__ import annotations

PLANNED_NAMES: dict[str, str] = {
    "actor": "EagerActorFuture ProxyRPC",
    "batched": "BatchedSend",
    "cli.dask_ssh": "main",
    "comm.core": "BaseListener Connector FatalCommClosedError",
    "comm.tcp": """
        MAX_BUFFER_SIZE TCP TCPBackend TCPConnector TCPListener TLS TLSBackend TLSConnector TLSListener
        convert_stream_closed_error get_stream_address""",
    "comm.utils": "from_frames get_tcp_server_address get_tcp_server_addresses to_frames",
    "config": "get_loop_factory initialize_logging",
    "core": "ConnectionPool PooledRPCCall Server pingpong send_recv",
    "deploy.adaptive_core": "AdaptiveCore",
    "deploy.ssh": "Process Scheduler Worker",
    "deploy.subprocess": "SubprocessWorker",
    "diagnostics.nvml": """
        CudaContext CudaDeviceInfo device_get_count get_device_index_and_uuid get_device_mig_mode has_cuda_context
        init_once is_initialized one_time real_time""",
    "diagnostics.progressbar": (
        "MultiProgressBar MultiProgressWidget ProgressBar ProgressWidget TextProgressBar get_scheduler"
    ),
    "diagnostics.task_stream": "TaskStreamPlugin color_of_message rectangles",
    "event": "EventExtension",
    "http": "",
    "http.health": "HealthHandler",
    "http.prometheus": "PrometheusCollector PrometheusNotAvailableHandler",
    "http.scheduler": "",
    "http.scheduler.api": "APIHandler AdaptiveTargetHandler CheckIdleHandler GetWorkersHandler RetireWorkersHandler",
    "http.scheduler.info": "IndividualPlots Logs Task Worker WorkerLogs Workers",
    "http.scheduler.json": "CountsJSON IdentityJSON IndexJSON",
    "http.utils": "RequestHandler get_handlers redirect",
    "multi_lock": "MultiLockExtension",
    "nanny": "WorkerProcess",
    "node": "ServerNode",
    "process": "AsyncProcess",
    "proctitle": "enable_proctitle_on_children enable_proctitle_on_current setproctitle",
    "protocol": """
        Pickled Serialize Serialized ToPickle dask_deserialize dask_serialize decompress dumps loads maybe_compress
        register_generic register_serialization register_serialization_family to_serialize""",
    "protocol.compression": "Compression compressions decompress get_compression_settings maybe_compress",
    "protocol.core": "dumps loads",
    "protocol.cuda": "cuda_deserialize cuda_dumps cuda_loads cuda_object_with_dict_serializer cuda_serialize",
    "protocol.numpy": "deserialize_numpy_ndarray serialize_numpy_ndarray",
    "protocol.serialize": """
        ObjectDictSerializer Pickled Serialize Serialized ToPickle check_dask_serializable dask_deserialize dask_dumps
        dask_loads dask_object_with_dict_serializer dask_serialize merge_and_deserialize msgpack_decode_default
        msgpack_dumps msgpack_encode_default msgpack_loads pickle_dumps pickle_loads register_generic
        register_serialization register_serialization_family register_serialization_lazy serialize_and_split
        to_serialize""",
    "publish": "PublishExtension PublishedDataset",
    "queues": "QueueExtension",
    "semaphore": "SemaphoreExtension",
    "shuffle": "ShuffleSchedulerPlugin ShuffleWorkerPlugin rechunk_p2p",
    "shuffle._arrow": """
        buffers_to_table check_dtype_support concat_tables convert_shards deserialize_table read_from_disk
        serialize_table""",
    "shuffle._core": """
        P2PBarrierTask RunSpecMessage SchedulerShuffleState ShuffleId ShuffleRun ShuffleRunSpec ShuffleSpec ShuffleType
        barrier_key get_worker_plugin handle_transfer_errors handle_unpack_errors id_from_key p2p_barrier""",
    "shuffle._exceptions": (
        "DataUnavailable P2PConsistencyError P2PIllegalStateError P2POutOfDiskError ShuffleClosedError"
    ),
    "shuffle._merge": "merge_transfer merge_unpack",
    "shuffle._rechunk": """
        ArrayRechunkRun ArrayRechunkSpec P2PRechunkLayer rechunk_name rechunk_p2p rechunk_transfer rechunk_unpack""",
    "shuffle._shuffle": """
        DataFrameShuffleRun DataFrameShuffleSpec shuffle_transfer shuffle_unpack split_by_partition split_by_worker""",
    "spans": "Span SpanMetadata SpansSchedulerExtension SpansWorkerExtension",
    "spill": "AnyKeyFile SpillBuffer SpilledSize",
    "stealing": "WorkStealing",
    "system_monitor": "SystemMonitor",
    "threadpoolexecutor": "ThreadPoolExecutor",
    "utils": """
        DequeHandler EmptyContext RateLimiterFilter asciitable clean_dashboard_address command_has_keyword
        get_fileno_limit get_mp_context in_async_call is_valid_xml recursive_to_dict run_in_executor_with_context
        set_thread_state url_escape warn_on_duration""",
    "utils_comm": "gather_from_workers pack_data retry_operation scatter_to_workers subs_multiple unpack_remotedata",
    "utils_test": """
        BarrierGetData BlockedExecute BlockedGatherDep BlockedGetData BlockedInstantiateNanny BlockedKillNanny
        BrokenComm assert_story assert_valid_story fetch_metrics fetch_metrics_body freeze_batched_send
        freeze_data_fetching gen_tls_cluster get_cert tls_client tls_cluster tls_config tls_only_config
        tls_only_security tls_security wait_for_stimulus""",
    "variable": "VariableExtension",
    "widgets": "get_template",
    "worker": "dumps_function get_data_from_worker run",
    "worker_memory": "NannyMemoryManager WorkerMemoryManager",
    "worker_state_machine": """
        AcquireReplicasEvent AddKeysMsg BaseWorker CancelComputeEvent ComputeTaskEvent Execute ExecuteDoneEvent
        ExecuteFailureEvent ExecuteSuccessEvent FindMissingEvent FreeKeysEvent GatherDep GatherDepBusyEvent
        GatherDepDoneEvent GatherDepFailureEvent GatherDepNetworkFailureEvent GatherDepSuccessEvent Instruction
        InvalidTaskState InvalidTransition LongRunningMsg PauseEvent RecommendationsConflict RefreshWhoHasEvent
        ReleaseWorkerDataMsg RemoveReplicasEvent RemoveWorkerEvent RequestRefreshWhoHasMsg RescheduleEvent
        RescheduleMsg RetryBusyWorkerEvent RetryBusyWorkerLater SecedeEvent SendMessageToScheduler StateMachineEvent
        StealRequestEvent StealResponseMsg TaskErredMsg TaskFinishedMsg TransitionCounterMaxExceeded UnpauseEvent
        UpdateDataEvent""",
}
