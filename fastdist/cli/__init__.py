"""The daemons: `fastdist-scheduler` and `fastdist-worker`.

May import: every layer below.
"""
