"""Activation functions of dense modules, for numpy, torch and graphs alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np


def _gelu(xp: Any, x: Any) -> Any:
    """The exact one, by the error function."""
    if xp is np:  # which has no erf
        erf = np.frompyfunc(math.erf, 1, 1)(x / math.sqrt(2.0)).astype(np.float32)
    else:
        erf = xp.erf(x / math.sqrt(2.0))
    return 0.5 * x * (1.0 + erf)


def _gelu_tanh(xp: Any, x: Any) -> Any:
    """GELU's approximation, torch's `approximate="tanh"`."""
    return 0.5 * x * (1.0 + xp.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x * x * x)))


def _sigmoid(xp: Any, x: Any) -> Any:
    """`1 / (1 + exp(-x))`, which would overflow far below zero."""
    return 0.5 * (1.0 + xp.tanh(0.5 * x))


def _softplus(xp: Any, x: Any) -> Any:
    """`log(1 + exp(x))`, which would overflow far above zero."""
    return xp.log1p(xp.exp(-xp.abs(x))) + xp.clip(x, 0.0, None)


#: torch.nn activation class to its function, with the class's default arguments.
ACTIVATIONS: Mapping[str, Callable[[Any, Any], Any]] = {
    "Identity": lambda xp, x: x,
    "Tanh": lambda xp, x: xp.tanh(x),
    "ReLU": lambda xp, x: xp.clip(x, 0.0, None),
    "GELU": _gelu,
    "GELUTanh": _gelu_tanh,
    "Sigmoid": _sigmoid,
    "SiLU": lambda xp, x: x * _sigmoid(xp, x),
    "Mish": lambda xp, x: x * xp.tanh(_softplus(xp, x)),
    "LeakyReLU": lambda xp, x: xp.where(x > 0, x, 0.01 * x),
    "ELU": lambda xp, x: xp.where(x > 0, x, xp.expm1(xp.clip(x, None, 0.0))),
    "Softplus": _softplus,
}
