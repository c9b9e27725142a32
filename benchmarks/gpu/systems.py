"""What is compared: core, transformers as one would write it, sentence-transformers."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.gpu.device import has_flash_attention
from benchmarks.gpu.section import NotHereError

Encode = Callable[[list[str]], NDArray[np.float32]]

DEFAULT = "sentence-transformers float32"
HALF = "sentence-transformers float16"
FLASH = "sentence-transformers float16 flash"


@dataclass(frozen=True)
class System:
    """Something that embeds texts.

    Attributes:
        open: Loads a folder onto a device.
    """

    name: str
    open: Callable[[Path, str], Encode]


def load_core(folder: Path, device: str, **model_kwargs: Any) -> Any:
    """An `EmbeddingModel` of the torch backend."""
    import core

    return core.load(folder, backend="torch", device=device, model_kwargs=model_kwargs)


def core_system(name: str, **model_kwargs: Any) -> System:
    def open_model(folder: Path, device: str) -> Encode:
        model = load_core(folder, device, **model_kwargs)
        return lambda texts: np.asarray(model.encode(texts), dtype=np.float32)

    return System(name, open_model)


class Plain:
    """A transformer as its documentation shows it: padded batches of so many texts.

    Args:
        ordered: Whether texts of about the same length share a batch.
    """

    def __init__(
        self, folder: Path, device: str, dtype: str, *, batch_size: int, ordered: bool
    ) -> None:
        import torch
        from transformers import AutoModel, AutoTokenizer

        self._device, self._batch, self._ordered = torch.device(device), batch_size, ordered
        self._tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="right")
        module = AutoModel.from_pretrained(folder, dtype=getattr(torch, dtype))
        self._module = module.eval().to(self._device)
        flags = json.loads((folder / "1_Pooling/config.json").read_text(encoding="utf-8"))
        self._pooling = next(
            name.removeprefix("pooling_mode_")
            for name, flag in flags.items()
            if flag is True and name.startswith("pooling_mode_")
        )

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        import torch

        order = list(range(len(texts)))
        if self._ordered:
            order.sort(key=lambda i: -len(texts[i]))
        parts = []
        with torch.inference_mode():
            for first in range(0, len(order), self._batch):
                batch = [texts[i] for i in order[first : first + self._batch]]
                inputs = self._tokenizer(
                    batch,
                    padding=True,
                    truncation=True,
                    return_tensors="pt",
                    return_token_type_ids=False,
                ).to(self._device)
                hidden = self._module(**inputs).last_hidden_state.float()
                pooled = self._pooled(hidden, inputs["attention_mask"])
                parts.append(torch.nn.functional.normalize(pooled, dim=-1).cpu().numpy())
        result: NDArray[np.float32] = np.concatenate(parts)[np.argsort(order)]
        return result

    def _pooled(self, hidden: Any, mask: Any) -> Any:
        if self._pooling == "cls_token":
            return hidden[:, 0]
        if self._pooling == "lasttoken":
            rows = range(len(hidden))
            return hidden[list(rows), mask.sum(1) - 1]
        weights = mask[:, :, None].to(hidden.dtype)
        return (hidden * weights).sum(1) / weights.sum(1)


def plain_system(name: str, dtype: str, *, batch_size: int, ordered: bool) -> System:
    def open_model(folder: Path, device: str) -> Encode:
        return Plain(folder, device, dtype, batch_size=batch_size, ordered=ordered)

    return System(name, open_model)


def sentence_transformers_system(
    name: str, dtype: str, *, batch_size: int, attention: str | None = None
) -> System:
    def open_model(folder: Path, device: str) -> Encode:
        if find_spec("sentence_transformers") is None:
            raise NotHereError("sentence-transformers is not installed")
        if attention == "flash_attention_2" and not has_flash_attention():
            raise NotHereError("flash-attn is not installed")
        from sentence_transformers import SentenceTransformer

        arguments = {"dtype": dtype} | ({"attn_implementation": attention} if attention else {})
        model = SentenceTransformer(str(folder), device=device, model_kwargs=arguments)
        return lambda texts: np.asarray(
            model.encode(texts, batch_size=batch_size, show_progress_bar=False), dtype=np.float32
        )

    return System(name, open_model)


#: What throughput is measured of, ours first. 32 texts a batch are the default of
#: sentence-transformers; 256 are better on a GPU.
SYSTEMS = (
    core_system("core auto", dtype="auto"),
    core_system("core float16", dtype="float16"),
    core_system("core float16 padded", dtype="float16", packed=False),
    core_system("core float32", dtype="float32"),
    plain_system("transformers float32", "float32", batch_size=32, ordered=False),
    plain_system("transformers float16", "float16", batch_size=256, ordered=False),
    plain_system("transformers float16 sorted", "float16", batch_size=256, ordered=True),
    sentence_transformers_system(DEFAULT, "float32", batch_size=32),
    sentence_transformers_system(HALF, "float16", batch_size=256),
    sentence_transformers_system(FLASH, "float16", batch_size=256, attention="flash_attention_2"),
)
