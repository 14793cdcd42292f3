"""Frames have a limit: what is larger is refused at the call, what is large is cut into frames."""

from __future__ import annotations

import pytest

from fastdist import Client, LocalCluster, config
from fastdist.errors import FrameError


def measure(number: int, block: bytes) -> int:
    return number + len(block)


@pytest.mark.parametrize("processes", [True, False])
def test_an_argument_that_is_larger_than_a_frame_may_be(processes: bool) -> None:
    large = bytes(129 << 20)
    with (
        config.set({"comm.max-frame-bytes": "128 MiB"}),
        LocalCluster(n_workers=1, threads_per_worker=1, processes=processes) as cluster,
        Client(cluster) as client,
    ):
        for call in (
            lambda: client.submit(len, large),
            lambda: client.map(len, [b"", large]),
            lambda: client.get({"x": (len, large)}, "x"),
        ):
            with pytest.raises(FrameError, match=r"comm\.max-frame-bytes"):
                call()
        assert client.gather(client.map(len, [bytes(40 << 20)] * 4, pure=False)) == [40 << 20] * 4
        assert client.submit(len, client.scatter(large)).result(timeout=10) == len(large)
