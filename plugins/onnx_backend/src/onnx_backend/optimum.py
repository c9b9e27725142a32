"""Export with Optimum, for architectures the direct exporter cannot trace. Optional."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import onnx

from core import Checkpoint, ExportOptions
from core.errors import UnsupportedOperation
from core.toolkit import GRAPH_INPUTS, installed_versions
from onnx_backend.quiet import quiet_tracer


def export_with_optimum(
    source: Checkpoint, scratch: Path, options: ExportOptions, opset: int
) -> tuple[Path, Mapping[str, str]]:
    """The ONNX file optimum-onnx makes of the checkpoint's transformer, and what made it.

    Raises:
        UnsupportedOperation: optimum-onnx is not installed, or cannot export this model.
    """
    try:
        from optimum.exporters.onnx import main_export
    except ImportError as error:
        raise UnsupportedOperation(
            f"exporter='optimum' needs optimum-onnx, which cannot be imported ({error}). Install "
            "it: `pip install core[optimum]`, in an environment of its own, for it holds "
            "transformers back; or use exporter='direct'."
        ) from error
    architecture = source.architecture
    prefix = f"{architecture.path}/" if architecture.path else ""
    beside = [n for n in source.names if n.startswith(prefix) and "/" not in n[len(prefix) :]]
    # modules.json would make Optimum export the pooled model; core runs the modules itself.
    beside = [n for n in beside if not n.endswith(("modules.json", ".onnx"))]
    try:
        with quiet_tracer():
            main_export(
                str(_copied(source, beside, scratch.with_name(".checkpoint"))),
                output=scratch,
                task=_task(source),
                library_name="transformers",
                opset=opset,
                trust_remote_code=options.trust_remote_code,
                do_validation=False,
            )
    except Exception as error:
        raise UnsupportedOperation(
            f"optimum-onnx cannot export {source}: {type(error).__name__}: {str(error)[:300]}"
        ) from error
    for file in scratch.iterdir():
        if not file.name.startswith("model.onnx"):
            file.unlink()
    _check_inputs(source, scratch / "model.onnx")
    return scratch / "model.onnx", installed_versions(
        "optimum-onnx", "optimum", "transformers", "torch"
    )


#: What heads are built for, to what Optimum calls it; of the last, the graph gives the logits.
_TASKS = {"sequence-classification": "text-classification", "fill-mask": "fill-mask"}


def _task(source: Checkpoint) -> str:
    """What Optimum calls the graph to make."""
    head = source.architecture.head
    if head is None:
        return "feature-extraction"
    if head.task in _TASKS:
        return _TASKS[head.task]
    raise UnsupportedOperation(
        f"optimum-onnx exports {source} with the cache of a text generator, which scoring does "
        "without. exporter='direct' exports its score."
    )


def _check_inputs(source: Checkpoint, path: Path) -> None:
    """Refuse what Optimum makes of an encoder-decoder: both in one graph."""
    inputs = [entry.name for entry in onnx.load(path, load_external_data=False).graph.input]
    others = [name for name in inputs if name not in GRAPH_INPUTS]
    if others:
        raise UnsupportedOperation(
            f"optimum-onnx exports {source} as a whole, with the inputs {', '.join(others)}, and "
            "not its encoder alone. exporter='direct' exports the encoder."
        )


def _copied(source: Checkpoint, names: list[str], folder: Path) -> Path:
    """The transformer's files linked into a folder of their own, at its top."""
    folder.mkdir()
    for name in names:
        (folder / name.rpartition("/")[2]).symlink_to(source.path(name).resolve())
    return folder
