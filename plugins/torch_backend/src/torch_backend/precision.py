"""`dtype="auto"` on an accelerator: half precision where this model's results bear it.

float16 has three more bits than bfloat16 for a number and far fewer for its size: hidden states
beyond 65,504 overflow. Whether a model's do shows on a few texts.
"""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

import core
from core import Checkpoint, LoadOptions, Model, TokenBatch
from core.errors import CoreError
from core.toolkit import calibration_batches, compare, probe_texts
from torch_backend.device import choose_device
from torch_backend.files import DEFAULT_NAMES
from torch_backend.session import TorchRuntime

logger = logging.getLogger("core")

#: Kinds of device on which half precision is faster; a CPU keeps what its file stores.
ACCELERATORS = ("cuda", "mps", "xpu")

#: In this order.
CANDIDATES = (torch.float16, torch.bfloat16)

#: The least cosine of a result to that in float32.
LEAST_COSINE = 0.999
#: The most by which a reranker's score may differ, as a part of one more than its size.
MOST_DIFFERENCE = 0.02


def open_model(source: Checkpoint, options: LoadOptions) -> Model:
    """The model of a `load` hook, in the precision asked for or, for "auto", chosen here."""
    if not _is_chosen_here(options):
        return core.build_model(source, options, TorchRuntime.open)
    exact = {**options.model_kwargs, "dtype": "float32"}
    model = core.build_model(source, replace(options, model_kwargs=exact), TorchRuntime.open)
    if isinstance(model.runtime, TorchRuntime) and model.runtime.compile_options is None:
        model.runtime = choose_precision(model, model.runtime)
    return model


def _is_chosen_here(options: LoadOptions) -> bool:
    """Whether a choice is asked for, of weights that are not of a precision of their own."""
    name = (options.file_name or DEFAULT_NAMES[0]).rpartition("/")[2]
    return (
        options.model_kwargs.get("dtype") == "auto"
        and options.model_kwargs.get("torch_dtype") in (None, "auto")
        and name in DEFAULT_NAMES
        and choose_device(options.device).type in ACCELERATORS
    )


def choose_precision(model: Model, exact: TorchRuntime) -> TorchRuntime:
    """The float32 runtime `exact` in the first of `CANDIDATES` that agrees with it on a few texts,
    or `exact` itself."""
    try:
        batches = calibration_batches(model, probe_texts())
    except CoreError as error:  # what is wrong with it, the first text to be encoded will say
        logger.info("%s: computes in float32; no text to check others with: %s", model, error)
        return exact
    expected = [_results(exact, batch) for batch in batches]
    for dtype in CANDIDATES:
        try:
            half = exact.converted(dtype)
        except torch.cuda.OutOfMemoryError:
            logger.info("%s: computes in float32; memory holds no second copy to check.", model)
            return exact
        fault = _fault(expected, [_results(half, batch) for batch in batches], exact)
        if fault is None:
            logger.info("%s: computes in %s, which agrees with float32.", model, half.dtype)
            exact.close()
            return half
        logger.info("%s: does not compute in %s: %s.", model, half.dtype, fault)
        half.close()
    return exact


def _results(runtime: TorchRuntime, batch: TokenBatch) -> NDArray[np.float32]:
    """A row for each text of the batch, or for each token that has a vector."""
    kind = runtime.architecture.kind
    if kind == "reranker":
        return runtime.scores(batch)
    if kind == "multi_vector":
        return runtime.token_vectors(batch)[batch.attention_mask > 0]
    return runtime.sentence_embeddings(batch)


def _fault(
    expected: list[NDArray[np.float32]], found: list[NDArray[np.float32]], exact: TorchRuntime
) -> str | None:
    """Why results cannot be used in the place of those in float32; None if they can."""
    exact_rows, rows = np.concatenate(expected), np.concatenate(found)
    if not np.isfinite(rows).all():
        return "a result is not finite"
    if exact.architecture.kind == "reranker":
        most = float((np.abs(rows - exact_rows) / (1 + np.abs(exact_rows))).max())
        return None if most <= MOST_DIFFERENCE else f"a score differs by {most:.3f} of its size"
    least = compare(exact_rows, rows).min_cosine
    return None if least >= LEAST_COSINE else f"a cosine of {least:.4f} to float32"
