"""The compiled core: keys, graphs, frames and the state machines of scheduler, worker and client.

It does no I/O and reads no clock. May import: `fastdist.errors`, and compiled modules of its own.
Here is only the check that the core has been built, so that whoever forgot reads what to do.
"""

import sys
from importlib.util import find_spec

if find_spec("fastdist._core.codec.frames") is None:
    raise ImportError(
        "the compiled core of fastdist is not built for "
        f"{sys.implementation.name} {sys.version_info.major}.{sys.version_info.minor}; "
        "in a source tree, build it in place with: make dev",
        name="fastdist._core",
    )

del find_spec, sys
