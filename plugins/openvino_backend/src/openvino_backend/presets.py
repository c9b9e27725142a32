"""How to quantize: defaults, and the forms a configuration may take.

docs/openvino.md has the table of what was tried before these defaults were chosen.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from core.errors import OptionError
from core.toolkit import check_names, check_positive

#: The file an export writes.
DEFAULT_NAME = "openvino/openvino_model.xml"

#: What `optimize` and `quantize` make, the default first; capabilities of the backend.
OPTIMIZE_CONFIGS = {
    "fp16": "weights stored in float16: half the file",
    "fused": "pooling and what follows inside the file, for other programs",
}
QUANTIZE_CONFIGS = {
    "int8": "int8 for this processor: fast and close, the same in any batch",
    "fastest": "int8 with one range for each product's inputs: faster, less close",
    "closest": "int8 with every token rounded by itself: closer, slower",
    "static": "static int8 with activation ranges from calibration texts, through nncf",
    "int8-weights": "weights in int8, through nncf",
    "int4-weights": "weights in int4, through nncf",
}

CALIBRATED_CONFIGS = ("int8", "fastest", "closest", "static")
#: Those made without nncf, and the suffix of each one's file; the first is the reference's.
FASTEST, CLOSEST = "fastest", "closest"
SUFFIXES = {"int8": "qint8_quantized", FASTEST: "qint8_fastest", CLOSEST: "qint8_closest"}
#: Calibration texts of those.
INT8_SAMPLES = 200
LOAD_CONFIGS = {"bf16": {"ov_config": {"INFERENCE_PRECISION_HINT": "bf16"}}}
NEEDS = {"bf16": ("avx512_bf16", "amx_bf16")}

PRESETS = ("mixed", "performance")
OVERFLOW_FIXES = ("disable", "enable", "first_layer_only")
SCOPE_NAMES = ("names", "patterns", "types")
#: What Optimum's `OVQuantizationConfig` and its relatives hold and this quantizer does not do.
_OPTIMUM_ONLY = ("backup_precision", "statistics_path")
#: What is read of an object; its tokenizer and processor only serve datasets by name.
_ATTRIBUTES = (
    "sym", "overflow_fix", "smooth_quant_alpha", "fast_bias_correction", "num_samples",
    "ignored_scope", "bits", "dtype", "model_type", "quant_method", "dataset", *_OPTIMUM_ONLY,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class StaticConfig:
    """Static int8 quantization options, under the names of Optimum's `OVQuantizationConfig`.

    Attributes:
        sym: Symmetric activations (nncf's "performance" preset) instead of asymmetric ("mixed").
        overflow_fix: Whether weights use 7 bits, so that sums of two products always fit 16 bits,
            as processors without VNNI or AMX add them. One of `OVERFLOW_FIXES`.
        smooth_quant_alpha: 0 to 1, how much of the activations' range goes into the weights; -1
            switches it off; None for nncf's default.
        fast_bias_correction: Correct biases from one layer's statistics; False is slower.
        num_samples: Calibration texts to use at most.
        ignored_scope: Operations to leave in floating point: `names`, `patterns`, `types`.
        max_drop: Accuracy control: put operations back to floating point until the mean cosine to
            the source has dropped by no more than this, without smooth quant. None quantizes
            everything once.
    """

    sym: bool = False
    overflow_fix: str = "disable"
    smooth_quant_alpha: float | None = None
    fast_bias_correction: bool = True
    num_samples: int = 256
    ignored_scope: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    max_drop: float | None = None

    def __post_init__(self) -> None:
        require(isinstance(self.sym, bool), "sym", self.sym, "True or False")
        require(
            self.overflow_fix in OVERFLOW_FIXES,
            "overflow_fix",
            self.overflow_fix,
            f"one of {', '.join(map(repr, OVERFLOW_FIXES))}",
        )
        alpha = self.smooth_quant_alpha
        require(
            alpha is None or (is_number(alpha) and (alpha == -1 or 0 <= alpha <= 1)),
            "smooth_quant_alpha",
            alpha,
            "between 0 and 1, or -1 to switch it off",
        )
        drop = self.max_drop
        require(
            drop is None or (is_number(drop) and 0 < drop < 1), "max_drop", drop, "between 0 and 1"
        )
        if drop is not None and alpha not in (None, -1):
            raise OptionError(
                f"smooth_quant_alpha={alpha!r} cannot be combined with max_drop={drop!r}: accuracy "
                "control works without smooth quant. Leave out one of them."
            )

    def as_json(self) -> dict[str, Any]:
        """Plain values, for the sidecar."""
        return dataclasses.asdict(self)


def read_config(
    config: Any, more: Mapping[str, Any], num_samples: int | None
) -> tuple[StaticConfig, list[str] | None]:
    """The parsed configuration, and the calibration texts it holds, if any.

    Args:
        config: `"static"` for the defaults; a mapping of `StaticConfig`'s names (`preset`,
            `bits`, `model_type` and `dataset`, a list of texts); or an object with such
            attributes, as Optimum's `OVQuantizationConfig`.
        more: Further options, which override those of `config`.
        num_samples: Overrides that of `config`, unless None.

    Raises:
        OptionError: An unknown name or a value that cannot be used.
    """
    given = {**_settings(config), **more}
    if num_samples is not None:
        given["num_samples"] = num_samples
    _fixed(given, "bits", 8, "static quantization is always 8-bit")
    _fixed(given, "dtype", "int8", "static quantization is always int8")
    _fixed(given, "model_type", "transformer", "core quantizes transformers")
    _fixed(given, "quant_method", "default", "static int8 has no other method")
    texts = _texts(given.pop("dataset", None))
    _refuse_optimum_only(given)
    preset = given.pop("preset", None)
    if preset is not None:
        preset = str(getattr(preset, "value", preset))
        require(preset in PRESETS, "preset", preset, " or ".join(map(repr, PRESETS)))
        given["sym"] = preset == "performance"
    known = tuple(field.name for field in dataclasses.fields(StaticConfig))
    check_names(given, known, "quantize of the openvino backend")
    given = {name: value for name, value in given.items() if value is not None}
    if "num_samples" in given:
        given["num_samples"] = check_positive("num_samples", given["num_samples"])
    if "overflow_fix" in given:
        given["overflow_fix"] = str(getattr(given["overflow_fix"], "value", given["overflow_fix"]))
    if "ignored_scope" in given:
        given["ignored_scope"] = _scope(given["ignored_scope"])
    return StaticConfig(**given), texts


def _settings(config: Any) -> dict[str, Any]:
    if config == "static":
        return {}
    if isinstance(config, str):
        raise OptionError(
            f"The openvino backend quantizes to {', '.join(QUANTIZE_CONFIGS)}, not {config!r}."
        )
    if isinstance(config, Mapping):
        return dict(config)
    found = {name: getattr(config, name) for name in _ATTRIBUTES if hasattr(config, name)}
    if "sym" not in found or "overflow_fix" not in found:
        raise OptionError(
            f"{type(config).__name__} is not a static quantization configuration: give a mapping, "
            f"an OVQuantizationConfig, or one of {', '.join(map(repr, QUANTIZE_CONFIGS))}."
        )
    return {**found, **(getattr(config, "kwargs", None) or {})}


def _texts(dataset: Any) -> list[str] | None:
    if isinstance(dataset, str):
        raise OptionError(
            f"dataset={dataset!r} names one of Optimum's datasets, which core does not read. Give "
            "calibration=... instead: texts, a file, or the name of a dataset of the Hub."
        )
    listed = isinstance(dataset, Sequence) and all(isinstance(text, str) for text in dataset)
    require(dataset is None or listed, "dataset", dataset, "a list of texts")
    return None if dataset is None else list(dataset)


def _refuse_optimum_only(given: dict[str, Any]) -> None:
    for name in _OPTIMUM_ONLY:
        value = given.pop(name, None)
        if value is not None:
            raise OptionError(
                f"{name}={value!r} has no counterpart in static int8 here. Leave it out, or "
                "quantize with Optimum."
            )


def _scope(scope: Any) -> dict[str, tuple[str, ...]]:
    given = scope
    if not isinstance(scope, Mapping):  # nncf.IgnoredScope
        given = {n: getattr(scope, n) for n in SCOPE_NAMES if getattr(scope, n, None)}
        require(hasattr(scope, "names"), "ignored_scope", scope, "a mapping of names, patterns")
    given = {name: value for name, value in given.items() if name != "validate"}
    check_names(given, SCOPE_NAMES, "ignored_scope")
    for name, value in given.items():
        listed = isinstance(value, list | tuple) and all(isinstance(v, str) for v in value)
        require(listed, f"ignored_scope[{name!r}]", value, "a list of strings")
    return {name: tuple(value) for name, value in given.items()}


def _fixed(given: dict[str, Any], name: str, value: Any, why: str) -> None:
    stated = given.pop(name, value)
    stated = getattr(stated, "value", stated)  # of an enum
    if stated not in (value, None):
        raise OptionError(f"{name} must be {value!r}, not {stated!r}: {why}.")


def is_number(value: Any) -> bool:
    """Whether a value is a number, which True is not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def require(good: bool, name: str, value: Any, wanted: str) -> None:
    """Raise `OptionError` unless `good`."""
    if not good:
        raise OptionError(f"{name} must be {wanted}, not {value!r}.")
