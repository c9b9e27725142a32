"""The operations that write files: artifacts verified by the overlap of dimensions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import core
from core import OptionError, UnsupportedOperation, VerificationError
from core.operations.sparse_agreement import compare_sparse
from tests.kinds.texts import SHORT_TEXTS

Make = Callable[[str], Path]


@pytest.mark.parametrize(
    ("name", "backend", "operation", "config"),
    [
        ("splade", "torch", "quantize", None),
        ("splade", "onnx", "optimize", "O3"),
        ("inference-free", "onnx", "quantize", "avx2"),
        *(
            pytest.param(*row, marks=pytest.mark.slow)
            for row in (
                ("splade-sum", "torch", "optimize", "fp16"),
                ("splade-sum", "torch", "quantize", None),
                ("splade", "onnx", "quantize", "static"),
                ("csr", "onnx", "quantize", "avx2"),
                ("splade", "openvino", "optimize", "fp16"),
                ("csr", "openvino", "optimize", "fused"),
                ("splade", "openvino", "quantize", "int8-weights"),
                ("splade", "openvino", "quantize", None),
            )
        ),
    ],
)
def test_artifacts_are_verified_by_overlap_and_dot_products(
    writable: Make, name: str, backend: str, operation: str, config: str | None
) -> None:
    with core.load_sparse(writable(name), backend=backend) as model:
        model.max_active_dims = None  # all values are compared
        expected = model.encode(SHORT_TEXTS).to_dense()
        few = {"num_samples": 8} if (operation, config) == ("quantize", None) else {}
        artifact = getattr(core, operation)(model, config, **few)
    found = artifact.verification
    assert isinstance(found, core.SparseVerification)
    assert found.texts > 20
    assert 0.5 < found.min_overlap <= found.mean_overlap <= 1
    assert found.rank_correlation > 0.9
    with artifact.load() as made:
        assert isinstance(made, core.SparseEncoder)
        assert made.file_name == artifact.file_name
        made.max_active_dims = None
        difference = np.abs(made.encode(SHORT_TEXTS).to_dense() - expected).max()
    assert difference <= 3 * found.max_value_difference + 1e-4


def test_thresholds_belong_to_a_kind(writable: Make, tmp_path: Path, tiny_model: Make) -> None:
    path = writable("splade")
    with core.load_sparse(path, backend="torch") as model:
        for name in ("min_cosine", "max_score_difference"):
            given: dict[str, Any] = {name: 0.1}
            with pytest.raises(OptionError, match=r"is for another kind.*min_overlap"):
                core.quantize(model, **given)
        with pytest.raises(OptionError, match="min_overlap must lie between 0 and 1"):
            core.quantize(model, min_overlap=2)
    with (
        core.load(tiny_model("bert-cls"), backend="torch") as embedding,
        pytest.raises(OptionError, match="min_overlap is for another kind"),
    ):
        core.quantize(embedding, target=tmp_path / "made", min_overlap=0.9)


def test_a_wanted_overlap_is_asked_for(writable: Make, caplog: pytest.LogCaptureFixture) -> None:
    with core.load_sparse(writable("splade"), backend="torch") as model:
        core.quantize(model, min_overlap=1.0, num_samples=8)
    assert "under the mean overlap of 1.0 asked for (min_overlap)" in caplog.text
    assert "Check it on your own data" in caplog.text


def test_a_head_is_in_the_graph_once(sparse: Make) -> None:
    with (
        core.load_sparse(sparse("splade"), backend="openvino") as model,
        pytest.raises(UnsupportedOperation, match="holds its head already"),
    ):
        core.optimize(model, "fused")


def test_what_is_compared() -> None:
    expected = np.array([[0, 1, 2, 0], [3, 0, 0, 0], [0, 0, 0, 0]], dtype=np.float32)
    same = compare_sparse(expected, expected)
    assert (same.mean_overlap, same.max_value_difference, same.rank_correlation) == (1, 0, 1)
    assert same.active_dims == 1
    other = expected.copy()
    other[0] = [0.5, 1, 0, 0]  # one of three dimensions in both
    found = compare_sparse(expected, other)
    assert found.min_overlap == pytest.approx(1 / 3)
    assert found.mean_overlap == pytest.approx((1 / 3 + 2) / 3)
    assert found.max_value_difference == 2
    assert found.mean_dot_difference > 0
    with pytest.raises(VerificationError, match="not finite"):
        compare_sparse(expected, np.full_like(expected, np.nan))


def test_artifacts_elsewhere_look_queries_up(writable: Make, tmp_path: Path) -> None:
    path, made = writable("inference-free"), tmp_path / "made"
    core.export(path, made, backend="onnx")
    for backend in ("torch", "onnx"):
        with core.load_sparse(path, backend=backend) as model:
            expected = model.encode_query(SHORT_TEXTS).to_dense()
            model.quantize(target=made, num_samples=8)
        with core.load_sparse(made, backend=backend) as again:
            assert np.array_equal(again.encode_query(SHORT_TEXTS).to_dense(), expected)
