"""Supervision of worker processes: start, watch, explain the end, start again.

May import: layers L0 to L3 (`system`, `config`, `comm`, `rpc`), and `fastdist.worker.memory`.
"""

from fastdist.nanny.nanny import Nanny

__all__ = ["Nanny"]
