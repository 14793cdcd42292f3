"""Objects to bytes and back: functions, arguments, results and failures.

May import: `fastdist._core`, `fastdist.errors`.
"""

from fastdist.aliases import names_of

# What libraries look for here is at home elsewhere.
__getattr__ = names_of(__name__)
