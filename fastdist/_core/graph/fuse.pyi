from array import array

from typing_extensions import Buffer

def fuse_linear(
    offsets: Buffer, needs: Buffer, fixed: Buffer, labels: Buffer, weights: Buffer, max_weight: int
) -> array[int]: ...
