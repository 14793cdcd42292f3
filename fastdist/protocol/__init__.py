"""Objects to bytes and back: functions, arguments, results and failures.

May import: `fastdist._core`, `fastdist.errors`.
"""
