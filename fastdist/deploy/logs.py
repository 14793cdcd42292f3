"""Lines of logs that show well in notebooks. May import: nothing of fastdist."""

from __future__ import annotations

import html
from typing import Any


class Log(str):
    """The log of one server, lines in one text."""

    def _repr_html_(self) -> str:
        return f"<pre><code>{html.escape(self)}</code></pre>"


class Logs(dict[str, Any]):
    """Name of a server -> its `Log`."""

    def _repr_html_(self) -> str:
        parts = (
            f"<details><summary>{html.escape(str(name))}</summary>{Log(log)._repr_html_()}</details>"
            for name, log in self.items()
        )
        return "".join(parts)
