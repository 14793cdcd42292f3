"""The shell around the worker core: execution, data, transfer, memory.

May import: layers L0 to L3 (`_core`, `system`, `protocol`, `comm`, `rpc`).
"""
