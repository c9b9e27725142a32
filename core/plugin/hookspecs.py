"""The six hooks a backend implements, and the markers.

A backend is any object (usually a module) with functions marked `hookimpl`:

    import core

    DEVICES = ("cpu",)

    @core.hookimpl
    def load(source, options):
        return core.build_model(source, options, open_runtime)

    @core.hookimpl
    def encode(model, texts, options):
        return core.encode_texts(model, texts, options)

and a distribution offers it under the name users will type:

    [project.entry-points."core.backends"]
    mine = "my_package.plugin"

`load` and `encode` are required. A wrapping plugin (entry-point group `core.plugins`) implements
any of the hooks with `hookimpl(wrapper=True)` and sees the calls of every backend.

All hooks are `firstresult` and none may return None. Signatures change only with `SPEC_VERSION`;
new options are new fields of the options dataclasses.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pluggy

from core.options import (
    EncodeOptions,
    ExportOptions,
    LoadOptions,
    OptimizeOptions,
    QuantizeOptions,
    SaveOptions,
)

if TYPE_CHECKING:
    from core.artifacts.artifact import Artifact
    from core.checkpoint.checkpoint import Checkpoint
    from core.models.model import Model

PROJECT = "core"

#: The version of the hook specifications below. A plugin states the one it was written for as
#: `SPEC_VERSION`; without the attribute it counts as written for version 1.
SPEC_VERSION = 1

#: The oldest version whose plugins still run.
OLDEST_SPEC_VERSION = 1

HOOK_NAMES = ("load", "export", "optimize", "quantize", "encode", "save")

REQUIRED_HOOKS = ("load", "encode")

hookspec = pluggy.HookspecMarker(PROJECT)

hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec(firstresult=True)
def load(source: Checkpoint, options: LoadOptions) -> Model:  # type: ignore[empty-body]
    """Open a checkpoint for inference. Since version 1.

    `source.path(name)` gives a file of the checkpoint, downloading it if necessary. Import the
    runtime here, not at module level: naming another backend must stay cheap.
    """


@hookspec(firstresult=True)
def export(source: Checkpoint, target: Path, options: ExportOptions) -> Artifact:  # type: ignore[empty-body]
    """Write the checkpoint in this backend's own format under `target`. Since version 1.

    `target` is an empty staging directory. `core` verifies what is there against the source and
    publishes it; a hook never writes anywhere else.
    """


@hookspec(firstresult=True)
def optimize(model: Model, target: Path, options: OptimizeOptions) -> Artifact:  # type: ignore[empty-body]
    """Write a faster version of `model`'s file under the staging directory. Since version 1."""


@hookspec(firstresult=True)
def quantize(model: Model, target: Path, options: QuantizeOptions) -> Artifact:  # type: ignore[empty-body]
    """Write a version with fewer bits under the staging directory. Since version 1."""


@hookspec(firstresult=True)
def encode(model: Model, texts: Sequence[Any], options: EncodeOptions) -> Any:
    """Compute what the model gives for `texts` (prompt already in front), in their order. Since
    version 1.

    What it takes and returns depends on `model.kind`:

    - `"embedding"`: strings; float32 [len(texts), model.full_dimension], to which `core` applies
      truncation, normalization on request and embedding quantization. Or, for
      `options.output_value == "token_embeddings"`, a list of float32 [tokens, hidden]; for
      `options.outputs`, which only backends are given that state them in `OUTPUTS`, a dictionary
      of what is named there, in that order.
    - `"reranker"`: pairs of strings, as tuples (or strings, where the model's chat template made
      one text of each pair); float32 [len(texts), len(model.labels)], the scores before the
      activation function, which `core` applies.
    - `"sparse"`: strings, for what `options.task` says; `core.SparseEmbeddings` [len(texts),
      model.dimension], of which `core` keeps the largest `options.max_active_dims` values of each
      row.
    - `"multi_vector"`: strings, each a query or a document by `options.task`; a list of float32
      [tokens, dimension], one for each text, to which `core` applies token pooling.
    """


@hookspec(firstresult=True)
def save(model: Model, target: Path, options: SaveOptions) -> Path:  # type: ignore[empty-body]
    """Write this backend's own files under the staging directory and return it. Since version 1.

    `core` has put the configuration, the tokenizer and the source's other files there.
    """
