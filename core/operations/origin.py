"""The model that an export starts from."""

from __future__ import annotations

from core.checkpoint.checkpoint import Checkpoint
from core.errors import PluginError, UnsupportedOperation
from core.machine.stages import announce
from core.models.model import Model
from core.operations.hooks import hooks
from core.options import ExportOptions, LoadOptions


def open_source(source: Checkpoint, options: ExportOptions, wanted: str, backend: str) -> Model:
    """The model on `backend`, one that runs torch modules, to be exported as `wanted` ("ONNX").

    Raises:
        UnsupportedOperation: The backend is not installed, or its models cannot be traced.
    """
    try:
        origin = hooks(backend)
    except PluginError as error:
        raise UnsupportedOperation(
            f"Exporting {source} to {wanted} starts from its PyTorch weights, which needs the "
            f"{backend} backend. {error} To run the model without PyTorch, export it once where "
            "that is installed and copy the directory."
        ) from error
    # The one implementation whose graph optimizers recognize as attention, and that gives
    # numbers for rows without a single visible token.
    eager = {"attn_implementation": "eager"}
    known = origin.capabilities.model_kwargs
    load = LoadOptions(
        device="cpu",
        trust_remote_code=options.trust_remote_code,
        model_kwargs={
            **(eager if "attn_implementation" in known else {}),
            **options.model_kwargs,
        },
        config_kwargs=options.config_kwargs,
    )
    announce(f"loading {source} with the {backend} backend")
    model: Model = origin.load(source, load)
    if not (hasattr(model.runtime, "traceable") and hasattr(model.runtime, "input_names")):
        model.close()
        why = f"the {backend} backend opens a runtime without `traceable` and `input_names`."
        if source.architecture.is_static:
            why = "it is a table of token embeddings, which every backend loads as it is."
        raise UnsupportedOperation(f"{source} cannot be exported to {wanted}: {why}")
    dtype, file = model.dtype or "", model.file_name
    if dtype.startswith("int"):
        model.close()
        raise UnsupportedOperation(
            f"{source} cannot be exported to {wanted}: its only weights for the {backend} backend "
            f"are those of {file}, which are {dtype}, and an export starts from floating "
            f"point. Export the model that {file} was made from, and quantize the export."
        )
    return model
