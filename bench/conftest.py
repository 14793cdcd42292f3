"""What the benchmarks share: they find `peers` and, after an installed one, the fastdist of this tree.

The benchmarks are pytest-benchmark suites, one file a layer; `--benchmark-disable` runs each once for its
result. May import: the standard library.
"""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent

for folder in (HERE, HERE.parent):
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
