"""What an operation leaves on disk: a file, how it was made, and how far it drifts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from core.architecture.kinds import KINDS

#: Appended to an artifact's file name: `onnx/model_O3.onnx.json`.
SIDECAR_SUFFIX = ".json"

#: Precisions whose artifacts must agree with their source to FULL_PRECISION_MIN_COSINE.
FULL_PRECISIONS = ("fp32",)

#: What artifacts and file names call a dtype.
DTYPE_PRECISIONS: Mapping[str, str] = {
    "float32": "fp32",
    "float16": "fp16",
    "bfloat16": "bf16",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """How the artifact's embeddings of probe texts compare with its source's.

    Attributes:
        texts: How many embeddings were compared: a probe text counts in every batch that has it.
        mean_cosine: Mean over the texts of the cosine between both embeddings.
        p1_cosine: First percentile of it.
        min_cosine: Minimum of it.
        max_abs_difference: Largest absolute difference of any component of the normalized
            embeddings.
    """

    texts: int
    mean_cosine: float
    p1_cosine: float
    min_cosine: float
    max_abs_difference: float

    def __str__(self) -> str:
        return (
            f"cosine mean {self.mean_cosine:.6f}, 1st percentile {self.p1_cosine:.6f}, "
            f"minimum {self.min_cosine:.6f} over {self.texts} texts"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputsVerification(Verification):
    """The same for a model that gives sparse or multi-vector embeddings beside its own.

    Attributes:
        sparse_mean_overlap: Mean over the texts of the share of words with a weight in both, among
            those with one in either.
        sparse_mean_cosine: Mean over the texts of the cosine of their words' weights; None where
            the model has no such embeddings.
        sparse_min_cosine: Minimum of it.
        multi_vector_mean_cosine: Mean over all tokens of the cosine between both vectors; None
            where the model has no such embeddings.
        multi_vector_min_cosine: Minimum of it.
    """

    sparse_mean_overlap: float | None = None
    sparse_mean_cosine: float | None = None
    sparse_min_cosine: float | None = None
    multi_vector_mean_cosine: float | None = None
    multi_vector_min_cosine: float | None = None

    def __str__(self) -> str:
        parts = [Verification.__str__(self)]
        if self.sparse_min_cosine is not None:
            parts.append(
                f"sparse embeddings cosine mean {self.sparse_mean_cosine:.6f}, minimum "
                f"{self.sparse_min_cosine:.6f}, words in common {self.sparse_mean_overlap:.1%}"
            )
        if self.multi_vector_min_cosine is not None:
            parts.append(
                f"token vectors cosine mean {self.multi_vector_mean_cosine:.6f}, minimum "
                f"{self.multi_vector_min_cosine:.6f}"
            )
        return "; ".join(parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreVerification:
    """How a reranker artifact's scores of probe pairs compare with its source's.

    Scores are those before the activation function.

    Attributes:
        texts: How many pairs were compared: a probe pair counts in every batch that has it.
        spread: Standard deviation of the source's scores over the pairs, the labels' mean.
        mean_score_difference: Mean absolute difference of the scores.
        max_score_difference: Maximum of it.
        rank_correlation: Spearman's, of the order in which both rank the pairs; with several
            labels the lowest of theirs.
    """

    texts: int
    spread: float
    mean_score_difference: float
    max_score_difference: float
    rank_correlation: float

    def __str__(self) -> str:
        return (
            f"score difference mean {self.mean_score_difference:.6f}, maximum "
            f"{self.max_score_difference:.6f} (scores spread by {self.spread:.3f}), rank "
            f"correlation {self.rank_correlation:.4f} over {self.texts} pairs"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SparseVerification:
    """How a sparse encoder artifact's embeddings of probe texts compare with its source's.

    All values are compared, also those that `max_active_dims` would leave out.

    Attributes:
        texts: How many embeddings were compared: a probe text counts in every batch that has it.
        active_dims: Mean number of values in the source's embeddings.
        mean_overlap: Of the dimensions that either of a text's embeddings has, the share that both
            have (Jaccard's index); the mean over the texts.
        min_overlap: Minimum of it.
        largest_value: Of the source's embeddings.
        max_value_difference: Largest absolute difference of a value.
        mean_dot_difference: Mean absolute difference of the dot products of all pairs of texts, in
            standard deviations of the source's.
        rank_correlation: Spearman's, of the order that both put those pairs in.
    """

    texts: int
    active_dims: float
    mean_overlap: float
    min_overlap: float
    largest_value: float
    max_value_difference: float
    mean_dot_difference: float
    rank_correlation: float

    def __str__(self) -> str:
        return (
            f"overlap of dimensions mean {self.mean_overlap:.4f}, minimum {self.min_overlap:.4f}, "
            f"value difference at most {self.max_value_difference:.6f}, rank correlation of dot "
            f"products {self.rank_correlation:.4f} over {self.texts} texts"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorVerification:
    """How the vectors of a multi-vector model's artifact compare with its source's.

    Attributes:
        texts: How many results were compared: a probe text counts in every batch that has it.
        vectors: How many vectors they have.
        mean_cosine: Mean over the vectors of the cosine between both.
        p1_cosine: First percentile of it.
        min_cosine: Minimum of it.
        mean_maxsim_difference: Mean absolute difference of MaxSim for each vector of a query, of
            some of the texts with all.
        max_maxsim_difference: Maximum of it.
        rank_correlation: Spearman's, of the order in which both rank the texts by MaxSim; the
            lowest of any query.
    """

    texts: int
    vectors: int
    mean_cosine: float
    p1_cosine: float
    min_cosine: float
    mean_maxsim_difference: float
    max_maxsim_difference: float
    rank_correlation: float

    def __str__(self) -> str:
        return (
            f"cosine mean {self.mean_cosine:.6f}, 1st percentile {self.p1_cosine:.6f}, minimum "
            f"{self.min_cosine:.6f} over {self.vectors} vectors; MaxSim difference mean "
            f"{self.mean_maxsim_difference:.6f}, maximum {self.max_maxsim_difference:.6f}, rank "
            f"correlation {self.rank_correlation:.4f} over {self.texts} texts"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """A file a backend can load, made by export, optimize or quantize.

    A hook fills the first block, relative to the staging directory it was given; `core` fills
    the second.

    Attributes:
        root: The directory the names are relative to.
        file_name: The file to load, relative to `root`, with forward slashes.
        files: Every file the artifact consists of (external data, weights), `file_name` included.
        refers_to: Files of its source that it loads along. Where it goes to another directory,
            `core` puts them beside it and counts them among `files`.
        precision: What it computes in: `"fp32"`, `"fp16"`, `"int8"`, ...
        config: The configuration as plain JSON values.
        versions: Libraries that made it, name to version.
        backend: Its backend's name.
        operation: `"export"`, `"optimize"` or `"quantize"`.
        verification: Drift against the source, in the measure of its kind of model:
            `Verification`, `ScoreVerification` of a reranker, `SparseVerification` of a sparse
            encoder, `VectorVerification` of a multi-vector model, `OutputsVerification` of a model
            with several kinds of embeddings.
        kind: Of the model: `"embedding"`, `"reranker"`, ...
        url: Of the commit or pull request, when pushed.
    """

    root: Path
    file_name: str
    files: tuple[str, ...] = ()
    refers_to: tuple[str, ...] = ()
    precision: str = "fp32"
    config: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)

    backend: str = ""
    operation: str = ""
    verification: Any = None
    url: str | None = None
    kind: str = "embedding"

    @property
    def path(self) -> Path:
        """The file to load."""
        return self.root / self.file_name

    @property
    def all_files(self) -> tuple[str, ...]:
        """`file_name` and every file it needs, each once."""
        return tuple(dict.fromkeys((self.file_name, *self.files)))

    def load(self, **arguments: Any) -> Any:
        """The artifact as a model; takes the arguments of `core.load`, or of the function that
        loads its kind of model."""
        import core

        load = getattr(core, KINDS[self.kind].loader.removeprefix("core."))
        return load(str(self.root), backend=self.backend, file_name=self.file_name, **arguments)

    def sidecar(self, source: Mapping[str, Any]) -> dict[str, Any]:
        """The JSON document written beside the artifact."""
        return {
            "format": 1,
            "backend": self.backend,
            "operation": self.operation,
            "precision": self.precision,
            "config": dict(self.config),
            "versions": dict(self.versions),
            "files": list(self.all_files),
            "source": dict(source),
            **({} if self.kind == "embedding" else {"kind": self.kind}),
            "verification": None if self.verification is None else asdict(self.verification),
        }
