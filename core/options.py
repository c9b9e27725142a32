"""What each hook is told: one frozen dataclass per hook.

A hook's signature never changes; a new option is a new field with a default. Every field has a
default, and every dataclass checks itself, so options built by hand are as safe as those that
`core` builds.
"""

from __future__ import annotations

import numbers
import operator
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from core.arguments import check_kind, check_unicode_name
from core.arguments import suggestion as suggestion
from core.errors import OptionError

OutputValue = Literal["sentence_embedding", "token_embeddings"]

EmbeddingPrecision = Literal["float32", "int8", "uint8", "binary", "ubinary"]

OUTPUT_VALUES = ("sentence_embedding", "token_embeddings")

Task = Literal["query", "document"]

TASKS = ("query", "document")

#: Bytes. A file's name has room for 255 everywhere, and there is more in it than the suffix.
_LONGEST_SUFFIX = 150

#: Kinds of embeddings that one pass of a model can give; names of `EncodeOptions.outputs`.
DENSE, SPARSE, MULTI_VECTOR = "dense", "sparse", "multi_vector"

OUTPUTS = (DENSE, SPARSE, MULTI_VECTOR)

Truncation = Literal["cut", "warn", "error"]

TRUNCATIONS = ("cut", "warn", "error")

EMBEDDING_PRECISIONS = ("float32", "int8", "uint8", "binary", "ubinary")

