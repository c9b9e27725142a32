"""Tiny seeded models of every architecture family, written as sentence-transformers would.

Random weights, real tokenizers (trained on a few sentences), real configuration files: what a
published model of the architecture looks like, in a few hundred kilobytes.
"""

from __future__ import annotations

import importlib.util
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

VERSION = 2  # raise it when anything below changes what is written

CORPUS = [
    "The quick brown fox jumps over the lazy dog while the cat sleeps near the warm stove.",
    "Embeddings turn sentences into vectors, and vectors can be compared with one another.",
    "She sells sea shells on the sea shore; the shells she sells are sea shells for sure.",
    "A retrieval system ranks documents by how close they are to the query in vector space.",
    "Quantization stores numbers in fewer bits: faster, smaller, slightly less exact.",
    "naïve café Zürich Łódź señor 机器学习 模型 文本 эмбеддинг текст 123 456 7890 !?.,;:",
] * 20

_TYPE = "sentence_transformers.models."


@dataclass(frozen=True)
class Spec:
    """How to build one tiny model."""

    config: Callable[[int], Any]
    tokenizer: str
    pooling: dict[str, bool] = field(default_factory=lambda: {"mean_tokens": True})
    normalize: bool = False
    dense: tuple[tuple[int, str], ...] = ()
    padding_side: str = "right"
    max_seq_length: int | None = 128
    settings: dict[str, Any] = field(default_factory=dict)
    include_prompt: bool = True


def _sizes(**more: Any) -> dict[str, Any]:
    return {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "max_position_embeddings": 512,
        **more,
    }


def _config(name: str, **arguments: Any) -> Callable[[int], Any]:
    def make(vocabulary: int) -> Any:
        import transformers

        return getattr(transformers, name)(vocab_size=vocabulary, **arguments)

    return make


SPECS: dict[str, Spec] = {
    "bert-cls": Spec(
        _config("BertConfig", **_sizes()), "wordpiece", {"cls_token": True}, normalize=True
    ),
    "bert-mean": Spec(_config("BertConfig", **_sizes()), "wordpiece"),
    "bert-prompts": Spec(
        _config("BertConfig", **_sizes()),
        "wordpiece",
        include_prompt=False,
        settings={
            "prompts": {"query": "query: ", "passage": "passage: "},
            "default_prompt_name": None,
            "similarity_fn_name": "dot",
        },
    ),
    "roberta": Spec(
        _config("RobertaConfig", **_sizes(max_position_embeddings=514), pad_token_id=1),
        "bytelevel-roberta",
    ),
    "xlm-roberta": Spec(
        _config("XLMRobertaConfig", **_sizes(max_position_embeddings=514), pad_token_id=1),
        "unigram-xlmr",
        max_seq_length=512,
    ),
    "distilbert": Spec(
        _config(
            "DistilBertConfig", dim=32, n_layers=2, n_heads=4, hidden_dim=64,
            max_position_embeddings=512,
        ),
        "wordpiece",
        {"cls_token": True},
    ),
    "mpnet": Spec(
        _config("MPNetConfig", **_sizes(max_position_embeddings=514), pad_token_id=1),
        "wordpiece-mpnet",
        normalize=True,
    ),
    "albert": Spec(
        _config("AlbertConfig", **_sizes(), embedding_size=16, pad_token_id=0), "unigram-albert"
    ),
    "deberta-v2": Spec(
        _config(
            "DebertaV2Config", **_sizes(), relative_attention=True, position_buckets=32,
            pos_att_type=["p2c", "c2p"], share_att_key=True, norm_rel_ebd="layer_norm",
            pad_token_id=0, type_vocab_size=0,
        ),
        "unigram-albert",
    ),
    "modernbert": Spec(
        _config(
            "ModernBertConfig",
            **_sizes(),
            local_attention=16,
            global_attn_every_n_layers=2,
            pad_token_id=0, cls_token_id=1, sep_token_id=2, bos_token_id=1, eos_token_id=2,
        ),
        "bytelevel-modernbert",
        {"cls_token": True},
        normalize=True,
    ),
    "roformer": Spec(
        _config("RoFormerConfig", **_sizes(), embedding_size=32, pad_token_id=0), "wordpiece"
    ),
    "qwen3": Spec(
        _config(
            "Qwen3Config",
            **_sizes(num_key_value_heads=2, head_dim=8),
            pad_token_id=0, bos_token_id=1, eos_token_id=2,
        ),
        "bytelevel-qwen3",
        {"lasttoken": True},
        normalize=True,
        padding_side="left",
        settings={"prompts": {"query": "Instruct: find\nQuery:", "document": ""}},
    ),
    "gemma3": Spec(
        _config(
            "Gemma3TextConfig",
            **_sizes(num_key_value_heads=1, head_dim=8),
            sliding_window=16,
            use_bidirectional_attention=True,
            pad_token_id=0, bos_token_id=1, eos_token_id=2,
        ),
        "bytelevel-gemma3",
        dense=((64, "torch.nn.modules.linear.Identity"), (32, "torch.nn.modules.linear.Identity")),
        normalize=True,
    ),
    "gpt2": Spec(
        _config("GPT2Config", n_embd=32, n_layer=2, n_head=4, n_positions=512, pad_token_id=1),
        "bytelevel-roberta",
    ),
    "t5": Spec(
        _config(
            "T5Config", d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4,
            pad_token_id=0, eos_token_id=1, decoder_start_token_id=0,
        ),
        "unigram-t5",
        dense=((24, "torch.nn.modules.linear.Identity"),),
        normalize=True,
        max_seq_length=256,
    ),
}  # fmt: skip


