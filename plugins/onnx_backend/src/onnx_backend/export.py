"""Export: the torch backend's transformer, traced and written as an ONNX graph."""

from __future__ import annotations

import inspect
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import core
from core import Artifact, Checkpoint, ExportOptions, LoadOptions
from core.errors import CoreError, OptionError, PluginError, UnsupportedOperation
from core.options import check_names
from onnx_backend.masks import traceable_masks
from onnx_backend.storage import to_half, versions, write_model

EXPORTERS = ("direct", "optimum")
EXPORT_OPTIONS = ("opset", "external_data")
#: Every operator ONNX Runtime's transformer fusions look for exists in it, with the meaning they
#: expect; newer ones bring nothing an encoder uses.
DEFAULT_OPSET = 18
OPSETS = range(14, 21)


def export_model(source: Checkpoint, target: Path, options: ExportOptions) -> Artifact:
    """Write `onnx/model.onnx`, or `onnx/model_fp16.onnx` for half precision.

    Raises:
        UnsupportedOperation: No torch backend is installed, or the architecture cannot be traced.
    """
    if options.exporter not in EXPORTERS:
        raise OptionError(
            f"The onnx backend exports with {' or '.join(map(repr, EXPORTERS))}, not "
            f"{options.exporter!r}."
        )
    extra = options.backend_kwargs
    check_names(extra, EXPORT_OPTIONS, "export of the onnx backend")
    opset = extra.get("opset") or DEFAULT_OPSET
    if opset not in OPSETS:
        raise OptionError(f"opset must lie from {OPSETS[0]} to {OPSETS[-1]}, not {opset!r}.")
    suffix = "" if options.precision == "fp32" else f"_{options.precision}"
    name = options.file_name or f"onnx/model{suffix}.onnx"
    scratch = target / ".export"
    scratch.mkdir()
    if options.exporter == "optimum":
        from onnx_backend.optimum import export_with_optimum

        traced, used = export_with_optimum(source, scratch, options, int(opset))
    else:
        traced, used = trace(source, scratch, options, int(opset))
    convert = to_half if options.precision == "fp16" else None
    external = extra.get("external_data")
    files = write_model(traced, target, name, convert=convert, external_data=external)
    return Artifact(
        root=target,
        file_name=name,
        files=files,
        precision=options.precision,
        config={"precision": options.precision, "exporter": options.exporter, "opset": opset},
        versions={**versions("onnx", "onnxruntime"), **used},
    )


def trace(
    source: Checkpoint, scratch: Path, options: ExportOptions, opset: int
) -> tuple[Path, Mapping[str, str]]:
    """An ONNX file in `scratch` that gives `last_hidden_state`, and what made it."""
    load = LoadOptions(
        device="cpu",
        trust_remote_code=options.trust_remote_code,
        # Only this implementation traces into a graph in which ONNX Runtime finds attention.
        model_kwargs={"attn_implementation": "eager", **options.model_kwargs},
        config_kwargs=options.config_kwargs,
    )
    path = scratch / "model.onnx"
    with open_source(source, load) as model:
        try:
            _export_module(model.runtime.module, model.runtime.input_names, path, opset)
        except CoreError:
            raise
        except Exception as error:
            kind = source.architecture.model_type or type(model.runtime.module).__name__
            reason = str(error).strip().split("\n")[0][:300]
            raise UnsupportedOperation(
                f"{source} ({kind}) cannot be traced into an ONNX graph: {type(error).__name__}: "
                f"{reason}. Try exporter='optimum', which knows more architectures and needs "
                "`pip install core[optimum]`; or use the torch backend."
            ) from error
    return path, versions("torch", "transformers")


def open_source(source: Checkpoint, options: LoadOptions) -> Any:
    """The model on the torch backend.

    Raises:
        UnsupportedOperation: The torch backend is not installed.
    """
    try:
        torch_backend = core.hooks("torch")
    except PluginError as error:
        raise UnsupportedOperation(
            f"Exporting {source} to ONNX starts from its PyTorch weights, which needs the torch "
            f"backend. {error} To run the model without PyTorch, export it once where it is "
            "installed and copy the directory."
        ) from error
    return torch_backend.load(source, options)


def _export_module(module: Any, names: Sequence[str], path: Path, opset: int) -> None:
    """Trace a transformer whose forward takes `names`; the graph takes any batch and length."""
    import torch

    without_cache = "use_cache" in inspect.signature(module.forward).parameters

    class LastHiddenState(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = module

        def forward(self, *tensors: torch.Tensor) -> Any:
            inputs: dict[str, Any] = dict(zip(names, tensors, strict=True))
            if without_cache:
                inputs["use_cache"] = False
            return self.module(**inputs).last_hidden_state

    module.float()
    example = {name: torch.zeros((2, 16), dtype=torch.int64) for name in names}
    example["input_ids"] += 3
    # Padding on both sides: a mask of ones only would be traced as no mask.
    example["attention_mask"][0, :12] = example["attention_mask"][1, 2:] = 1
    axes = {0: "batch", 1: "tokens"}
    with torch.no_grad(), _quiet(), traceable_masks():
        torch.onnx.export(
            LastHiddenState().eval(),
            tuple(example[name] for name in names),
            str(path),
            dynamo=False,
            opset_version=opset,
            do_constant_folding=True,
            input_names=list(names),
            output_names=["last_hidden_state"],
            dynamic_axes=dict.fromkeys((*names, "last_hidden_state"), axes),
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the tracer's warnings.

    What they are about, constants that depend on the traced shape, the verification of every
    export looks for: it runs other shapes.
    """
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)
