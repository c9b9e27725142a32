"""The model that an export starts from."""

from __future__ import annotations

from core.checkpoint.checkpoint import Checkpoint
from core.errors import PluginError, UnsupportedOperation
from core.models.embedding import EmbeddingModel
from core.operations.hooks import hooks
from core.options import ExportOptions, LoadOptions


def open_source(
    source: Checkpoint, options: ExportOptions, wanted: str, backend: str
) -> EmbeddingModel:
    """The model on `backend`, one that runs torch modules, to be exported as `wanted` ("ONNX").

    Raises:
        UnsupportedOperation: The backend is not installed.
    """
    try:
        origin = hooks(backend)
    except PluginError as error:
        raise UnsupportedOperation(
            f"Exporting {source} to {wanted} starts from its PyTorch weights, which needs the "
            f"{backend} backend. {error} To run the model without PyTorch, export it once where "
            "that is installed and copy the directory."
        ) from error
    load = LoadOptions(
        device="cpu",
        trust_remote_code=options.trust_remote_code,
        # The one implementation whose graph optimizers recognise as attention, and that gives
        # numbers for rows without a single visible token.
        model_kwargs={"attn_implementation": "eager", **options.model_kwargs},
        config_kwargs=options.config_kwargs,
    )
    return origin.load(source, load)