def _in_transformers(module: str) -> bool:
    """Whether the installed transformers has this architecture; without importing it."""
    package = importlib.util.find_spec("transformers")
    assert package is not None
    assert package.origin is not None
    return (Path(package.origin).parent / "models" / module).is_dir()


# Architectures of transformers 5.
if _in_transformers("nomic_bert"):
    SPECS["nomic-bert"] = Spec(
        _config("NomicBertConfig", **_sizes(), pad_token_id=0), "wordpiece", normalize=True
    )
if _in_transformers("gte"):
    SPECS["gte"] = Spec(_config("GteConfig", **_sizes(), pad_token_id=0), "wordpiece")
if _in_transformers("eurobert"):
    SPECS["eurobert"] = Spec(
        _config(
            "EuroBertConfig", **_sizes(num_key_value_heads=2),
            pad_token_id=0, bos_token_id=1, eos_token_id=2, mask_token_id=4,
        ),
        "bytelevel-modernbert",
    )  # fmt: skip
if _in_transformers("jina_embeddings_v3"):
    SPECS["jina-v3"] = Spec(
        _config("JinaEmbeddingsV3Config", **_sizes(), pad_token_id=1),
        "unigram-xlmr",
        normalize=True,
    )

_SPECIAL = {
    "wordpiece": ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"],
    "wordpiece-mpnet": ["<s>", "<pad>", "</s>", "[UNK]", "<mask>"],
    "bytelevel-roberta": ["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
    "unigram-xlmr": ["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
    "unigram-albert": ["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"],
    "bytelevel-modernbert": ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"],
    "bytelevel-qwen3": ["<|pad|>", "<|im_start|>", "<|endoftext|>"],
    "bytelevel-gemma3": ["<pad>", "<bos>", "<eos>", "<unk>"],
    "unigram-t5": ["<pad>", "</s>", "<unk>"],
}
_TEMPLATES = {
    "wordpiece": ("[CLS] $A [SEP]", "[CLS]", "[SEP]"),
    "wordpiece-mpnet": ("<s> $A </s>", "<s>", "</s>"),
    "bytelevel-roberta": ("<s> $A </s>", "<s>", "</s>"),
    "unigram-xlmr": ("<s> $A </s>", "<s>", "</s>"),
    "unigram-albert": ("[CLS] $A [SEP]", "[CLS]", "[SEP]"),
    "bytelevel-modernbert": ("[CLS] $A [SEP]", "[CLS]", "[SEP]"),
    "bytelevel-qwen3": ("$A <|endoftext|>", "<|endoftext|>"),
    "bytelevel-gemma3": ("<bos> $A <eos>", "<bos>", "<eos>"),
    "unigram-t5": ("$A </s>", "</s>"),
}


def train_tokenizer(kind: str, also: Sequence[str] = ()) -> Tokenizer:
    """A small tokenizer of the same construction as the architecture's published ones.

    The trainers of WordPiece and Unigram break ties at random, so those vocabularies are counted
    here. A byte-level vocabulary knows the words `also` as a whole.
    """
    family = kind.split("-")[0]
    special = _SPECIAL[kind]
    if family == "wordpiece":
        tokenizer = Tokenizer(models.WordPiece(_wordpiece_vocabulary(special), unk_token="[UNK]"))
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        tokenizer.decoder = decoders.WordPiece()
    elif family == "bytelevel":
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=500,
            special_tokens=special,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        tokenizer.train_from_iterator([*CORPUS, *list(also) * 500], trainer)
    else:
        pieces = _unigram_pieces(special)
        unknown = [piece for piece, _ in pieces].index("<unk>")
        tokenizer = Tokenizer(models.Unigram(pieces, unknown, False))
        tokenizer.normalizer = normalizers.NFKC()
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        tokenizer.decoder = decoders.Metaspace()
    tokenizer.add_special_tokens(special)
    template, *marks = _TEMPLATES[kind]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=template,
        pair=f"{template} {template.replace('$A', '$B')}",
        special_tokens=[(mark, tokenizer.token_to_id(mark)) for mark in marks],
    )
    return tokenizer


def _wordpiece_vocabulary(special: list[str]) -> dict[str, int]:
    """Characters, endings and words of the corpus, the most frequent first."""
    text = normalizers.BertNormalizer(lowercase=True).normalize_str(" ".join(CORPUS))
    words = re.findall(r"\w+|[^\w\s]", text)
    counts = Counter(words)
    counts.update(f"##{word[-size:]}" for word in words for size in (2, 3) if len(word) > size)
    characters = sorted({c for word in words for c in word})
    pieces = [*special, *characters, *(f"##{c}" for c in characters)]
    pieces += [piece for piece, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]
    return {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}


def _unigram_pieces(special: list[str]) -> list[tuple[str, float]]:
    """Words and characters of the corpus with the logarithm of their share."""
    words = [f"▁{word}" for word in normalizers.NFKC().normalize_str(" ".join(CORPUS)).split()]
    counts = Counter(words)
    counts.update(c for word in words for c in word)
    total = sum(counts.values())
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [(piece, 0.0) for piece in special] + [
        (piece, math.log(count / total)) for piece, count in ordered
    ]


def _tokenizer_config(kind: str, spec: Spec) -> dict[str, Any]:
    special = _SPECIAL[kind]
    pad = next(token for token in special if "pad" in token.lower())
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": pad,
        "model_max_length": spec.max_seq_length or 512,
        "padding_side": spec.padding_side,
    }
    for role, names in {
        "unk_token": ("[UNK]", "<unk>"),
        "cls_token": ("[CLS]", "<s>"),
        "sep_token": ("[SEP]", "</s>"),
        "mask_token": ("[MASK]", "<mask>"),
    }.items():
        found = [name for name in names if name in special]
        if found:
            config[role] = found[0]
    return config


