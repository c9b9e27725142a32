"""How to quantise: defaults, and the forms a configuration comes in.

docs/openvino.md has the table of what was tried before these defaults were chosen.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from core.errors import OptionError
from core.options import check_names

PRESETS = ("mixed", "performance")
OVERFLOW_FIXES = ("disable", "enable", "first_layer_only")
SCOPE_NAMES = ("names", "patterns", "types")
#: Named configurations: static int8, and weights alone.
NAMES = ("int8", "int8-weights", "int4-weights")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Settings of static int8 quantisation, under the names of Optimum's `OVQuantizationConfig`.

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
            the source has dropped by no more than this. None quantises everything once.
    """

    sym: bool = False
    overflow_fix: str = "disable"
    smooth_quant_alpha: float | None = None
    fast_bias_correction: bool = True
    num_samples: int = 256
    ignored_scope: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    max_drop: float | None = None

    def __post_init__(self) -> None:
        _require(isinstance(self.sym, bool), "sym", self.sym, "True or False")
        _require(
            self.overflow_fix in OVERFLOW_FIXES,
            "overflow_fix",
            self.overflow_fix,
            f"one of {', '.join(map(repr, OVERFLOW_FIXES))}",
        )
        alpha = self.smooth_quant_alpha
        _require(
            alpha is None or (_number(alpha) and (alpha == -1 or 0 <= alpha <= 1)),
            "smooth_quant_alpha",
            alpha,
            "between 0 and 1, or -1 to switch it off",
        )
        count = self.num_samples
        good = isinstance(count, int) and not isinstance(count, bool) and count > 0
        _require(good, "num_samples", count, "1 or more")
        drop = self.max_drop
        _require(
            drop is None or (_number(drop) and 0 < drop < 1), "max_drop", drop, "between 0 and 1"
        )

    def as_json(self) -> dict[str, Any]:
        """Plain values, for the sidecar."""
        return dataclasses.asdict(self)


def read_recipe(config: Any, more: Mapping[str, Any], num_samples: int | None) -> Recipe:
    """The recipe of a configuration.

    Args:
        config: None or `"int8"` for the defaults; a mapping of `Recipe`'s names (also `preset`,
            `bits` and `model_type`); or an object with such attributes, as Optimum's
            `OVQuantizationConfig`.
        more: Further settings, over those of `config`.
        num_samples: Likewise.

    Raises:
        OptionError: An unknown name or a value that cannot be used.
    """
    given = {**_settings(config), **more}
    if num_samples is not None:
        given["num_samples"] = num_samples
    _fixed(given, "bits", 8, "static quantisation is to 8 bits")
    _fixed(given, "dtype", "int8", "static quantisation is to int8")
    _fixed(given, "model_type", "transformer", "core quantises transformers")
    preset = given.pop("preset", None)
    if preset is not None:
        preset = str(getattr(preset, "value", preset))
        _require(preset in PRESETS, "preset", preset, " or ".join(map(repr, PRESETS)))
        given["sym"] = preset == "performance"
    known = tuple(field.name for field in dataclasses.fields(Recipe))
    check_names(given, known, "quantize of the openvino backend")
    given = {name: value for name, value in given.items() if value is not None}
    if "overflow_fix" in given:
        given["overflow_fix"] = str(getattr(given["overflow_fix"], "value", given["overflow_fix"]))
    if "ignored_scope" in given:
        given["ignored_scope"] = _scope(given["ignored_scope"])
    return Recipe(**given)


def _settings(config: Any) -> dict[str, Any]:
    if config is None or config == "int8":
        return {}
    if isinstance(config, str):
        raise OptionError(
            f"The openvino backend quantizes with {', '.join(map(repr, NAMES))}, not {config!r}."
        )
    if isinstance(config, Mapping):
        return dict(config)
    names = ("sym", "overflow_fix", "smooth_quant_alpha", "fast_bias_correction", "num_samples")
    found = {n: getattr(config, n) for n in (*names, "bits", "dtype") if hasattr(config, n)}
    if "sym" not in found or "overflow_fix" not in found:
        raise OptionError(
            f"{type(config).__name__} is no configuration of static quantisation: give a mapping, "
            f"an OVQuantizationConfig, or one of {', '.join(map(repr, NAMES))}."
        )
    found["ignored_scope"] = getattr(config, "ignored_scope", None)
    return found


def _scope(scope: Any) -> dict[str, tuple[str, ...]]:
    given = scope
    if not isinstance(scope, Mapping):  # nncf.IgnoredScope
        given = {n: getattr(scope, n) for n in SCOPE_NAMES if getattr(scope, n, None)}
        _require(hasattr(scope, "names"), "ignored_scope", scope, "a mapping of names, patterns")
    given = {name: value for name, value in given.items() if name != "validate"}
    check_names(given, SCOPE_NAMES, "ignored_scope")
    for name, value in given.items():
        listed = isinstance(value, list | tuple) and all(isinstance(v, str) for v in value)
        _require(listed, f"ignored_scope[{name!r}]", value, "a list of strings")
    return {name: tuple(value) for name, value in given.items()}


def _fixed(given: dict[str, Any], name: str, value: Any, why: str) -> None:
    stated = given.pop(name, value)
    if stated not in (value, None):
        raise OptionError(f"{name} must be {value!r}, not {stated!r}: {why}.")


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _require(good: bool, name: str, value: Any, wanted: str) -> None:
    if not good:
        raise OptionError(f"{name} must be {wanted}, not {value!r}.")
