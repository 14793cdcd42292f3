"""The plugin classes, where scripts for dask.distributed look for them. May import: `plugins`, `builtin_plugins`."""

from __future__ import annotations

from fastdist.builtin_plugins import (
    CondaInstall,
    Environ,
    ForwardLoggingPlugin,
    ForwardOutput,
    InstallPlugin,
    PipInstall,
    SchedulerUploadFile,
    UploadDirectory,
    UploadFile,
)
from fastdist.plugins import NannyPlugin, SchedulerPlugin, WorkerPlugin

__all__ = [
    "CondaInstall",
    "Environ",
    "ForwardLoggingPlugin",
    "ForwardOutput",
    "InstallPlugin",
    "NannyPlugin",
    "PipInstall",
    "SchedulerPlugin",
    "SchedulerUploadFile",
    "UploadDirectory",
    "UploadFile",
    "WorkerPlugin",
]
