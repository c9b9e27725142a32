"""What the caller asks of OpenVINO: the device and `ov_config`."""

from __future__ import annotations

import enum
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.errors import OptionError
from openvino_backend.imports import openvino

#: Devices that pass work on to others, named after a colon.
_VIRTUAL = ("AUTO", "MULTI", "HETERO", "BATCH")
#: Settings that say how work is spread; a caller who gives one has chosen.
SCHEDULING = ("PERFORMANCE_HINT", "NUM_STREAMS", "INFERENCE_NUM_THREADS")
_PRECISION = ("INFERENCE_PRECISION_HINT", "EXECUTION_MODE_HINT")


def choose_device(runtime: openvino.Core, asked: str | None) -> str:
    """The device as OpenVINO names it; the CPU unless another is asked for.

    Raises:
        OptionError: It does not exist here; the message lists what does.
    """
    device = (asked or "CPU").upper()
    kind, _, choices = device.partition(":")
    available = runtime.available_devices
    listed = ", ".join([*available, "AUTO"])
    if kind in _VIRTUAL:
        missing = [d for d in choices.split(",") if d and not _exists(d.lstrip("-"), available)]
    else:
        missing = [] if _exists(device, available) else [device]
    if not missing:
        return device
    hint = ""
    if missing[0].split(".")[0] in ("GPU", "NPU"):
        hint = " OpenVINO sees an Intel GPU or NPU only with its driver installed."
    if missing[0].startswith("CUDA"):
        hint = " OpenVINO does not compute on NVIDIA GPUs; the torch and onnx backends do."
    raise OptionError(
        f"device={asked!r} is not available to OpenVINO. Available here: {listed}.{hint}"
    )


def _exists(device: str, available: list[str]) -> bool:
    # With one GPU OpenVINO lists "GPU", with several "GPU.0", "GPU.1"; both names are good.
    kind = device.split(".")[0]
    if device == f"{kind}.0" and kind in available:
        return True
    return device in available or (device == kind and f"{kind}.0" in available)


def read_ov_config(value: Any) -> dict[str, Any]:
    """`ov_config` as a dictionary: given as one, or as the path of a JSON file.

    Raises:
        OptionError: Neither, or names and values that are no settings.
    """
    if value is None:
        return {}
    where = "ov_config"
    if isinstance(value, str | os.PathLike):
        path = Path(os.fspath(value)).expanduser()
        where = f"ov_config file {str(path)!r}"
        try:
            value = json.loads(path.read_bytes())
        except OSError as error:
            raise OptionError(
                f"{where} cannot be read ({error.strerror}). Give the path of a JSON file, or the "
                "settings themselves as a dictionary."
            ) from error
        except ValueError as error:
            raise OptionError(f"{where} is not readable JSON ({error}).") from error
    if not isinstance(value, Mapping):
        raise OptionError(
            f"{where} must map names of OpenVINO properties to values, not {value!r}. For example: "
            '{"NUM_STREAMS": "1", "CACHE_DIR": "some/folder"}.'
        )
    for name, setting in value.items():
        simple = isinstance(setting, str | int | float | bool | enum.Enum | openvino.Type)
        if not isinstance(name, str) or not simple:
            raise OptionError(
                f"{where} maps {name!r} to {setting!r}; names must be strings and values strings, "
                "numbers or booleans."
            )
    return dict(value)


def with_precision(
    runtime: openvino.Core, device: str, config: Mapping[str, Any]
) -> dict[str, Any]:
    """The settings with full precision asked for, unless the caller asks for something else.

    Devices with bfloat16 or float16 arithmetic otherwise round without a word.
    """
    settings = dict(config)
    if any(name in settings for name in _PRECISION):
        return settings
    if "INFERENCE_PRECISION_HINT" in supported(runtime, device):
        settings["INFERENCE_PRECISION_HINT"] = "f32"
    elif "EXECUTION_MODE_HINT" in supported(runtime, device):
        settings["EXECUTION_MODE_HINT"] = "ACCURACY"
    return settings


def supported(runtime: openvino.Core, device: str) -> list[str]:
    """Names of the properties a device knows."""
    return list(runtime.get_property(device.partition(":")[0], "SUPPORTED_PROPERTIES"))
