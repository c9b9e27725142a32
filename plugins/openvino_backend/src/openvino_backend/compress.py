"""Weight-only compression: int8 or int4 weights, computing in float32."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from core.errors import OptionError
from core.toolkit import check_names, check_positive
from openvino_backend.graph import head_operations
from openvino_backend.imports import import_nncf
from openvino_backend.presets import is_number, require
from openvino_backend.quiet import quiet

#: nncf compresses every layer to int8 row by row, and takes nothing else there.
_OPTIONS = {"int8": ("mode",), "int4": ("mode", "ratio", "group_size", "all_layers")}
MODES = {"int8": ("int8_asym", "int8_sym"), "int4": ("int4_asym", "int4_sym", "nf4")}
_GROUP_SIZE = 64


def compression_settings(precision: str, given: Mapping[str, Any], what: str) -> dict[str, Any]:
    """Options of nncf, under its names: `given` on top of the defaults.

    Raises:
        OptionError: A name or value it does not take; the message calls the operation `what`.
    """
    check_names(given, _OPTIONS[precision], what)
    settings: dict[str, Any] = {"mode": MODES[precision][0]}
    if precision == "int4":
        settings |= {"ratio": 1.0, "group_size": _GROUP_SIZE}
    settings |= {name: value for name, value in given.items() if value is not None}
    modes = MODES[precision]
    require(
        settings["mode"] in modes,
        "mode",
        settings["mode"],
        f"one of {', '.join(map(repr, modes))} for {precision}",
    )
    if precision == "int4":
        _check_int4(settings)
    return settings


def _check_int4(settings: dict[str, Any]) -> None:
    ratio, size = settings["ratio"], settings["group_size"]
    good = is_number(ratio) and 0 <= ratio <= 1
    require(good, "ratio", ratio, "a number between 0 and 1")
    # -1 stands for whole rows.
    settings["group_size"] = -1 if size == -1 else check_positive("group_size", size)
    every = settings.get("all_layers", False)
    require(isinstance(every, bool), "all_layers", every, "True or False")


def compress_weights(graph: Any, precision: str, settings: Mapping[str, Any]) -> Any:
    """The graph with its weights in `precision`, by `compression_settings`.

    int4 falls back to int8 where a weight's rows are not a multiple of the group.
    """
    nncf = import_nncf(f"Compressing weights to {precision}")
    arguments = {
        **settings,
        "mode": nncf.CompressWeightsMode(settings["mode"]),
        "ignored_scope": nncf.IgnoredScope(names=head_operations(graph)),
    }
    if precision == "int4":
        arguments["advanced_parameters"] = nncf.AdvancedCompressionParameters(
            group_size_fallback_mode=nncf.GroupSizeFallbackMode.ADJUST
        )
    try:
        with quiet():
            return nncf.compress_weights(graph, **arguments)
    except (RuntimeError, ValueError, nncf.ValidationError) as error:
        raise OptionError(
            f"nncf cannot compress to {precision} with {dict(settings)}: {error}"
        ) from error
