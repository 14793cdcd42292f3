"""The shell around the worker core: execution, data, transfer, memory.

May import: layers L0 to L3 (`_core`, `system`, `protocol`, `comm`, `rpc`).
"""

from fastdist.aliases import names_of

# What libraries look for here is at home elsewhere.
__getattr__ = names_of(__name__)
