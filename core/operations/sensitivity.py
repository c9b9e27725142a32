"""Layers kept in floating point until a floor holds: which, by how much each of them harms."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.architecture.batch import TokenBatch
from core.architecture.kinds import EMBEDDING
from core.engine.runtime import Runtime
from core.engine.similarity import row_cosines
from core.errors import VerificationError
from core.machine.stages import announce
from core.models.model import Model
from core.operations.judging import shown_under
from core.operations.probes import workers_for

#: A layer's harm is told by fewer texts than the floor is: it only orders the layers.
_SENSITIVITY_TEXTS = 64
#: Of those texts, the share that is harmed most counts.
_WORST_SHARE = 0.1


@dataclass(frozen=True)
class Kept:
    """Layers that stay in floating point.

    Attributes:
        layers: Their names; empty where everything may be quantized.
        min_cosine: Minimum cosine to the source over the calibration texts, the layers kept.
        texts: How many texts that were.
    """

    layers: tuple[str, ...]
    min_cosine: float
    texts: int

    def as_json(self) -> dict[str, Any]:
        """Plain values, for the sidecar."""
        return {
            "kept_in_float": list(self.layers),
            "calibration_min_cosine": self.min_cosine,
            "calibration_cosine_texts": self.texts,
        }


def keep_sensitive_layers(
    model: Model,
    layers: Sequence[Sequence[str]],
    open_variant: Callable[[frozenset[str]], AbstractContextManager[Runtime]],
    batches: Sequence[TokenBatch],
    min_cosine: float,
) -> Kept:
    """The fewest layers, most harmful first, that must stay float for `min_cosine` to hold.

    Where the whole model in int8 is not close enough, each entry of `layers` is tried as the only
    one in int8; the order found is kept in float from its worst end on, as far as it takes.

    Args:
        model: The source, an embedding model.
        layers: Names of layers that are kept together.
        open_variant: The quantized model with these layers in float.
        batches: Calibration texts.
        min_cosine: Over all of them.

    Raises:
        VerificationError: It does not hold with all of them in float either.
    """
    texts = sum(batch.rows for batch in batches)
    expected = [model.runtime.sentence_embeddings(batch) for batch in batches]

    def cosines(kept: frozenset[str], every: int = 1) -> NDArray[np.float64]:
        chosen = list(zip(batches, expected, strict=True))[::every]
        found = []
        with open_variant(kept) as runtime:
            for number, (batch, wanted) in enumerate(chosen):
                workers = workers_for(runtime, number, batch)
                embeddings = runtime.sentence_embeddings(batch, workers=workers)
                found.append(row_cosines(wanted, embeddings))
        return np.concatenate(found)

    lowest = float(cosines(frozenset()).min())
    if lowest >= min_cosine:
        return Kept((), lowest, texts)
    every = max(1, texts // _SENSITIVITY_TEXTS)
    names = frozenset(name for entry in layers for name in entry)
    harms = []
    for number, entry in enumerate(layers):
        announce(f"measuring how much each layer harms: {number + 1} of {len(layers)}")
        found = np.sort(cosines(names.difference(entry), every))
        harms.append(1 - found[: max(1, round(_WORST_SHARE * len(found)))].mean())
    ordered = [layers[i] for i in np.argsort(harms)[::-1]]
    fewest, most, reached = 0, len(ordered) + 1, lowest  # too few; enough
    while most - fewest > 1:
        count = (fewest + most) // 2
        announce(f"keeping {count} of {len(ordered)} layers in floating point")
        lowest = float(cosines(_first(ordered, count)).min())
        if lowest >= min_cosine:
            most, reached = count, lowest
        else:
            fewest = count
    if most > len(ordered):
        raise VerificationError(
            f"min_cosine={min_cosine} cannot be kept: with every layer of {model.file_name} in "
            f"floating point the minimum over {texts} calibration texts is "
            f"{shown_under(lowest, min_cosine)}. Ask for less, or use the model as it is."
        )
    return Kept(tuple(sorted(_first(ordered, most))), reached, texts)


def has_floor(model: Model, min_cosine: float | None) -> bool:
    """Whether `min_cosine` asks for more than any model reaches by itself.

    Other kinds of model are judged by verification alone.
    """
    return min_cosine is not None and min_cosine > -1 and model.kind == EMBEDDING


def _first(ordered: Sequence[Collection[str]], count: int) -> frozenset[str]:
    return frozenset(name for entry in ordered[:count] for name in entry)