#: Full-precision artifacts must agree with their source at least this well (minimum cosine).
FULL_PRECISION_MIN_COSINE = 0.9999


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """Options of the `load` hook.

    Attributes:
        device: What the caller asked for (`"cpu"`, `"cuda"`, `"cuda:1"`, ...), or None for the
            backend's own choice. A device that is not there is an error, never a fallback.
        file_name: The backend's file inside the checkpoint, relative to its root. `core` has
            checked that it exists; None only for backends without `FILE_NAMES`.
        subfolder: Where `core` looks for the file; already part of `file_name` in a hook.
        export: Whether `core` may export a missing file: None if necessary, True always, False
            never. A hook can ignore it.
        trust_remote_code: Whether code from the model repository may run.
        model_kwargs: The backend's own options. `core` has checked the names against the
            backend's `MODEL_KWARGS`.
        config_kwargs: Overrides of the model's `config.json`.
    """

    device: str | None = None
    file_name: str | None = None
    subfolder: str | None = None
    export: bool | None = None
    trust_remote_code: bool = False
    model_kwargs: Mapping[str, Any] = field(default_factory=dict)
    config_kwargs: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_text_or_none(self, "device", "file_name", "subfolder")
        if self.export is not None and not isinstance(self.export, bool):
            raise OptionError(f"export must be True, False or None, not {self.export!r}.")
        _check_flag(self, "trust_remote_code")
        _check_mapping(self, "model_kwargs", "config_kwargs")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """Options of the `export` hook.

    Attributes:
        precision: Of the exported weights: `"fp32"`, `"fp16"`, and what else the backend's
            `PRECISIONS` names.
        exporter: `"direct"` (the backend's own) or `"optimum"` (where it is installed).
        file_name: Of the artifact, relative to the target; None for the backend's default.
        device: Where to run the source model while exporting.
        trust_remote_code: Whether code from the model repository may run.
        model_kwargs: Passed to the source model's load.
        config_kwargs: Overrides of the model's `config.json`.
        backend_kwargs: Options only this backend's exporter knows (`opset`, ...).
        min_cosine: Verification threshold; None for the precision's default.
        max_score_difference: The same for a reranker's scores.
        min_overlap: The same for the dimensions of sparse embeddings.
    """

    precision: str = "fp32"
    exporter: str = "direct"
    file_name: str | None = None
    device: str | None = None
    trust_remote_code: bool = False
    model_kwargs: Mapping[str, Any] = field(default_factory=dict)
    config_kwargs: Mapping[str, Any] = field(default_factory=dict)
    backend_kwargs: Mapping[str, Any] = field(default_factory=dict)
    min_cosine: float | None = None
    # Left out of its representation, which names exports in the cache.
    max_score_difference: float | None = field(default=None, repr=False)
    min_overlap: float | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        _check_text(self, "precision", "exporter")
        _check_text_or_none(self, "file_name", "device")
        check_unicode_name("file_name", self.file_name)
        _check_flag(self, "trust_remote_code")
        _check_mapping(self, "model_kwargs", "config_kwargs", "backend_kwargs")
        _check_thresholds(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizeOptions:
    """Options of the `optimize` hook.

    Attributes:
        config: A preset's name (`"O2"`, `"fp16"`, ...), the backend's configuration object, or None
            for the backend's default.
        file_suffix: Replaces the part of the file's name that tells the configuration.
        backend_kwargs: Options only this backend's optimizer knows.
        min_cosine: Verification threshold; None for the precision's default.
        max_score_difference: The same for a reranker's scores.
        min_overlap: The same for the dimensions of sparse embeddings.
    """

    config: Any = None
    file_suffix: str | None = None
    backend_kwargs: Mapping[str, Any] = field(default_factory=dict)
    min_cosine: float | None = None
    # Left out of its representation, which names exports in the cache.
    max_score_difference: float | None = field(default=None, repr=False)
    min_overlap: float | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        _check_suffix(self)
        _check_mapping(self, "backend_kwargs")
        _check_thresholds(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizeOptions:
    """Options of the `quantize` hook.

    Attributes:
        config: A preset's name, a mapping, the backend's configuration object, or None for the
            backend's default.
        calibration: Texts, or pairs of texts, that ranges of activations are taken from. `core`
            has read files and dropped nothing; None where none were given.
        num_samples: How many of them to use at most; None for the backend's default.
        file_suffix: Replaces the part of the file's name that tells the configuration.
        backend_kwargs: Options only this backend's quantizer knows.
        min_cosine: Keep the layers that harm most in floating point until the minimum cosine to
            the source over the calibration texts is no lower; then warn when the mean over the
            probe texts of verification falls under this.
        max_score_difference: Warn when a reranker's score differs from the source's by more.
        min_overlap: Warn when the dimensions of sparse embeddings overlap less in the mean.
    """

    config: Any = None
    calibration: Sequence[Any] | None = None
    num_samples: int | None = None
    file_suffix: str | None = None
    backend_kwargs: Mapping[str, Any] = field(default_factory=dict)
    min_cosine: float | None = None
    # Left out of its representation, which names exports in the cache.
    max_score_difference: float | None = field(default=None, repr=False)
    min_overlap: float | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        _check_positive(self, "num_samples")
        _check_suffix(self)
        _check_mapping(self, "backend_kwargs")
        _check_thresholds(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodeOptions:
    """Options of the `encode` hook.

    A hook computes plain float32 embeddings (of a reranker, plain scores); `prompt` is already in
    front of each text it is given, `core` has done what `truncation` asks for, and it applies
    `precision`, `normalize_embeddings`, `truncate_dim`, `activation_fn`, `apply_softmax`,
    `token_pooling`, `max_active_dims` and `convert_to_tensor` to what the hook returns. A hook that
    does not run through the shared engine may therefore ignore everything but `output_value` and
    `task`.

    Attributes:
        prompt: The text put in front of every input; None chooses by `prompt_name`, then the
            model's default. `""` is a deliberate empty prompt.
        prompt_name: Which of the model's prompts to use.
        batch_size: The most texts in one batch; None leaves it to `batch_tokens`.
        batch_tokens: The most tokens in one batch, padding included; None for the engine's
            choice.
        workers: How many batches run at once; None for the engine's choice.
        show_progress_bar: None shows it when logging is at INFO or below.
        output_value: `"sentence_embedding"` ([texts, dimension]) or `"token_embeddings"` (a list
            of [tokens, hidden]).
        outputs: Kinds of embeddings to compute in one pass, of `OUTPUTS`: a hook then returns a
            mapping of them, "dense" as without this, "sparse" as `core.SparseEmbeddings` and
            "multi_vector" as a list of float32 [tokens, dimension]. None for the embeddings alone.
            Only backends whose `OUTPUTS` name them are asked.
        precision: Of the returned embeddings.
        normalize_embeddings: Scale every embedding to length 1.
        truncate_dim: Keep this many leading dimensions; None for the model's own setting.
        convert_to_tensor: Return a `torch.Tensor` (on the model's device for the torch backend).
        activation_fn: Of a reranker: applied to its scores, as a name, a dotted path or a function
            of an array; None for the model's own.
        apply_softmax: Of a reranker with several labels: scores that add up to 1.
        task: Of a model that tells them apart: the texts are each a `"query"` or a `"document"`;
            None for neither.
        token_pooling: Of a multi-vector model: how vectors of a text are joined, as a
            `core.TokenPooling` or its `pool_factor`; None for not.
        truncation: What happens to texts with more tokens than the model's `max_seq_length`:
            `"cut"` embeds what fits (as None does), `"warn"` does so and logs which they are,
            `"error"` refuses them before anything is computed.
        max_active_dims: Of a sparse encoder: the most values of an embedding, the largest; None for
            the model's own setting.
    """

    prompt: str | None = None
    prompt_name: str | None = None
    batch_size: int | None = None
    batch_tokens: int | None = None
    workers: int | None = None
    show_progress_bar: bool | None = None
    output_value: OutputValue = "sentence_embedding"
    outputs: tuple[str, ...] | None = None
    precision: EmbeddingPrecision = "float32"
    normalize_embeddings: bool = False
    truncate_dim: int | None = None
    convert_to_tensor: bool = False
    truncation: Truncation | None = None
    activation_fn: Any = None
    apply_softmax: bool = False
    task: Task | None = None
    token_pooling: Any = None
    max_active_dims: int | None = None

    def __post_init__(self) -> None:
        _check_text_or_none(self, "prompt", "prompt_name")
        _check_positive(
            self, "batch_size", "batch_tokens", "workers", "truncate_dim", "max_active_dims"
        )
        _check_flag(self, "normalize_embeddings", "convert_to_tensor", "apply_softmax")
        if self.show_progress_bar is not None:
            _check_flag(self, "show_progress_bar")
        _check_choice(self, "output_value", OUTPUT_VALUES)
        _check_choice(self, "precision", EMBEDDING_PRECISIONS)
        if self.truncation is not None:
            _check_choice(self, "truncation", TRUNCATIONS)
        if self.task is not None:
            _check_choice(self, "task", TASKS)
        _check_outputs(self)
        if self.precision != "float32" and self.output_value == "token_embeddings":
            raise OptionError(
                f"precision={self.precision!r} quantizes sentence embeddings; "
                'use it with output_value="sentence_embedding".'
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class CardData:
    """What the model's files do not say, for the README.md of a model without one.

    Attributes:
        title: None for the last part of the name.
        name: What the card loads; None for where it is written to.
        task: What the model is for, in words.
        header: Entries of the card's YAML header besides the base model; None leaves one out.
    """

    title: str | None = None
    name: str | None = None
    task: str | None = None
    header: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_text_or_none(self, "title", "name", "task")
        _check_mapping(self, "header")
        for name in ("title", "name", "task"):
            try:
                (getattr(self, name) or "").encode()
            except UnicodeEncodeError as error:
                raise OptionError(
                    f"{name} has half a character, which no file can hold: {error.object!r:.60}."
                ) from error

    def named(self, name: str) -> CardData:
        """The same, with this name unless it has one."""
        return self if self.name else replace(self, name=name)


@dataclass(frozen=True, slots=True, kw_only=True)
class SaveOptions:
    """Options of the `save` hook.

    Attributes:
        card: What the README.md says that `core` writes for a model without one.
        keep_source: Also copy every other file of the source (weights of other backends,
            README); False writes what this backend needs.
    """

    keep_source: bool = True
    card: CardData | None = None

    def __post_init__(self) -> None:
        _check_flag(self, "keep_source")
        if self.card is not None:
            check_kind("card", self.card, CardData)


def check_exporter(backend: str, exporter: str, known: Sequence[str]) -> None:
    """Raise `OptionError` for an exporter that a backend does not have."""
    if exporter not in known:
        raise OptionError(
            f"The {backend} backend exports with {' or '.join(map(repr, known))}, not {exporter!r}."
        )


def check_names(given: Mapping[str, Any], known: Sequence[str], what: str) -> None:
    """Raise `OptionError` for the first name in `given` that is not `known`."""
    for name in given:
        if name not in known:
            hint = suggestion(name, known)
            listed = ", ".join(sorted(known)) or "none"
            raise OptionError(f"{what} does not take {name!r}.{hint} It takes: {listed}.")


def check_options(options: EncodeOptions, others: Sequence[str], what: str) -> None:
    """Raise `OptionError` where one of the fields `others` has another value than its default."""
    for name in others:
        if getattr(options, name) is not getattr(_DEFAULT_ENCODING, name):
            raise OptionError(f"{what} does not take {name!r}: it is for another kind of model.")


def split_options(given: Mapping[str, Any], options: type) -> dict[str, Any]:
    """Options `core` knows by name; the others go to the backend, which checks them."""
    known = field_names(options)
    for name in given:
        hint = suggestion(name, known, cutoff=0.85)
        if hint:
            raise OptionError(f"There is no option {name!r}.{hint}")
    parsed = {name: value for name, value in given.items() if name in known}
    parsed = {name: value for name, value in parsed.items() if value is not None}
    extra = {name: value for name, value in given.items() if name not in known}
    if extra:
        parsed["backend_kwargs"] = {**parsed.get("backend_kwargs", {}), **extra}
    return parsed


def field_names(options: type) -> tuple[str, ...]:
    """The names of the fields of an options dataclass."""
    return tuple(f.name for f in fields(options))


def _check_text(options: Any, *names: str) -> None:
    for name in names:
        value = getattr(options, name)
        if not isinstance(value, str) or not value:
            raise OptionError(f"{name} must be a non-empty string, not {value!r}.")


def _check_text_or_none(options: Any, *names: str) -> None:
    for name in names:
        value = getattr(options, name)
        if isinstance(value, Path):
            raise OptionError(f"{name} must be a string, not {value!r}; use str(...).")
        if value is not None and not isinstance(value, str):
            raise OptionError(f"{name} must be a string or None, not {value!r}.")


def check_positive(name: str, value: Any) -> int | None:
    """The value as an int, or None as it is.

    Raises:
        OptionError: It is neither, under 1 or over `sys.maxsize`; the message calls it `name`.
    """
    if value is None:
        return None
    # bool is an int, and numpy's integers are not: __index__ takes the second kind.
    try:
        number = operator.index(value)
    except TypeError:  # an array has __index__, too, and only some can be an index
        number = None
    if number is None or isinstance(value, bool):
        raise OptionError(f"{name} must be a positive integer or None, not {value!r}.")
    if number < 1:
        raise OptionError(f"{name} must be 1 or more, not {value!r}; None leaves it to core.")
    if number > sys.maxsize:
        raise OptionError(f"{name} must be {sys.maxsize} or less, not a number of more digits.")
    return number


def _check_positive(options: Any, *names: str) -> None:
    for name in names:
        check_positive(name, getattr(options, name))


def check_flag(name: str, value: Any) -> None:
    """Raise `OptionError` for a switch that is neither True nor False."""
    # "false" from a configuration file is true to Python.
    if not isinstance(value, bool):
        raise OptionError(f"{name} must be True or False, not {value!r}.")


def _check_flag(options: Any, *names: str) -> None:
    for name in names:
        check_flag(name, getattr(options, name))


def _check_choice(options: Any, name: str, choices: Sequence[str]) -> None:
    value = getattr(options, name)
    if not isinstance(value, str) or value not in choices:
        raise OptionError(f"{name} must be one of {', '.join(map(repr, choices))}, not {value!r}.")


def _check_outputs(options: EncodeOptions) -> None:
    given = options.outputs
    if given is None:
        return
    names = given if isinstance(given, list | tuple) else ()
    if not names or any(name not in OUTPUTS for name in names) or len(set(names)) < len(names):
        raise OptionError(
            f"outputs must be some of {', '.join(map(repr, OUTPUTS))}, each once, as in "
            f'outputs=("dense", "sparse"), not {given!r}.'
        )
    if options.output_value != "sentence_embedding":
        raise OptionError(
            f"outputs={given!r} and output_value={options.output_value!r} ask for different "
            "things: pass one of them."
        )
    object.__setattr__(options, "outputs", tuple(names))


def _check_mapping(options: Any, *names: str) -> None:
    for name in names:
        value = getattr(options, name)
        if not isinstance(value, Mapping):
            raise OptionError(f"{name} must be a mapping, not {value!r}.")
        for key in value:
            if not isinstance(key, str):
                raise OptionError(f"{name} must map names to values, and {key!r} is no name.")


def _check_suffix(options: Any) -> None:
    suffix = options.file_suffix
    if suffix is None:
        return
    if not isinstance(suffix, str) or not suffix or set(suffix) & set('/\\:*?"<>|\0'):
        raise OptionError(
            f"file_suffix must be a plain part of a file name, without slashes, not {suffix!r}."
        )
    check_unicode_name("file_suffix", suffix)
    if len(os.fsencode(suffix)) > _LONGEST_SUFFIX:
        raise OptionError(
            f"file_suffix has {len(suffix)} characters, {suffix[:20]!r} and more. Choose one of at "
            f"most {_LONGEST_SUFFIX}: the name of a file has room for 255."
        )


def _check_thresholds(options: Any) -> None:
    for name in ("min_cosine", "max_score_difference", "min_overlap"):
        given: Any = getattr(options, name)
        if not isinstance(given, int | float) and isinstance(given, numbers.Real):  # of numpy
            object.__setattr__(options, name, float(given))
    value = options.min_cosine
    if value is not None and not (isinstance(value, int | float) and -1 <= value <= 1):
        raise OptionError(f"min_cosine must lie between -1 and 1, not {value!r}.")
    most = options.max_score_difference
    if most is not None and not (
        isinstance(most, int | float) and not isinstance(most, bool) and most >= 0
    ):
        raise OptionError(f"max_score_difference must be 0 or more, not {most!r}.")
    least = options.min_overlap
    if least is not None and not (
        isinstance(least, int | float) and not isinstance(least, bool) and 0 <= least <= 1
    ):
        raise OptionError(f"min_overlap must lie between 0 and 1, not {least!r}.")


_DEFAULT_ENCODING = EncodeOptions()