def _write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2), encoding="utf-8")


def build(name: str, target: Path) -> None:
    """Write the model called `name` (a key of `SPECS`) into `target`."""
    import torch
    import transformers

    spec = SPECS[name]
    target.mkdir(parents=True, exist_ok=True)
    tokenizer = train_tokenizer(spec.tokenizer)
    tokenizer.save(str(target / "tokenizer.json"))
    _write(target / "tokenizer_config.json", _tokenizer_config(spec.tokenizer, spec))
    torch.manual_seed(sum(map(ord, name)))
    config = spec.config(tokenizer.get_vocab_size())
    model_class = transformers.AutoModel
    if name == "t5":
        model_class = transformers.T5EncoderModel
    model = model_class.from_config(config) if name != "t5" else model_class(config)
    with torch.no_grad():  # the default initialization is too flat to tell texts apart
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0.0, 0.15)
    model.eval()
    save_model(model, target)
    write_modules(target, spec, hidden=32)


def save_model(model: Any, target: Path) -> None:
    """Weights and config.json, and nothing else."""
    import warnings

    from transformers.utils import logging

    logging.disable_progress_bar()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save_pretrained(target)
    (target / "generation_config.json").unlink(missing_ok=True)


def write_modules(target: Path, spec: Spec, hidden: int) -> None:
    """modules.json and the folders it names, in the legacy dialect."""
    import torch
    from safetensors.torch import save_file

    flags = (
        "cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens",
        "lasttoken",
    )  # fmt: skip
    modules = [("Transformer", ""), ("Pooling", "1_Pooling")]
    _write(
        target / "1_Pooling/config.json",
        {
            "word_embedding_dimension": hidden,
            **{f"pooling_mode_{flag}": spec.pooling.get(flag, False) for flag in flags},
            "include_prompt": spec.include_prompt,
        },
    )
    width = hidden * sum(spec.pooling.values())
    for outputs, activation in spec.dense:
        folder = f"{len(modules)}_Dense"
        modules.append(("Dense", folder))
        weight = torch.empty(outputs, width).normal_(0, 0.2)
        _write(
            target / folder / "config.json",
            {
                "in_features": width,
                "out_features": outputs,
                "bias": True,
                "activation_function": activation,
            },
        )
        save_file(
            {"linear.weight": weight, "linear.bias": torch.empty(outputs).normal_(0, 0.1)},
            target / folder / "model.safetensors",
        )
        width = outputs
    if spec.normalize:
        modules.append(("Normalize", f"{len(modules)}_Normalize"))
    _write(
        target / "modules.json",
        [
            {"idx": i, "name": str(i), "path": path, "type": _TYPE + kind}
            for i, (kind, path) in enumerate(modules)
        ],
    )
    _write(
        target / "config_sentence_transformers.json",
        {"__version__": {"sentence_transformers": "5.3.0"}, **spec.settings},
    )
    if spec.max_seq_length is not None:
        _write(
            target / "sentence_bert_config.json",
            {"max_seq_length": spec.max_seq_length, "do_lower_case": False},
        )
