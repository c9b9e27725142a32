"""The device and the dtype to compute on and in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from core.errors import OptionError

#: Names of dtypes, torch's own and those of artifacts.
DTYPES = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "fp32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
}


def choose_device(asked: str | None) -> torch.device:
    """The device asked for, or the best there is: cuda, mps, xpu, cpu.

    Raises:
        OptionError: It does not exist here; the message lists what does.
    """
    available = available_devices()
    if asked is None:
        return torch.device(available[0])
    try:
        device = torch.device(asked.lower())
    except (RuntimeError, TypeError) as error:
        raise OptionError(
            f"{asked!r} is not a PyTorch device. Available here: {', '.join(available)}."
        ) from error
    if device.type not in available:
        hint = ""
        if device.type == "cuda":
            hint = " This PyTorch sees no CUDA GPU: check the driver, and that it is a CUDA build."
        raise OptionError(
            f"device={asked!r} is not available. Available here: {', '.join(available)}.{hint}"
        )
    if device.type in ("cuda", "xpu") and device.index is not None:
        count = getattr(torch, device.type).device_count()
        if device.index >= count:
            raise OptionError(
                f"device={asked!r} does not exist: there are {count} {device.type} devices, "
                f"numbered from 0."
            )
    return device


def available_devices() -> list[str]:
    """Kinds of device PyTorch can compute on here, best first."""
    found = []
    if torch.cuda.is_available():
        found.append("cuda")
    if torch.backends.mps.is_available():
        found.append("mps")
    if hasattr(torch, "xpu") and torch.xpu.is_available():
        found.append("xpu")
    return [*found, "cpu"]


def choose_dtype(kwargs: Mapping[str, Any]) -> torch.dtype | str | None:
    """`dtype` (or its older name `torch_dtype`) as torch's; "auto" keeps the checkpoint's."""
    given = [kwargs[name] for name in ("dtype", "torch_dtype") if kwargs.get(name) is not None]
    if not given:
        return None
    if len(given) == 2 and given[0] != given[1]:
        raise OptionError(f"dtype={given[0]!r} and torch_dtype={given[1]!r}: pass one of them.")
    value = given[0]
    if value == "auto":
        return "auto"
    name = str(value).removeprefix("torch.")
    if name not in DTYPES:
        raise OptionError(f"dtype must be float32, float16, bfloat16 or 'auto', not {value!r}.")
    return DTYPES[name]


def choose_packed(kwargs: Mapping[str, Any]) -> bool | None:
    """`packed`: whether batches are computed without padding; None leaves it to the device.

    Another attention that the caller named computes padded batches.
    """
    packed = kwargs.get("packed")
    if packed is not None and not isinstance(packed, bool):
        raise OptionError(
            f"packed must be True, False, or None to let the device decide, not {packed!r}."
        )
    if packed is None and kwargs.get("attn_implementation") is not None:
        return False
    return packed
