"""Export with Optimum, for architectures the direct exporter cannot trace. Optional."""

from __future__ import annotations

import contextlib
import importlib.metadata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core import Checkpoint, ExportOptions
from core.errors import UnsupportedOperation
from core.toolkit import temporary_directory
from openvino_backend.imports import import_quietly, openvino, unreported
from openvino_backend.quiet import root_logger_kept

#: What heads are built for, to optimum-intel's class; of the last, the graph gives the logits.
_CLASSES = {
    "sequence-classification": "OVModelForSequenceClassification",
    "fill-mask": "OVModelForMaskedLM",
}


def convert_with_optimum(
    source: Checkpoint, options: ExportOptions
) -> tuple[Any, Mapping[str, str]]:
    """The graph optimum-intel makes of the checkpoint's transformer, and what made it.

    Raises:
        UnsupportedOperation: optimum-intel is not installed, or cannot export this model.
    """
    try:
        # It imports nncf, some of it only when it exports.
        with contextlib.suppress(ImportError):
            import_quietly("nncf")
        exporter = import_quietly("optimum.intel")
    except ImportError as error:
        raise UnsupportedOperation(
            f"exporter='optimum' needs optimum-intel, which cannot be imported ({error}). Install "
            "it: `pip install core[optimum]`, in an environment of its own, for it holds "
            "transformers back; or use exporter='direct'."
        ) from error
    architecture = source.architecture
    prefix = f"{architecture.path}/" if architecture.path else ""
    beside = [n for n in source.names if n.startswith(prefix) and "/" not in n[len(prefix) :]]
    folder = source.folder(beside) / architecture.path
    head = architecture.head
    if head is not None and head.task not in _CLASSES:
        raise UnsupportedOperation(
            f"optimum-intel exports {source} with the cache of a text generator, which scoring "
            "does without. exporter='direct' exports its score."
        )
    kind = "OVModelForFeatureExtraction" if head is None else _CLASSES[head.task]
    try:
        with unreported(), root_logger_kept():
            model = getattr(exporter, kind).from_pretrained(
                str(folder),
                export=True,
                compile=False,
                load_in_8bit=False,
                trust_remote_code=options.trust_remote_code,
            )
    except Exception as error:
        raise UnsupportedOperation(
            f"optimum-intel cannot export {source}: {type(error).__name__}: {str(error)[:300]}"
        ) from error
    with temporary_directory("core-optimum-") as scratch:
        # Its graph maps files of a directory it deletes; a copy of its own outlives that.
        openvino.save_model(model.model, Path(scratch) / "model.xml", compress_to_fp16=False)
        graph = openvino.Core().read_model(Path(scratch) / "model.xml").clone()
    return graph, {
        name: importlib.metadata.version(name)
        for name in ("optimum-intel", "transformers", "torch")
    }
