"""What the scheduler does beside scheduling, one module a subject, each with the operations that it adds.

May import: the layers below; `scheduler.membership` and `scheduler.options`.
"""

from __future__ import annotations

from fastdist.scheduler.extensions.admin import Admin
from fastdist.scheduler.extensions.attempts import Attempts
from fastdist.scheduler.extensions.control import Control
from fastdist.scheduler.extensions.coordination import COORDINATION
from fastdist.scheduler.extensions.data import Data
from fastdist.scheduler.extensions.datasets import Datasets
from fastdist.scheduler.extensions.environments import Environments
from fastdist.scheduler.extensions.events import Events
from fastdist.scheduler.extensions.explaining import Explaining
from fastdist.scheduler.extensions.extension import Extension
from fastdist.scheduler.extensions.forgotten_futures import FireAndForget
from fastdist.scheduler.extensions.information import Information
from fastdist.scheduler.extensions.keepers import Keepers
from fastdist.scheduler.extensions.liveness import Liveness
from fastdist.scheduler.extensions.logs import Logs
from fastdist.scheduler.extensions.memory_manager import MemoryManager
from fastdist.scheduler.extensions.metadata import Metadata
from fastdist.scheduler.extensions.nannies import Nannies
from fastdist.scheduler.extensions.output import Output
from fastdist.scheduler.extensions.plugins import PluginHost
from fastdist.scheduler.extensions.progress import Progress
from fastdist.scheduler.extensions.replaying import Replaying
from fastdist.scheduler.extensions.retiring import Retiring
from fastdist.scheduler.extensions.silence import Silence
from fastdist.scheduler.extensions.stopping import Stopping
from fastdist.scheduler.extensions.task_stream import TaskStream
from fastdist.scheduler.extensions.unrunnable import Unrunnable

#: Every scheduler has one of each.
BUILT_IN: tuple[type[Extension], ...] = (
    Admin,
    Events,
    Logs,
    PluginHost,
    Datasets,
    FireAndForget,
    Keepers,
    Information,
    Metadata,
    TaskStream,
    Progress,
    Nannies,
    Liveness,
    Silence,
    Unrunnable,
    Control,
    Data,
    Retiring,
    Replaying,
    MemoryManager,
    Explaining,
    Environments,
    Attempts,
    Stopping,
    Output,
    *COORDINATION,
)

__all__ = ["BUILT_IN", "Extension"]
