"""Supervision of worker processes: start, watch, explain the end, start again.

May import: layers L0 to L3 (`system`, `config`, `comm`, `rpc`), and `fastdist.worker.memory`.
"""

from fastdist.aliases import names_of
from fastdist.nanny.nanny import Nanny

__all__ = ["Nanny"]

# What libraries look for here is at home elsewhere.
__getattr__ = names_of(__name__)
