"""Pooling: one vector of unit length for each text of a packed batch, in float32.

B texts, T tokens of the packed batch, H hidden, D output dimensions.
"""

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize

Pooling = Literal["mean", "cls", "last"]


def pool(hidden: Tensor, offsets: Tensor, pooling: Pooling) -> Tensor:
    """Unit vectors (B, D) float32 of hidden (T, H), texts lying between offsets (B + 1,).

    The number of kernels does not depend on B, and no text's numbers touch another's: a product
    with a matrix of segments would be as fast, and would spread one text's NaN over the batch.
    """
    match pooling:
        case "mean":
            vectors = torch.segment_reduce(hidden.float(), "mean", offsets=offsets)  # (B, H)
        case "cls":
            vectors = hidden[offsets[:-1]].float()  # (B, H)
        case "last":
            vectors = hidden[offsets[1:] - 1].float()  # (B, H)
    return normalize(vectors, dim=1)  # (B, D = H)
