"""Models of random weights in folders, as sentence-transformers writes them; made on the spot."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.checkpoints import made
from benchmarks.gpu.plan import Plan, Setting, Shape
from benchmarks.gpu.texts import LAYOUTS, Vocabulary
from tests.tiny_models import Spec, save_model, write_modules

#: Raise it when anything here changes what is written.
_VERSION = 1


@dataclass(frozen=True)
class Family:
    """How the models of one architecture differ from those of another.

    Attributes:
        config: Class and arguments of the configuration, for a shape, a vocabulary and a number of
            positions.
        layout: Its special tokens: a name in `LAYOUTS`.
        pooling: "mean", "cls" or "last".
        packs: Whether the torch backend runs it without padding.
    """

    config: Callable[[Shape, int, int], tuple[str, dict[str, Any]]]
    layout: str = "bert"
    pooling: str = "mean"
    packs: bool = True
    unigram: bool = False


def _usual(name: str, **more: Any) -> Callable[[Shape, int, int], tuple[str, dict[str, Any]]]:
    def arguments(shape: Shape, vocabulary: int, positions: int) -> tuple[str, dict[str, Any]]:
        # RoBERTa and its relatives count positions from the padding token's id on.
        behind = more.get("pad_token_id", 0) + 1 if more.get("pad_token_id", 0) else 0
        return name, {
            "vocab_size": vocabulary,
            "num_hidden_layers": shape.layers,
            "hidden_size": shape.hidden,
            "num_attention_heads": shape.heads,
            "intermediate_size": shape.intermediate,
            "max_position_embeddings": positions + behind,
            **more,
        }

    return arguments


def _distilbert(shape: Shape, vocabulary: int, positions: int) -> tuple[str, dict[str, Any]]:
    return "DistilBertConfig", {
        "vocab_size": vocabulary,
        "n_layers": shape.layers,
        "dim": shape.hidden,
        "n_heads": shape.heads,
        "hidden_dim": shape.intermediate,
        "max_position_embeddings": positions,
    }


def _qwen3(shape: Shape, vocabulary: int, positions: int) -> tuple[str, dict[str, Any]]:
    name, usual = _usual("Qwen3Config")(shape, vocabulary, positions)
    heads = {"num_key_value_heads": shape.heads // 2, "head_dim": shape.hidden // shape.heads}
    return name, {**usual, **heads, "pad_token_id": 0, "bos_token_id": None, "eos_token_id": 2}


FAMILIES: Mapping[str, Family] = {
    "bert": Family(_usual("BertConfig")),
    "roberta": Family(_usual("RobertaConfig", pad_token_id=1, type_vocab_size=1), "roberta"),
    "xlm-roberta": Family(
        _usual("XLMRobertaConfig", pad_token_id=1, type_vocab_size=1), "roberta", unigram=True
    ),
    "distilbert": Family(_distilbert, pooling="cls"),
    "modernbert": Family(
        _usual(
            "ModernBertConfig",
            local_attention=32,
            pad_token_id=0,
            cls_token_id=2,
            sep_token_id=3,
            bos_token_id=2,
            eos_token_id=3,
        ),
        pooling="cls",
    ),
    "mpnet": Family(_usual("MPNetConfig", pad_token_id=1), "roberta", packs=False),
    "albert": Family(_usual("AlbertConfig", embedding_size=32), packs=False),
    "qwen3": Family(_qwen3, "decoder", "last", packs=False),
}

_POOLING = {"mean": "mean_tokens", "cls": "cls_token", "last": "lasttoken"}


def model(setting: Setting, family: str, shape: Shape) -> Path:
    """The folder of a model; written where it is not there yet."""
    plan = setting.plan
    sizes = f"{shape.layers}x{shape.hidden}x{shape.heads}x{shape.intermediate}"
    name = f"{family}-{sizes}-{plan.vocabulary}-{plan.positions}-v{_VERSION}"
    return made(setting.work / name, lambda folder: _write(folder, FAMILIES[family], shape, plan))


def _write(folder: Path, family: Family, shape: Shape, plan: Plan) -> None:
    import torch
    import transformers

    vocabulary, layout = Vocabulary(plan.vocabulary), LAYOUTS[family.layout]
    tokenizer = vocabulary.unigram(layout) if family.unigram else vocabulary.wordpiece(layout)
    folder.mkdir(parents=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": plan.positions,
        "padding_side": "left" if family.pooling == "last" else "right",
        **dict(layout.roles),
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    # A multiple of 64, as published models have it.
    name, arguments = family.config(
        shape, -(-tokenizer.get_vocab_size() // 64) * 64, plan.positions
    )
    torch.manual_seed(0)
    config = getattr(transformers, name)(**arguments)
    module = transformers.AutoModel.from_config(config)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.ndim > 1:  # what keeps the size of activations from layer to layer
                parameter.normal_(0.0, parameter.shape[-1] ** -0.5)
    save_model(module.eval(), folder)
    pooling = {_POOLING[family.pooling]: True}
    spec = Spec(lambda _: config, "", pooling, normalize=True, max_seq_length=plan.positions)
    write_modules(folder, spec, shape.hidden)
