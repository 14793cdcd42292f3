from typing import Any

from typing_extensions import Buffer

from fastdist.client.flattening import Rows

def fuse_rows(rows: Rows, outputs: list[Any], labels: Buffer) -> None: ...
