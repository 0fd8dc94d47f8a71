from base64 import b64decode, b64encode
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from sentence_transformers.util.quantization import quantize_embeddings

from inference.quantization import (
    EMBEDDING_TYPES,
    EmbeddingType,
    VectorsNotFinite,
    is_quantizable,
    pack,
    quantize,
    reduce,
)

Vectors = NDArray[np.float32]

DTYPES: dict[EmbeddingType, str] = {
    "float": "<f4",
    "int8": "i1",
    "uint8": "u1",
    "binary": "i1",
    "ubinary": "u1",
}
embedding_types = st.sampled_from(EMBEDDING_TYPES)


def numbers(bound: float = 1.0) -> st.SearchStrategy[float]:
    return st.floats(-bound, bound, width=32)


@st.composite
def vectors(draw: st.DrawFn, max_texts: int = 6) -> Vectors:
    shape = (draw(st.integers(1, max_texts)), 8 * draw(st.integers(1, 5)))
    return draw(hnp.arrays(np.float32, shape, elements=numbers()))


@st.composite
def vectors_and_ranges(draw: st.DrawFn) -> tuple[Vectors, Vectors]:
    """Also ranges of no width, and coordinates that are outside them."""
    batch = draw(vectors())
    bounds = draw(hnp.arrays(np.float32, (2, batch.shape[1]), elements=numbers(0.5)))
    return batch, np.sort(bounds, axis=0)


def unit_vectors(count: int, dimensions: int, seed: int = 0) -> Vectors:
    rows = np.random.default_rng(seed).normal(size=(count, dimensions))
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def quantize_by_hand(batch: Vectors, embedding_type: EmbeddingType, ranges: Vectors) -> list[bytes]:
    """One coordinate after the other, as the documents say it, in float32 throughout."""
    rows = []
    for vector in batch:
        if embedding_type in ("binary", "ubinary"):
            octets = []
            for start in range(0, len(vector), 8):
                value = sum(
                    1 << (7 - place) for place, x in enumerate(vector[start : start + 8]) if x > 0
                )
                octets.append(value if embedding_type == "ubinary" else (value - 128) % 256)
            rows.append(bytes(octets))
            continue
        levels = []
        for x, least, greatest in zip(vector, ranges[0], ranges[1], strict=True):
            step = np.float32(np.float32(greatest - least) / np.float32(255))
            if step == 0:
                step = np.float32(1)
            with np.errstate(over="ignore"):
                level = int(np.clip(np.floor(np.float32(np.float32(x - least) / step)), 0, 255))
            levels.append(level if embedding_type == "uint8" else (level - 128) % 256)
        rows.append(bytes(levels))
    return rows


@given(vectors_and_ranges(), embedding_types.filter(lambda kind: kind != "float"))
def test_equals_the_definition_byte_by_byte(
    given_: tuple[Vectors, Vectors], embedding_type: EmbeddingType
) -> None:
    batch, ranges = given_
    assert pack(quantize(batch, embedding_type, ranges)) == quantize_by_hand(
        batch, embedding_type, ranges
    )


@given(vectors_and_ranges(), embedding_types)
def test_equals_sentence_transformers_bit_for_bit(
    given_: tuple[Vectors, Vectors], embedding_type: EmbeddingType
) -> None:
    batch, ranges = given_
    precision: Any = "float32" if embedding_type == "float" else embedding_type
    with np.errstate(over="ignore"):
        theirs = quantize_embeddings(batch, precision=precision, ranges=ranges)
    ours = quantize(batch, embedding_type, ranges)
    assert ours.dtype == np.asarray(theirs).dtype
    assert ours.tobytes() == np.asarray(theirs).tobytes()


@given(vectors_and_ranges(), embedding_types)
def test_a_text_has_the_same_bytes_alone_and_in_any_batch(
    given_: tuple[Vectors, Vectors], embedding_type: EmbeddingType
) -> None:
    batch, ranges = given_
    together = pack(quantize(batch, embedding_type, ranges))
    alone = [pack(quantize(batch[i : i + 1], embedding_type, ranges))[0] for i in range(len(batch))]
    turned = pack(quantize(batch[::-1], embedding_type, ranges))[::-1]
    assert together == alone == turned


@given(vectors_and_ranges(), embedding_types)
def test_base64_gives_back_the_numbers(
    given_: tuple[Vectors, Vectors], embedding_type: EmbeddingType
) -> None:
    batch, ranges = given_
    typed = quantize(batch, embedding_type, ranges)
    for row, packed in zip(typed, pack(typed), strict=True):
        received = b64decode(b64encode(packed))
        assert np.array_equal(np.frombuffer(received, DTYPES[embedding_type]), row)


def test_packs_little_endian_whatever_the_order_in_memory() -> None:
    big_endian = np.array([[1.5, -2.0]], dtype=">f4")
    assert pack(big_endian) == [bytes.fromhex("0000c03f000000c0")]
    columns_first = np.asfortranarray(np.array([[1, 2], [3, 4]], np.int8))
    assert pack(columns_first) == [b"\x01\x02", b"\x03\x04"]


@given(vectors_and_ranges())
def test_signed_is_unsigned_minus_128(given_: tuple[Vectors, Vectors]) -> None:
    batch, ranges = given_
    for signed, unsigned in (("int8", "uint8"), ("binary", "ubinary")):
        assert np.array_equal(
            quantize(batch, signed, ranges).astype(int),  # type: ignore[arg-type]
            quantize(batch, unsigned, ranges).astype(int) - 128,  # type: ignore[arg-type]
        )


