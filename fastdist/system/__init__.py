"""Every call that only a POSIX system knows: processes, signals, memory, scratch folders, the parent watch.

May import: `fastdist.errors`. A port to another system replaces the modules of this folder and nothing else.
"""

from fastdist.aliases import names_of

# What libraries look for here is at home elsewhere.
__getattr__ = names_of(__name__)
