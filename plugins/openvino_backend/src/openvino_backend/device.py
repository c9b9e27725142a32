"""What the caller asks of OpenVINO: the device and `ov_config`."""

from __future__ import annotations

import copyreg
import json
import os
import re
from collections.abc import Mapping
from typing import Any

from core.errors import OptionError
from core.toolkit import available_cpus, check_names, expand_home
from openvino_backend.imports import openvino
from openvino_backend.kernels.cache import GRAPH_CACHE

#: Devices that pass work on to others, named after a colon.
_VIRTUAL = ("AUTO", "MULTI", "HETERO", "BATCH")
#: Properties that say how work is spread; a caller who gives one has chosen.
SCHEDULING = ("PERFORMANCE_HINT", "NUM_STREAMS", "INFERENCE_NUM_THREADS")
PRECISION_HINT = "INFERENCE_PRECISION_HINT"
_MODE_HINT = "EXECUTION_MODE_HINT"
#: Properties that no device lists: of OpenVINO's core, which takes them for every device, and the
#: bound this backend sets.
_UNLISTED = (
    "ALLOW_AUTO_BATCHING",
    "AUTO_BATCH_TIMEOUT",
    "CACHE_DIR",
    "CACHE_MODE",
    "DEVICE_PROPERTIES",
    "ENABLE_MMAP",
    "FORCE_TBB_TERMINATE",
    GRAPH_CACHE[0],
)
#: A device in the list of a virtual one: perhaps left out ("-GPU"), perhaps with a number of
#: requests ("CPU(4)").
_CHOICE = re.compile(r"(-?)([^()]+)((?:\(\d+\))?)")


def _type_named(name: str) -> Any:
    return getattr(openvino.Type, name)


# A model is pickled as the arguments it was loaded with. ov_config may hold these objects, which
# pickle otherwise refuses to write or to read.
copyreg.pickle(openvino.Type, lambda kind: (_type_named, (kind.get_type_name(),)))
copyreg.pickle(type(openvino.properties.cache_dir), lambda name: (str, (str(name),)))


def cpu_threads() -> dict[str, Any]:
    """Properties of the CPU: it computes with the threads that core may use."""
    return {
        "INFERENCE_NUM_THREADS": available_cpus(),
        # Every process would tie its first thread to the first processor: two of them with a
        # thread each then share it, and the other one is idle.
        "ENABLE_CPU_PINNING": False,
    }


def choose_device(runtime: openvino.Core, asked: str | None) -> str:
    """The device as OpenVINO names it; the CPU unless another is asked for.

    Raises:
        OptionError: It does not exist here; the message lists what does.
    """
    device = (asked or "CPU").upper()
    kind, colon, choices = device.partition(":")
    if kind in _VIRTUAL:
        parts = _parts(choices)
    else:
        # A number after a colon is PyTorch's way, which other backends take.
        parts = [("", f"{kind}.{choices}" if choices.isdigit() else device, "")]
    available = runtime.available_devices
    found = {name: there for _, name, _ in parts if (there := _find(name, available))}
    missing = [name for _, name, _ in parts if name not in found]
    if not missing:
        named = ",".join(f"{minus}{found[name]}{requests}" for minus, name, requests in parts)
        return f"{kind}{colon}{named}" if kind in _VIRTUAL else named
    listed = ", ".join([*available, "AUTO"])
    hint = ""
    if missing[0].split(".")[0] in ("GPU", "NPU"):
        hint = " OpenVINO sees an Intel GPU or NPU only with its driver installed."
    if missing[0].startswith("CUDA"):
        hint = " OpenVINO does not compute on NVIDIA GPUs; the torch and onnx backends do."
    raise OptionError(
        f"device={asked!r} is not available to OpenVINO. Available here: {listed}.{hint}"
    )


def _find(name: str, available: list[str]) -> str | None:
    """The name under which OpenVINO has a device, or None where it does not have it."""
    kind, _, number = name.partition(".")
    if name in available:
        return name
    # One device of a kind is listed as "GPU", several as "GPU.0", "GPU.1"; "GPU" is the first then.
    # The CPU does not take a number at all.
    if number == "0" and kind in available:
        return kind
    return name if not number and f"{kind}.0" in available else None