@given(vectors())
def test_bits_give_back_the_signs(batch: Vectors) -> None:
    bits = np.unpackbits(quantize(batch, "ubinary", None), axis=1)
    assert np.array_equal(bits.astype(bool), batch > 0)


def test_the_first_coordinate_is_the_highest_bit() -> None:
    vector = np.array([[0.1, 0, -0.1, 0, 0, 0, 0, 0.1]], np.float32)
    assert quantize(vector, "ubinary", None).tolist() == [[0b10000001]]
    assert quantize(vector, "binary", None).tolist() == [[1]]


@given(vectors_and_ranges(), numbers())
def test_a_greater_coordinate_never_has_a_lesser_level(
    given_: tuple[Vectors, Vectors], other: float
) -> None:
    batch, ranges = given_
    greater = np.maximum(batch, np.float32(other))
    for embedding_type in ("int8", "uint8"):
        lower = quantize(batch, embedding_type, ranges)
        upper = quantize(greater, embedding_type, ranges)
        assert (lower <= upper).all()


@given(st.integers(1, 4096), st.lists(st.integers(0, 255), min_size=1, max_size=32))
def test_values_of_the_shipped_kind_of_grid_come_back(units: int, levels: list[int]) -> None:
    """With one step for all coordinates, as `choose_ranges` makes it, quantising what int8 stands
    for gives the same int8."""
    step = np.float32(units * 2.0**-16)
    ranges = np.array([[-128.5], [126.5]], np.float32).repeat(len(levels), axis=1) * step
    signed = np.array([levels], np.float32) - 128
    assert np.array_equal(quantize(signed * step, "int8", ranges), signed)


@given(vectors_and_ranges())
def test_quantising_the_middles_of_levels_gives_the_same_levels(
    given_: tuple[Vectors, Vectors],
) -> None:
    batch, ranges = given_
    # Where a step is not lost in the rounding of float32 itself.
    ranges[1] = np.maximum(ranges[1], ranges[0] + np.float32(0.01))
    levels = quantize(batch, "uint8", ranges)
    middles = ranges[0] + (levels + np.float32(0.5)) * ((ranges[1] - ranges[0]) / 255)
    assert np.array_equal(quantize(middles.astype(np.float32), "uint8", ranges), levels)


def test_what_is_outside_the_ranges_is_clipped() -> None:
    ranges = np.array([[-0.1], [0.1]], np.float32)
    assert quantize(np.array([[-1.0], [1.0]], np.float32), "int8", ranges).tolist() == [
        [-128],
        [127],
    ]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("embedding_type", EMBEDDING_TYPES)
def test_refuses_what_is_not_finite(embedding_type: EmbeddingType, bad: float) -> None:
    batch = unit_vectors(3, 8)
    batch[1, 5] = bad
    with pytest.raises(VectorsNotFinite) as raised:
        quantize(batch, embedding_type, np.array([[-1.0] * 8, [1.0] * 8], np.float32))
    assert raised.value.rows == (1,)
    with pytest.raises(VectorsNotFinite):
        reduce(batch, 8)


@pytest.mark.parametrize("embedding_type", ["int8", "uint8"])
def test_refuses_int8_without_ranges(embedding_type: EmbeddingType) -> None:
    assert not is_quantizable(embedding_type, 16, None)
    with pytest.raises(ValueError, match="ranges"):
        quantize(unit_vectors(1, 16), embedding_type, None)


@pytest.mark.parametrize("embedding_type", ["binary", "ubinary"])
def test_refuses_bits_that_do_not_fill_bytes(embedding_type: EmbeddingType) -> None:
    assert is_quantizable(embedding_type, 16, None)
    assert not is_quantizable(embedding_type, 12, None)
    with pytest.raises(ValueError, match="multiple of 8"):
        quantize(unit_vectors(1, 12), embedding_type, None)


@given(st.integers(1, 64), st.integers(0, 2**32))
def test_cuts_and_then_normalises(dimension: int, seed: int) -> None:
    whole = unit_vectors(5, 64, seed)
    reduced = reduce(whole, dimension)
    assert reduced.dtype == np.float32
    expected = [
        row[:dimension] / np.sqrt(sum(float(x) ** 2 for x in row[:dimension])) for row in whole
    ]
    assert np.allclose(reduced, expected, rtol=3e-6, atol=0)


@given(st.integers(1, 64), st.integers(0, 2**32))
def test_a_text_is_reduced_to_the_same_bits_alone_and_in_any_batch(
    dimension: int, seed: int
) -> None:
    whole = unit_vectors(5, 64, seed)
    whole[2] *= 3
    together = reduce(whole, dimension)
    for index in range(len(whole)):
        assert reduce(whole[index : index + 1], dimension).tobytes() == together[index].tobytes()
    assert reduce(together, dimension).tobytes() == together.tobytes()


def test_unit_vectors_that_are_not_cut_keep_their_bits() -> None:
    whole = unit_vectors(50, 384)
    assert reduce(whole, 384).tobytes() == whole.tobytes()


def test_vectors_of_another_length_are_normalised() -> None:
    whole = unit_vectors(4, 32)
    assert np.allclose(reduce(whole * np.float32(7), 32), whole, atol=1e-7)


def test_what_is_zero_after_the_cut_stays_zero() -> None:
    vector = np.array([[0, 0, 0.6, 0.8]], np.float32)
    assert reduce(vector, 2).tolist() == [[0, 0]]


@pytest.mark.parametrize("dimension", [-1, 0, 9])
def test_refuses_a_dimension_that_is_not_there(dimension: int) -> None:
    with pytest.raises(ValueError, match=f"8 dimensions to {dimension}"):
        reduce(unit_vectors(1, 8), dimension)
