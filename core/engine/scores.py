"""From a reranker's raw scores to what its caller gets: activation functions, softmax, order."""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.architecture.activations import ACTIVATIONS
from core.arguments import suggestion
from core.errors import OptionError, UnsupportedOperation

logger = logging.getLogger("core")

#: Where torch keeps each activation function; `torch.nn.modules.activation` has the others.
_PLACES: Mapping[str, str] = {"Identity": "torch.nn.modules.linear.Identity"}


@dataclass(frozen=True)
class Activation:
    """A function of scores.

    Attributes:
        name: The dotted path that configuration files name it by.
        function: float32 [n, labels] to an array of the same number of rows.
        origin: What `chosen_activation` makes it of again, also in another process.
    """

    name: str
    function: Callable[[NDArray[np.float32]], Any]
    origin: Any

    def __call__(self, scores: NDArray[np.float32]) -> NDArray[np.float32]:
        result = self.function(scores)
        try:
            return np.asarray(result, dtype=np.float32)
        except (TypeError, ValueError) as error:
            raise OptionError(
                f"activation_fn gives {type(result).__name__}, which is no array of numbers "
                f"({error}). It must return a number for each score."
            ) from error


def known_activation(name: str) -> Activation:
    """One of `ACTIVATIONS`, computed without torch."""
    function = ACTIVATIONS[name]
    place = _PLACES.get(name, f"torch.nn.modules.activation.{name}")
    return Activation(place, lambda scores: function(np, scores), name)


def default_activation(labels: int) -> Activation:
    """What sentence-transformers applies where nothing is stated."""
    return known_activation("Sigmoid" if labels == 1 else "Identity")


def stated_activation(stated: str | None, labels: int, trusted: bool, shown: str) -> Activation:
    """The activation function that a model's files name, or the default one.

    A dotted path outside torch is code of the model's: it runs only if it is trusted, and else the
    default takes its place, as in sentence-transformers.

    Args:
        shown: The model, for messages.

    Raises:
        UnsupportedOperation: A function of torch's that is not computed here.
    """
    if stated is None:
        return default_activation(labels)
    package, _, name = stated.rpartition(".")
    if package.split(".")[0] == "torch":
        if name in ACTIVATIONS:
            return known_activation(name)
        raise UnsupportedOperation(
            f"{shown} applies {stated} to its scores, which core does not compute; it knows "
            f"torch's {', '.join(ACTIVATIONS)}. Pass activation_fn: one of those names, or a "
            "function of an array."
        )
    if not trusted:
        default = default_activation(labels)
        logger.warning(
            "%s names the activation function %r, which is code of its own and does not run: %s "
            "is used. If you trust it, pass trust_remote_code=True; or pass activation_fn.",
            shown,
            stated,
            default.name.rpartition(".")[2],
        )
        return default
    function = _imported(stated, shown)
    return Activation(stated, _of_torch(function), function)


def chosen_activation(given: Any) -> Activation:
    """The activation function a caller names: a name, a dotted path of torch's, or a function.

    Functions and modules of torch's are given a `torch.Tensor`, any other a numpy array.

    Raises:
        OptionError: It is none of these.
    """
    if isinstance(given, Activation):
        return given
    if isinstance(given, str):
        package, _, name = given.rpartition(".")
        if name in ACTIVATIONS and package.split(".")[0] in ("", "torch"):
            return known_activation(name)
        hint = suggestion(name, ACTIVATIONS)
        raise OptionError(
            f"activation_fn={given!r} is not known.{hint} Known are {', '.join(ACTIVATIONS)}; or "
            "pass a function of an array."
        )
    if isinstance(given, type):  # torch.nn.Sigmoid instead of torch.nn.Sigmoid()
        given = given()
    if not callable(given):
        raise OptionError(
            f"activation_fn must be a function of the scores or the name of one, not {given!r}."
        )
    kind = type(given)
    own = f"{kind.__module__}.{kind.__qualname__}"
    known = kind.__module__.startswith("torch.nn.") and kind.__name__ in ACTIVATIONS
    if known and not _has_settings(given):
        return known_activation(kind.__name__)
    if _belongs_to_torch(given):
        return Activation(_path(given) or own, _of_torch(given), given)
    return Activation(_path(given) or own, given, given)


def _has_settings(module: Any) -> bool:
    """Whether a module of torch's was made with arguments: `GELU(approximate="tanh")`."""
    shown: str = module.extra_repr() if hasattr(module, "extra_repr") else ""
    return shown not in ("", "approximate='none'", "negative_slope=0.01", "alpha=1.0")


def _belongs_to_torch(function: Any) -> bool:
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(function, torch.nn.Module):
        return True
    return str(getattr(function, "__module__", None) or "").split(".")[0] == "torch"


def _of_torch(function: Callable[[Any], Any]) -> Callable[[NDArray[np.float32]], Any]:
    def compute(scores: NDArray[np.float32]) -> Any:
        import torch

        with torch.inference_mode():
            result = function(torch.from_numpy(scores.copy()))
        return result.float().cpu().numpy() if isinstance(result, torch.Tensor) else result

    return compute


def _path(function: Any) -> str | None:
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    return f"{module}.{name}" if module and name else None


def _imported(path: str, shown: str) -> Callable[[Any], Any]:
    module, _, name = path.rpartition(".")
    try:
        made: Callable[[Any], Any] = getattr(importlib.import_module(module), name)()
    except Exception as error:  # whatever that code raises
        raise UnsupportedOperation(
            f"{shown} names the activation function {path!r}, which cannot be made "
            f"({type(error).__name__}: {error}). Install the package it is in, or pass "
            "activation_fn."
        ) from error
    return made


def finish_scores(
    raw: NDArray[np.float32], activation: Activation, *, apply_softmax: bool = False
) -> NDArray[np.float32]:
    """float32 [n] for one label, else [n, labels], of raw scores [n, labels]."""
    scores = activation(raw) if len(raw) else raw
    if scores.shape[:1] != raw.shape[:1]:
        raise OptionError(
            f"activation_fn gives an array of shape {list(scores.shape)} for scores of shape "
            f"{list(raw.shape)}; it must keep the pairs apart."
        )
    if raw.shape[1] == 1 and scores.ndim == 2:
        return np.ascontiguousarray(scores[:, 0])
    return softmax(scores) if apply_softmax and scores.ndim == 2 else scores


def softmax(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows that add up to 1."""
    powers = np.exp(scores - scores.max(axis=1, keepdims=True, initial=-np.inf))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), dtype=np.float32)


def order_of(scores: NDArray[np.float32], top_k: int | None) -> Sequence[int]:
    """Positions of the best scores, best first; equal ones stay in their order."""
    order = np.argsort(-scores, kind="stable")
    return [int(position) for position in order[:top_k]]
