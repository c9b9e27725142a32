"""Weight-only compression: int8 or int4 weights, computing in float32."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from core.errors import OptionError
from openvino_backend.imports import import_nncf

COMPRESSION_OPTIONS = ("mode", "ratio", "group_size", "all_layers")
MODES = {"int8": ("int8_asym", "int8_sym"), "int4": ("int4_asym", "int4_sym", "nf4")}
_GROUP_SIZE = 64


def compress_weights(
    graph: Any, precision: str, given: Mapping[str, Any]
) -> tuple[Any, dict[str, Any]]:
    """The graph with its weights in `precision`, and the settings used.

    `mode`, `ratio`, `group_size` and `all_layers` are nncf's; int4 falls back to int8 where a
    weight's rows are no multiple of the group.
    """
    nncf = import_nncf(f"Compressing weights to {precision}")
    settings = {"mode": MODES[precision][0], **given}
    if settings["mode"] not in MODES[precision]:
        raise OptionError(
            f"mode must be one of {', '.join(map(repr, MODES[precision]))} for {precision}, not "
            f"{settings['mode']!r}."
        )
    if precision == "int4":
        settings.setdefault("group_size", _GROUP_SIZE)
        settings.setdefault("ratio", 1.0)
    arguments = {**settings, "mode": nncf.CompressWeightsMode(settings["mode"])}
    if precision == "int4":
        arguments["advanced_parameters"] = nncf.AdvancedCompressionParameters(
            group_size_fallback_mode=nncf.GroupSizeFallbackMode.ADJUST
        )
    try:
        return nncf.compress_weights(graph, **arguments), settings
    except (RuntimeError, ValueError, nncf.ValidationError) as error:
        raise OptionError(
            f"nncf cannot compress to {precision} with {settings}: {error}"
        ) from error