def real_devices(runtime: openvino.Core, device: str) -> list[str]:
    """The devices that may compute: a real one itself, those behind a virtual one."""
    kind, _, choices = device.partition(":")
    if kind not in _VIRTUAL:
        return [device]
    parts = _parts(choices)
    named = [name for minus, name, _ in parts if not minus]
    left_out = [name for minus, name, _ in parts if minus]
    return named or [name for name in runtime.available_devices if name not in left_out]


def _parts(choices: str) -> list[tuple[str, str, str]]:
    """What `_CHOICE` tells apart, for each device of a virtual one's list."""
    matches = [(_CHOICE.fullmatch(choice), choice) for choice in choices.split(",") if choice]
    return [(m[1], m[2], m[3]) if m else ("", choice, "") for m, choice in matches]


def read_ov_config(value: Any) -> dict[str, Any]:
    """`ov_config` with plain names and values: given as a dictionary, or the path of a JSON file.

    Raises:
        OptionError: Neither, or names and values that are not properties.
    """
    if value is None:
        return {}
    where = "ov_config"
    if isinstance(value, str | os.PathLike):
        path = expand_home(value)
        where = f"ov_config file {str(path)!r}"
        try:
            value = json.loads(path.read_bytes())
        except OSError as error:
            raise OptionError(
                f"{where} cannot be read ({error.strerror}). Give the path of a JSON file, or the "
                "properties themselves as a dictionary."
            ) from error
        except ValueError as error:
            raise OptionError(f"{where} is not readable JSON ({error}).") from error
    if not isinstance(value, Mapping):
        raise OptionError(
            f"{where} must map names of OpenVINO properties to values, not {value!r}. For example: "
            '{"NUM_STREAMS": "1", "CACHE_DIR": "some/folder"}.'
        )
    config = {}
    for name, setting in value.items():
        plain = _plain(setting)
        if not isinstance(name, str) or plain is None:
            raise OptionError(
                f"{where} maps {name!r} to {setting!r}; names must be strings and values strings, "
                "numbers or booleans."
            )
        config[str(name)] = plain
    return config


def _plain(setting: Any) -> str | int | float | bool | None:
    """A value as a JSON file would have it, None where it cannot be one."""
    if isinstance(setting, openvino.Type):
        return str(setting.get_type_name())
    if isinstance(setting, os.PathLike):
        return os.fsdecode(setting)
    if hasattr(type(setting), "__members__"):  # an enum, also of OpenVINO, whose are not Python's
        return str(setting.value if isinstance(setting.value, str) else setting.name)
    if isinstance(setting, str):
        return str(setting)
    return setting if isinstance(setting, int | float) else None


def check_properties(runtime: openvino.Core, device: str, config: Mapping[str, Any]) -> None:
    """Raise `OptionError` for the first name that neither the device nor those behind it know."""
    devices = (device, *real_devices(runtime, device))
    known = set(_UNLISTED).union(*(supported(runtime, name) for name in devices))
    check_names(config, sorted(known), f"ov_config for {device}")


def is_virtual(device: str) -> bool:
    """Whether a device only passes work on to others."""
    return device.partition(":")[0] in _VIRTUAL


def with_precision(
    runtime: openvino.Core, device: str, config: Mapping[str, Any]
) -> dict[str, Any]:
    """The properties, requesting full precision unless the caller asks for something else.

    Devices with bfloat16 or float16 arithmetic otherwise round silently. A virtual device
    hands the hint on, though it does not list it.
    """
    settings = dict(config)
    inner = str(settings.get("DEVICE_PROPERTIES", ""))
    if any(name in settings or name in inner for name in (PRECISION_HINT, _MODE_HINT)):
        return settings
    real = real_devices(runtime, device)
    if all(_computes_float32(runtime, name) for name in real):
        settings[PRECISION_HINT] = "f32"
    elif all(_MODE_HINT in supported(runtime, name) for name in real):
        settings[_MODE_HINT] = "ACCURACY"
    return settings


def _computes_float32(runtime: openvino.Core, device: str) -> bool:
    """An NPU, for one, does not, and refuses to be asked."""
    return PRECISION_HINT in supported(runtime, device) and "FP32" in runtime.get_property(
        device, "OPTIMIZATION_CAPABILITIES"
    )


def supported(runtime: openvino.Core, device: str) -> list[str]:
    """Names of the properties a device lists, those it passes work on to left out."""
    return list(runtime.get_property(device.partition(":")[0], "SUPPORTED_PROPERTIES"))
