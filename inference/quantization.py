"""Quantisation: what is made of a model's float vectors before they are answered.

B texts, D dimensions. The arithmetic is that of sentence-transformers' `quantize_embeddings` with
given ranges, bit for bit. Every row is computed by itself, so a text gets the same bytes alone and
in any batch. docs/quantization.md says how the ranges are found, and what each type costs.
"""

from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

EmbeddingType = Literal["float", "int8", "uint8", "binary", "ubinary"]
EMBEDDING_TYPES: tuple[EmbeddingType, ...] = get_args(EmbeddingType)

# Part of every fingerprint: raised by whoever changes what `reduce` or `quantize` answers.
QUANTIZER_VERSION = 1
UNIT_TOLERANCE = 4e-6  # of the squared length, which float32 does not sum exactly
LEVELS = 255
ZERO = 128  # signed = unsigned - 128


class VectorsNotFinite(Exception):
    """Some vectors hold NaN or infinity; `rows` are their indexes."""

    def __init__(self, rows: tuple[int, ...]) -> None:
        super().__init__(f"vectors {', '.join(map(str, rows))} are not finite")
        self.rows = rows


def reduce(vectors: NDArray[np.float32], dimension: int) -> NDArray[np.float32]:
    """Unit vectors (B, dimension) float32: the first coordinates of vectors (B, D), scaled to unit
    length after the cut. What has unit length keeps its very bits; what is zero stays zero.

    Raises VectorsNotFinite, and ValueError for a dimension that the vectors do not have.
    """
    if not 1 <= dimension <= vectors.shape[1]:
        raise ValueError(f"cannot cut vectors of {vectors.shape[1]} dimensions to {dimension}")
    cut = vectors[:, :dimension]  # (B, dimension)
    squares = np.einsum("bd,bd->b", cut, cut)  # (B,)
    _check_finite(squares[:, None])
    is_unit = np.abs(squares - 1) < UNIT_TOLERANCE  # (B,)
    if is_unit.all():
        return cut
    norms = np.linalg.norm(cut.astype(np.float64), axis=1)  # (B,)
    scales = np.where(is_unit | (norms == 0), 1, norms)
    return (cut / scales[:, None]).astype(np.float32)


def is_quantizable(
    embedding_type: EmbeddingType, dimension: int, ranges: NDArray[np.float32] | None
) -> bool:
    """Whether vectors of that many dimensions can have that type, with what ranges there are."""
    match embedding_type:
        case "float":
            return True
        case "int8" | "uint8":
            return ranges is not None
        case "binary" | "ubinary":
            return dimension % 8 == 0


def quantize(
    vectors: NDArray[np.float32],
    embedding_type: EmbeddingType,
    ranges: NDArray[np.float32] | None,
) -> NDArray[Any]:
    """Vectors (B, D) float32 as (B, D) float32, int8 or uint8, or (B, D / 8) int8 or uint8, where
    a byte holds eight coordinates, the first in its highest bit.

    ranges: (2, D) float32, the least and greatest value of each coordinate; what is outside is
    clipped. Raises VectorsNotFinite, and ValueError where `is_quantizable` is false.
    """
    if not is_quantizable(embedding_type, vectors.shape[1], ranges):
        raise ValueError(f"{embedding_type} needs ranges, or a multiple of 8 dimensions")
    _check_finite(vectors)
    match embedding_type:
        case "float":
            return vectors
        case "int8":
            return (_levels(vectors, ranges) - ZERO).astype(np.int8)
        case "uint8":
            return _levels(vectors, ranges).astype(np.uint8)
        case "binary":
            return (np.packbits(vectors > 0, axis=1) ^ ZERO).view(np.int8)
        case "ubinary":
            return np.packbits(vectors > 0, axis=1)


def _levels(vectors: NDArray[np.float32], ranges: Any) -> NDArray[np.float32]:
    """Whole numbers (B, D) from 0 to 255, still as float32."""
    least, greatest = ranges
    steps = (greatest - least) / np.float32(LEVELS)  # (D,)
    steps = np.where(steps == 0, np.float32(1), steps)
    with np.errstate(over="ignore"):  # over the narrowest of ranges; infinity is clipped too
        levels: NDArray[np.float32] = np.floor((vectors - least) / steps)
    return levels.clip(0, LEVELS)


def _check_finite(rows: NDArray[np.floating[Any]]) -> None:
    finite = np.isfinite(rows)
    if not finite.all():
        raise VectorsNotFinite(tuple(np.flatnonzero(~finite.all(axis=1)).tolist()))


def pack(vectors: NDArray[Any]) -> list[bytes]:
    """The little-endian bytes of each row: what base64 is of."""
    little_endian = vectors.astype(vectors.dtype.newbyteorder("<"), order="C", copy=False)
    return [row.tobytes() for row in little_endian]
