"""What the reference tests of embeddings, where it means something for another program."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from core.sentence_transformers import SentenceTransformer, quantize_embeddings

#: Rows, and what sentence-transformers 6.2 and 5.7 both make of them, as printed by them.
ROWS = [
    [-2.0, 0.1, 3.0, 0.5],
    [0.5, -0.3, 1.0, 0.5],
    [1.7, 0.25, -2.0, 0.5],
    [0.1, 0.9, 0.333, 0.5],
    [-0.4, -0.75, 2.2, 0.5],
]
RANGES = [[-1.0, -1.0, -1.0, 0.0], [1.0, 1.0, 1.0, 1.0]]
QUANTIZED: dict[str, list[list[float]]] = {
    "float32": ROWS,
    "int8": [
        [-128, 3, 126, -128],
        [44, -59, 25, -128],
        [126, 26, -128, -128],
        [16, 127, -10, -128],
        [-18, -128, 86, -128],
    ],
    "uint8": [
        [0, 131, 254, 0],
        [172, 69, 153, 0],
        [254, 154, 0, 0],
        [144, 255, 118, 0],
        [110, 0, 214, 0],
    ],
    "binary": [[-16], [48], [80], [112], [-80]],
    "ubinary": [[112], [176], [208], [240], [48]],
}
INT8_BY_RANGES = [
    [-128, 12, 127, -1],
    [63, -39, 126, -1],
    [127, 31, -128, -1],
    [12, 114, 41, -1],
    [-52, -97, 127, -1],
]
TYPES = {
    "float32": np.float32,
    "int8": np.int8,
    "uint8": np.uint8,
    "binary": np.int8,
    "ubinary": np.uint8,
}


def embeddings(rows: int = 120, dimension: int = 20) -> np.ndarray:
    result: np.ndarray = np.random.default_rng(4).normal(size=(rows, dimension)).astype(np.float32)
    return result


@pytest.mark.parametrize("given_as", ["array", "tensor", "list of arrays", "list of tensors"])
@pytest.mark.parametrize("precision", QUANTIZED)
def test_embeddings_are_quantized_as_in_the_reference(precision: str, given_as: str) -> None:
    values = np.array(ROWS, dtype=np.float32)
    given = {
        "array": values,
        "tensor": torch.from_numpy(values),
        "list of arrays": list(values),
        "list of tensors": list(torch.from_numpy(values)),
    }[given_as]
    found = quantize_embeddings(given, precision)
    assert found.dtype == TYPES[precision]
    np.testing.assert_array_equal(found, np.array(QUANTIZED[precision], dtype=TYPES[precision]))


def test_given_ranges_quantize_as_in_the_reference() -> None:
    found = quantize_embeddings(np.array(ROWS, dtype=np.float32), "int8", np.array(RANGES))
    assert found.tolist() == INT8_BY_RANGES


@pytest.mark.parametrize("precision", ["binary", "ubinary"])
def test_bits_are_signs_in_order(precision: str) -> None:
    values = embeddings(dimension=24)
    found = quantize_embeddings(values, precision)
    assert found.shape == (120, 3)
    assert found.dtype == (np.int8 if precision == "binary" else np.uint8)
    unsigned = found.astype(np.int16) + (128 if precision == "binary" else 0)
    bits = np.unpackbits(unsigned.astype(np.uint8), axis=-1)
    np.testing.assert_array_equal(bits, values > 0)


def test_ranges_come_from_a_calibration_set_where_there_is_one() -> None:
    calibration, values = 3 * embeddings(rows=200), embeddings()
    by_set = quantize_embeddings(values, "int8", calibration_embeddings=calibration)
    extremes = np.vstack((calibration.min(axis=0), calibration.max(axis=0)))
    np.testing.assert_array_equal(by_set, quantize_embeddings(values, "int8", extremes))
    assert not np.array_equal(by_set, quantize_embeddings(values, "int8"))
    with pytest.raises(ValueError, match="float8"):
        quantize_embeddings(values, "float8")


@pytest.mark.parametrize("name", ["cosine", "dot", "euclidean", "manhattan"])
def test_similarities_are_what_their_names_say(tiny: Path, name: str) -> None:
    model = SentenceTransformer(str(tiny), device="cpu", similarity_fn_name=name)
    a, b = embeddings(4, 3).tolist(), embeddings(9, 3)[4:].tolist()

    def one(x: list[float], y: list[float]) -> float:
        dot = sum(p * q for p, q in zip(x, y, strict=True))
        if name == "dot":
            return dot
        if name == "cosine":
            return dot / math.hypot(*x) / math.hypot(*y)
        gaps = [p - q for p, q in zip(x, y, strict=True)]
        return -math.hypot(*gaps) if name == "euclidean" else -sum(map(abs, gaps))

    matrix = model.similarity(np.array(a), torch.tensor(b))
    pairs = model.similarity_pairwise(np.array(a), np.array(b[:4]))
    torch.testing.assert_close(matrix, torch.tensor([[one(x, y) for y in b] for x in a]))
    torch.testing.assert_close(pairs, torch.tensor([one(x, y) for x, y in zip(a, b, strict=False)]))


def test_a_zero_vector_has_no_direction_and_no_nan(model: SentenceTransformer) -> None:
    zero, one = np.zeros((1, 4)), np.ones((1, 4))
    assert model.similarity(zero, one).tolist() == [[0.0]]
    assert model.similarity_pairwise(zero, zero).tolist() == [0.0]


def test_one_vector_counts_as_one_row(model: SentenceTransformer) -> None:
    first, second = model.encode("one"), model.encode(["one", "two"])
    assert model.similarity(first, second).shape == (1, 2)
    assert model.similarity(first, second)[0, 0] == pytest.approx(1.0, abs=1e-5)


def test_pairs_have_the_reference_s_shapes(model: SentenceTransformer) -> None:
    one, many = np.ones(3, dtype=np.float32), np.ones((4, 3), dtype=np.float32)
    assert model.similarity_pairwise(one, one).shape == ()
    assert model.similarity_pairwise(one, many).tolist() == pytest.approx([1.0] * 4)
    assert model.similarity_pairwise(many, torch.from_numpy(one)).shape == (4,)
    assert model.similarity_pairwise(many, many).shape == (4,)


def test_one_embedding_has_no_range_for_bytes(model: SentenceTransformer) -> None:
    one = np.array(ROWS[0], dtype=np.float32)
    for given in (one, one[None]):
        with pytest.raises(ValueError, match="one embedding has none"):
            quantize_embeddings(given, "int8")
    with pytest.raises(ValueError, match="one embedding has none"):
        model.encode("one", precision="uint8")
    assert quantize_embeddings(one, "int8", np.array(RANGES)).tolist() == INT8_BY_RANGES[0]
    assert quantize_embeddings(one, "ubinary").tolist() == QUANTIZED["ubinary"][0]


def test_normalized_embeddings_have_length_one_after_truncation(model: SentenceTransformer) -> None:
    found = model.encode(["one", "two"], normalize_embeddings=True, truncate_dim=8)
    assert found.shape == (2, 8)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)


def test_every_precision_comes_as_every_type(model: SentenceTransformer) -> None:
    texts = [f"text {i}" for i in range(100)]
    kinds = {"float32": torch.float32, "int8": torch.int8, "ubinary": torch.uint8}
    for precision, kind in kinds.items():
        array = model.encode(texts, precision=precision)
        tensor = model.encode(texts, precision=precision, convert_to_tensor=True)
        rows = model.encode(texts, precision=precision, convert_to_numpy=False)
        assert tensor.dtype == kind
        np.testing.assert_array_equal(tensor.numpy(), array)
        assert torch.equal(torch.stack(rows), tensor)


def test_duplicates_and_order_survive_sorting_by_length(model: SentenceTransformer) -> None:
    texts = ["b " * 30, "a", "b " * 30, "", "ccc cc", "a"]
    found = model.encode(texts, batch_size=2)
    for row, text in zip(found, texts, strict=True):
        np.testing.assert_allclose(row, model.encode(text), atol=1e-5)
    np.testing.assert_array_equal(found[1], found[5])


def test_bytes_are_not_quantized_again() -> None:
    rows = torch.from_numpy(embeddings())
    quantized = torch.from_numpy(quantize_embeddings(rows, "int8"))
    for given in (quantized, list(quantized)):
        with pytest.raises(ValueError, match="embeddings are int8: quantized already"):
            quantize_embeddings(given, "ubinary")
    with pytest.raises(ValueError, match="calibration_embeddings are int8"):
        quantize_embeddings(rows, "int8", calibration_embeddings=quantized)
