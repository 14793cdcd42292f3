"""What the scheduler does beside scheduling, one module a subject, each with the operations that it adds.

May import: the layers below; `scheduler.membership` and `scheduler.options`.
"""

from __future__ import annotations

from fastdist.scheduler.extensions.extension import Extension

#: Every scheduler has one of each.
BUILT_IN: tuple[type[Extension], ...] = ()

__all__ = ["BUILT_IN", "Extension"]
