"""The table of settings: the name, type, default and meaning of each, and which names have no effect yet.

Names are those of dask.distributed without its prefix `distributed.`, so far as it has the setting too.
`SETTINGS` have an effect; `PLANNED` are known, and reported when they are given another value than the one
that this version behaves like; `MOOT` need nothing, whatever their value. May import: nothing of fastdist but
`config.quantities`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastdist.config import quantities as q

PREFIX = "FASTDIST_"
DASK_PREFIX = "distributed."


@dataclass(frozen=True)
class Setting:
    """One row of the table: how a value is understood, what it is by default, and what it means."""

    name: str
    parse: q.Parse
    default: Any
    doc: str
    #: What dask calls it, if that is not the name behind `distributed.`.
    dask: str = ""

    @property
    def variable(self) -> str:
        """The environment variable of the setting."""
        return PREFIX + self.name.upper().replace("-", "_").replace(".", "__")

    @property
    def dask_name(self) -> str:
        """The name of the setting in `dask.config`."""
        return self.dask or DASK_PREFIX + self.name


_DURATION, _BYTES = q.parse_timedelta, q.parse_bytes
_LOG_FORMAT = "%(asctime)s - %(name)s - %(levelname)s - %(message)s"
_PRE_SPAWN = {
    "MALLOC_TRIM_THRESHOLD_": "65536",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}

_GENERAL = (
    Setting("event-loop", q.event_loop, "asyncio", "The event loop that processes run on: asyncio or uvloop.",
            dask="distributed.admin.event-loop"),
    Setting("scheduler-address", q.optional(q.text), None,
            "The scheduler that clients and workers without an address connect to.", dask="scheduler-address"),
    Setting("client-name", q.optional(q.text), None, "A part of the id of clients.", dask="client-name"),
    Setting("temporary-directory", q.optional(q.text), None,
            "Where workers make their temporary folders; the system's place by default.",
            dask="temporary-directory"),
    Setting("admin.large-graph-warning-threshold", _BYTES, "10 MB",
            "Above it, a warning tells what is so large."),
    Setting("admin.log-format", q.text, _LOG_FORMAT, "The lines that daemons and worker processes log."),
    Setting("admin.log-length", q.whole, 10_000, "How many lines of its log a process keeps for clients."),
    Setting("admin.low-level-log-length", q.whole, 1_000, "How many events of each topic are kept."),
    Setting("admin.max-error-length", q.whole, 10_000, "Characters of an exception's text that travel."),
)  # fmt: skip

_COMM = (
    Setting("comm.timeouts.connect", _DURATION, "30s", "How long opening a connection may take."),
    Setting("comm.timeouts.tcp", _DURATION, "30s", "After how long without acknowledgement a peer is dead."),
    Setting("comm.timeouts.handshake", _DURATION, "5s", "How long authentication may take."),
    Setting("comm.max-frame-bytes", q.frame_bytes, "2 GiB", "The longest columnar frame."),
    Setting("comm.max-message-bytes", _BYTES, "8 GiB", "The longest control message with its payloads."),
    Setting("comm.high-water", _BYTES, "64 MiB", "Above this queue for one peer, its senders wait."),
    Setting("comm.max-queued-bytes", _BYTES, "256 MiB", "Above this queue for one peer, it is dropped."),
    Setting("comm.socket-backlog", q.whole, 2048,
            "How many connections the kernel holds until they are accepted."),
    Setting("comm.require-encryption", q.optional(q.flag), None,
            "Refuse connections without TLS, but for those within one process."),
)  # fmt: skip

_SCHEDULER = (
    Setting("scheduler.active-memory-manager.start", q.flag, True,
            "Whether copies of results that nobody needs are dropped from time to time."),
    Setting("scheduler.active-memory-manager.interval", _DURATION, "2s", "How often."),
    Setting("scheduler.active-memory-manager.policies", q.mappings,
            [{"class": "distributed.active_memory_manager.ReduceReplicas"}],
            "What is done then: classes of policies by their import names, with their arguments."),
    Setting("scheduler.active-memory-manager.measure",
            q.one_of("process", "optimistic", "managed", "managed_total", "unmanaged", "spilled"), "optimistic",
            "Which memory decides which worker gets or drops a copy, where a policy of one's own suggests it."),
    Setting("scheduler.allowed-failures", q.whole, 3, "How many workers may die while executing a task."),
    Setting("scheduler.bandwidth", q.positive, 100_000_000,
            "Bytes a second between workers, for the choice of a worker."),
    Setting("scheduler.blocked-handlers", q.texts, [], "Operations that nobody may ask of the scheduler."),
    Setting("scheduler.contact-address", q.optional(q.text), None,
            "The address to tell to others, where it is not the one that is bound."),
    Setting("scheduler.validate", q.flag, False, "Check every invariant after each batch; for tests."),
    Setting("scheduler.kill-grace", _DURATION, "1s", "How long a task may go on after cancel(stop='kill')."),
    Setting("scheduler.client-grace", _DURATION, "10s", "How long the futures of a lost client are kept."),
    Setting("scheduler.worker-grace", _DURATION, "30s",
            "How long a worker whose connection broke keeps its tasks and data, unless its process is dead."),
    Setting("scheduler.frozen-timeout", q.endless, "4s",
            "After how long without a sign of life a worker counts as frozen; inf: never."),
    Setting("scheduler.heartbeat", _DURATION, "1s", "How often workers report."),
    Setting("scheduler.idle-timeout", q.optional(_DURATION), None, "Close after so long without work."),
    Setting("scheduler.journal", q.optional(q.text), None,
            "The folder of the journal, with which a scheduler that was killed goes on."),
    Setting("scheduler.journal-file-bytes", _BYTES, "64 MiB",
            "From which length on the log is replaced by a snapshot, which another process makes."),
    Setting("scheduler.journal-settle", _DURATION, "5s",
            "How long a scheduler that goes on waits for the workers that were there before it places tasks."),
    Setting("scheduler.journal-sync", q.optional(_DURATION), None,
            "Have the journal on the disk at most so much later, against the end of the machine; by default the system "
            "decides."),
    Setting("scheduler.inline-limit", _BYTES, "4 KiB", "The largest result sent with its task's state."),
    Setting("scheduler.prefill", _DURATION, "5ms", "How much work beyond its threads a worker is given."),
    Setting("scheduler.locks.lease-timeout", q.endless, "30s",
            "After how long without a refresh the lease of a lock or semaphore ends; inf: never."),
    Setting("scheduler.locks.lease-validation-interval", _DURATION, "10s",
            "The shortest time between two looks for leases that ended."),
    Setting("scheduler.max-coordination-bytes", _BYTES, "1 GiB",
            "What the values of all queues, and those of all variables, may take."),
    Setting("scheduler.max-dataset-bytes", _BYTES, "1 GiB", "What all published datasets may take."),
    Setting("scheduler.max-metadata-bytes", _BYTES, "64 MiB", "What all metadata may take."),
    Setting("scheduler.preload", q.texts, [], "Modules that the scheduler loads at start."),
    Setting("scheduler.preload-argv", q.arguments, [], "Arguments for them."),
    Setting("scheduler.no-workers-timeout", q.optional(_DURATION), None,
            "Fail tasks that no worker could run for so long; null: they wait."),
    Setting("scheduler.retire-patience", _DURATION, "30s",
            "How long what a retiring worker executes may take until it is closed."),
    Setting("scheduler.unknown-task-duration", _DURATION, "500ms",
            "What tasks count for of which none has ended yet."),
    Setting("scheduler.unrunnable-warning", _DURATION, "5s",
            "How long no worker can run a task until its clients are warned."),
    Setting("scheduler.worker-ttl", q.optional(_DURATION), None,
            "Restart workers whose event loop did not report for so long; null: never. Processes that are stopped or "
            "cut off are found by frozen-timeout."),
    Setting("scheduler.worker-saturation", q.positive, 1.1, "Tasks per thread where prefill does not apply."),
)  # fmt: skip

_WORKER = (
    Setting("worker.blocked-handlers", q.texts, [], "Operations that nobody may ask of a worker."),
    Setting("worker.max-threads", q.whole, 1_000,
            "How many threads execute tasks at most, with those of tasks that wait for others."),
    Setting("worker.memory.target", q.fraction, 0.60, "The fraction of the limit to spill at, by size."),
    Setting("worker.memory.spill", q.fraction, 0.70, "The same, by the memory of the process."),
    Setting("worker.memory.pause", q.fraction, 0.80, "The fraction at which no new task is started."),
    Setting("worker.memory.terminate", q.fraction, 0.95,
            "The fraction at which the nanny restarts the worker."),
    Setting("worker.memory.monitor-interval", _DURATION, "100ms", "How often the memory is looked at."),
    Setting("worker.memory.rebalance.measure",
            q.one_of("process", "optimistic", "managed", "managed_total"), "optimistic",
            "Which memory rebalance looks at; process and optimistic are the same here."),
    Setting("worker.memory.rebalance.sender-min", q.share, 0.30,
            "Workers below this fraction of their limit give nothing away when data is rebalanced."),
    Setting("worker.memory.rebalance.recipient-max", q.share, 0.60, "Workers above it get nothing."),
    Setting("worker.memory.rebalance.sender-recipient-gap", q.share, 0.10,
            "Twice the distance from the mean that is left alone."),
    Setting("worker.lifetime.duration", q.optional(_DURATION), None, "Workers retire after this time."),
    Setting("worker.lifetime.stagger", _DURATION, "0 seconds", "Up to so much earlier or later, at random."),
    Setting("worker.lifetime.restart", q.flag, False, "Whether their nannies start them again then."),
    Setting("worker.preload", q.texts, [], "Modules that workers load at start."),
    Setting("worker.preload-argv", q.arguments, [], "Arguments for them."),
    Setting("worker.resources", q.amounts, {}, "What a worker has of each resource."),
    Setting("worker.transfer.message-bytes-limit", _BYTES, "50MB",
            "Bytes of the inputs that one request to another worker asks for."),
    Setting("nanny.environ", q.variables, {}, "Variables of worker processes; they win over inherited ones."),
    Setting("nanny.pre-spawn-environ", q.variables, _PRE_SPAWN,
            "Variables of worker processes; inherited ones win over them."),
    Setting("nanny.preload", q.texts, [], "Modules that nannies load at start."),
    Setting("nanny.preload-argv", q.arguments, [], "Arguments for them."),
)  # fmt: skip

_CLIENT = (
    Setting("client.direct-to-workers", q.optional(q.flag), None,
            "Whether clients fetch results straight from workers; null: where that works."),
    Setting("client.heartbeat", _DURATION, "5s", "How often clients report."),
    Setting("client.preload", q.texts, [], "Modules that clients load at start."),
    Setting("client.preload-argv", q.arguments, [], "Arguments for them."),
    Setting("deploy.lost-worker-timeout", _DURATION, "15s", "After it, a cluster closes what started a lost worker."),
)  # fmt: skip

#: Every setting by its name.
SETTINGS: Mapping[str, Setting] = {
    setting.name: setting for group in (_GENERAL, _COMM, _SCHEDULER, _WORKER, _CLIENT) for setting in group
}

#: Names that have no feature yet, with the value that this version behaves like.
PLANNED: Mapping[str, Any] = {
    "scheduler.default-data-size": "1kiB",
    "scheduler.reuse-broadcast-comm": True,
    "scheduler.events-cleanup-delay": "1h",
    "scheduler.work-stealing": True,
    "scheduler.work-stealing-interval": "1s",
    "scheduler.rootish-taskgroup": 5,
    "scheduler.rootish-taskgroup-dependencies": 5,
    "scheduler.default-task-durations": {
        "rechunk-split": "1us", "split-shuffle": "1us", "split-taskshuffle": "1us", "split-stage": "1us",
    },
    "scheduler.dashboard.status.task-stream-length": 1000,
    "scheduler.dashboard.tasks.task-stream-length": 100000,
    "scheduler.dashboard.tls.ca-file": None,
    "scheduler.dashboard.tls.key": None,
    "scheduler.dashboard.tls.cert": None,
    "scheduler.dashboard.bokeh-application": {
        "allow_websocket_origin": ["*"], "keep_alive_milliseconds": 500,
        "check_unused_sessions_milliseconds": 500,
    },
    "scheduler.http.routes": [
        "distributed.http.scheduler.prometheus", "distributed.http.scheduler.info",
        "distributed.http.scheduler.json", "distributed.http.health", "distributed.http.proxy",
        "distributed.http.statics",
    ],
    "worker.multiprocessing-method": "spawn",
    "worker.use-file-locking": True,
    "worker.connections.outgoing": 50,
    "worker.connections.incoming": 10,
    "worker.validate": False,
    "worker.profile.enabled": True,
    "worker.profile.interval": "10ms",
    "worker.profile.cycle": "1000ms",
    "worker.profile.low-level": False,
    "worker.memory.recent-to-old-time": "30s",
    "worker.memory.transfer": 0.1,
    "worker.memory.max-spill": False,
    "worker.memory.spill-compression": "auto",
    "worker.http.routes": [
        "distributed.http.worker.prometheus", "distributed.http.health", "distributed.http.statics",
    ],
    "client.scheduler-info-interval": "2s",
    "client.security-loader": None,
    "deploy.cluster-repr-interval": "500ms",
    "adaptive.interval": "1s",
    "adaptive.target-duration": "5s",
    "adaptive.minimum": 0,
    "adaptive.maximum": float("inf"),
    "adaptive.wait-count": 3,
    "comm.retry.count": 0,
    "comm.retry.delay.min": "1s",
    "comm.retry.delay.max": "20s",
    "comm.compression": False,
    "comm.shard": "64MiB",
    "comm.offload": "10MiB",
    "comm.default-scheme": "tcp",
    "comm.zstd.level": 3,
    "comm.zstd.threads": 0,
    "comm.tls.ciphers": None,
    "comm.tls.min-version": 1.2,
    "comm.tls.max-version": None,
    "comm.tls.ca-file": None,
    "comm.tls.scheduler.cert": None,
    "comm.tls.scheduler.key": None,
    "comm.tls.worker.key": None,
    "comm.tls.worker.cert": None,
    "comm.tls.client.key": None,
    "comm.tls.client.cert": None,
    "comm.websockets.shard": "8MiB",
    "diagnostics.nvml": True,
    "diagnostics.cudf": False,
    "diagnostics.computations.max-history": 100,
    "diagnostics.computations.nframes": 0,
    "diagnostics.computations.ignore-modules": [
        "asyncio", "functools", "threading", "datashader", "dask", "debugpy", "distributed", "ipykernel",
        "coiled", "cudf", "cuml", "matplotlib", "pluggy", "prefect", "rechunker", "xarray", "xgboost", "xdist",
        "__channelexec__", "execnet",
    ],
    "diagnostics.computations.ignore-files": [
        "runpy", r".*py\.?test.*", "pycharm", "get_output_via_markers",
    ],
    "diagnostics.erred-tasks.max-history": 100,
    "p2p.comm.buffer": "1 GiB",
    "p2p.comm.concurrency": 10,
    "p2p.comm.message-bytes-limit": "2 MiB",
    "p2p.comm.retry.count": 10,
    "p2p.comm.retry.delay.min": "1s",
    "p2p.comm.retry.delay.max": "30s",
    "p2p.storage.buffer": "100 MiB",
    "p2p.storage.disk": True,
    "p2p.threads": None,
    "dashboard.link": "{scheme}://{host}:{port}/status",
    "dashboard.export-tool": False,
    "dashboard.graph-max-items": 5000,
    "dashboard.prometheus.namespace": "dask",
    "admin.tick.interval": "20ms",
    "admin.tick.limit": "3s",
    "admin.tick.cycle": "1s",
    "admin.pdb-on-err": False,
    "admin.system-monitor.interval": "500ms",
    "admin.system-monitor.log-length": 7200,
    "admin.system-monitor.disk": True,
    "admin.system-monitor.host-cpu": False,
    "admin.system-monitor.gil.enabled": True,
    "admin.system-monitor.gil.interval": "1ms",
    "rmm.pool-size": None,
}  # fmt: skip

#: Names that ask for nothing, whatever their value, with the reason.
MOOT: Mapping[str, str] = {
    "version": "it tells the format of dask's own file",
    "worker.daemon": "tasks may start processes, and workers end with their nanny, in either case",
    "scheduler.allowed-imports": "the scheduler imports nothing on behalf of clients",
}

#: Former names of dask's settings (without `distributed.`), with the ones of today.
RENAMED: Mapping[str, str] = {
    "scheduler.transition-log-length": "admin.low-level-log-length",
    "scheduler.events-log-length": "admin.low-level-log-length",
    "admin.recent-messages-log-length": "admin.low-level-log-length",
    "p2p.disk": "p2p.storage.disk",
}

#: The same for names that stood beside `distributed`, not in it.
RENAMED_TOP: Mapping[str, str] = {
    "allowed-failures": "scheduler.allowed-failures",
    "bandwidth": "scheduler.bandwidth",
    "default-data-size": "scheduler.default-data-size",
    "work-stealing": "scheduler.work-stealing",
    "worker-ttl": "scheduler.worker-ttl",
    "multiprocessing-method": "worker.multiprocessing-method",
    "use-file-locking": "worker.use-file-locking",
    "profile-interval": "worker.profile.interval",
    "worker-memory-target": "worker.memory.target",
    "worker-memory-spill": "worker.memory.spill",
    "worker-memory-pause": "worker.memory.pause",
    "worker-memory-terminate": "worker.memory.terminate",
    "heartbeat-interval": "client.heartbeat",
    "compression": "comm.compression",
    "connect-timeout": "comm.timeouts.connect",
    "tcp-timeout": "comm.timeouts.tcp",
    "default-scheme": "comm.default-scheme",
    "socket-backlog": "comm.socket-backlog",
    "diagnostics-link": "dashboard.link",
    "tick-time": "admin.tick.interval",
    "tick-maximum-delay": "admin.tick.limit",
    "log-length": "admin.log-length",
    "log-format": "admin.log-format",
    "pdb-on-err": "admin.pdb-on-err",
}

#: Names whose values are mappings: what is below them are no names of settings.
MAPPINGS = frozenset(
    {"nanny.environ", "nanny.pre-spawn-environ", "worker.resources", "scheduler.default-task-durations",
     "scheduler.dashboard.bokeh-application", "logging"}
)  # fmt: skip
