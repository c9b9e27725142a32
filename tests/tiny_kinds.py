"""Tiny seeded rerankers, sparse encoders and multi-vector models, in every published layout.

What `tests/tiny_models.py` is for dense embeddings. Weights are drawn by the name of each parameter
from numpy's generator, so that results recorded in one environment (`tests/kinds/recorded`) hold in
another.
"""

from __future__ import annotations

import json
import string
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import AddedToken, Regex, Tokenizer, normalizers, pre_tokenizers, processors

from tests.tiny_models import train_tokenizer

VERSION = 2  # raise it when anything below changes what is written

HIDDEN = 32

#: Of every reranker here with several labels.
LABELS = ("contradiction", "entailment", "neutral")

_SIZES = {
    "hidden_size": HIDDEN,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 512,
}
_BASE = "sentence_transformers.base.modules."
_SPARSE = "sentence_transformers.sparse_encoder.modules."
_OLD = "sentence_transformers.models."
_OLD_SPARSE = "sentence_transformers.sparse_encoder.models."
_MULTI_VECTOR = "sentence_transformers.multi_vector_encoder.modules."
_SIGMOID = "torch.nn.modules.activation.Sigmoid"
_IDENTITY = "torch.nn.modules.linear.Identity"

#: What each family's tokenizer files say: kind of vocabulary, class, pair template, settings.
_FAMILIES: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    "bert": ("wordpiece", "BertTokenizer", "[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1", {}),
    "distilbert": ("wordpiece", "DistilBertTokenizer", "[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1", {}),
    "xlm-roberta": (
        "unigram-xlmr", "XLMRobertaTokenizer", "<s> $A </s> </s> $B </s>",
        {"bos_token": "<s>", "eos_token": "</s>"},
    ),
    "modernbert": (
        "bytelevel-modernbert", "PreTrainedTokenizerFast", "[CLS] $A [SEP] $B [SEP]",
        {"model_input_names": ["input_ids", "attention_mask"]},
    ),
    "qwen3": (
        "bytelevel-qwen3", "Qwen2Tokenizer", "$A $B",
        {"pad_token": "<|pad|>", "eos_token": "<|endoftext|>"},
    ),
}  # fmt: skip
#: What cuts texts in the published files of a family. Transformers 5 takes its class's own for some
#: classes, whatever tokenizer.json says, so another would be read in two ways.
_SPLITTERS = {
    "xlm-roberta": (
        None,
        pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]),
    ),
    "qwen3": (
        normalizers.NFC(),
        pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(
                    Regex(
                        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
                        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
                    ),
                    behavior="isolated",
                ),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        ),
    ),
}
_ROLES = {
    "pad_token": ("[PAD]", "<pad>"),
    "unk_token": ("[UNK]", "<unk>"),
    "cls_token": ("[CLS]", "<s>"),
    "sep_token": ("[SEP]", "</s>"),
    "mask_token": ("[MASK]", "<mask>"),
}

#: Both roles of a pair, and a prompt as the system's message, as Qwen3-Reranker's instructions.
CHAT_TEMPLATE = """\
<|im_start|>system
{{ messages | selectattr("role", "eq", "system") | map(attribute="content") | first \
| default("Judge the document.", true) }}
<|im_start|>user
<Query>: {{ messages | selectattr("role", "eq", "query") | map(attribute="content") | first }}
<Document>: {{ messages | selectattr("role", "eq", "document") | map(attribute="content") | first }}
<|im_start|>assistant
"""


def _write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2), encoding="utf-8")


def _draw(name: str, shape: tuple[int, ...], scale: float) -> NDArray[np.float32]:
    generator = np.random.default_rng(zlib.crc32(name.encode()))
    return generator.normal(0.0, scale, shape).astype(np.float32)


def write_tokenizer(
    target: Path, family: str, change: Callable[[Tokenizer], Tokenizer] | None = None, **more: Any
) -> int:
    """The tokenizer's files of a family; returns the size of its vocabulary.

    Args:
        change: Applied to the tokenizer before it is written.
        more: Further entries of tokenizer_config.json.
    """
    kind, class_name, pair, settings = _FAMILIES[family]
    tokenizer = train_tokenizer(kind, ("yes", "no") if family == "qwen3" else ())
    if family in _SPLITTERS:
        tokenizer.normalizer, tokenizer.pre_tokenizer = _SPLITTERS[family]
    special = [token.content for token in tokenizer.get_added_tokens_decoder().values()]
    marks = [word.partition(":")[0] for word in pair.split() if not word.startswith("$")]
    first = pair[: pair.index("$B")].split()
    tokenizer.post_processor = processors.TemplateProcessing(
        # "<s> A </s> </s> B </s>" begins the second text with a mark of its own.
        single=" ".join(first[:3] if len(first) > 3 else first) if marks else "$A",
        pair=pair,
        special_tokens=[(mark, tokenizer.token_to_id(mark)) for mark in set(marks)],
    )
    if change is not None:
        tokenizer = change(tokenizer)
    target.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(target / "tokenizer.json"))
    config: dict[str, Any] = {"tokenizer_class": class_name, "model_max_length": 512}
    for role, names in _ROLES.items():
        if found := [name for name in names if name in special]:
            config[role] = found[0]
    _write(target / "tokenizer_config.json", {**config, **settings, **more})
    return tokenizer.get_vocab_size()


_CONFIGURATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("BertConfig", _SIZES),
    "distilbert": (
        "DistilBertConfig",
        {
            "dim": HIDDEN, "n_layers": 2, "n_heads": 4, "hidden_dim": 64,
            "max_position_embeddings": 512,
        },
    ),
    "xlm-roberta": (
        "XLMRobertaConfig",
        {**_SIZES, "max_position_embeddings": 514, "type_vocab_size": 1, "pad_token_id": 1},
    ),
    "modernbert": (
        "ModernBertConfig",
        {
            **_SIZES, "local_attention": 16, "global_attn_every_n_layers": 2, "pad_token_id": 0,
            "cls_token_id": 1, "sep_token_id": 2, "bos_token_id": 1, "eos_token_id": 2,
        },
    ),
    "qwen3": (
        "Qwen3Config",
        {
            **_SIZES, "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 1024,
            "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
        },
    ),
}  # fmt: skip
_CLASSES = {
    "bert": "Bert",
    "distilbert": "DistilBert",
    "xlm-roberta": "XLMRoberta",
    "modernbert": "ModernBert",
    "qwen3": "Qwen3",
}


def write_transformer(
    target: Path, family: str, head: str, vocabulary: int, **configuration: Any
) -> None:
    """config.json and the weights of `<family><head>`, such as BertForMaskedLM."""
    import torch
    import transformers
    from transformers.utils import logging

    class_name, sizes = _CONFIGURATIONS[family]
    config = getattr(transformers, class_name)(vocab_size=vocabulary, **sizes, **configuration)
    model = getattr(transformers, _CLASSES[family] + head)(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.from_numpy(_weights(name, tuple(parameter.shape))))
        if head == "ForMaskedLM":  # most words are not in a text
            model.get_output_embeddings().bias -= 1.6
    logging.disable_progress_bar()
    model.eval().save_pretrained(target)
    (target / "generation_config.json").unlink(missing_ok=True)


def _weights(name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    if len(shape) > 1:
        # A classifier of small weights gives every pair the same score.
        return _draw(name, shape, 0.4 if name.startswith(("classifier", "score")) else 0.15)
    if name.endswith("weight"):  # of a norm
        return 1 + _draw(name, shape, 0.1)
    return _draw(name, shape, 0.05)


def _write_weights(path: Path, weights: Mapping[str, NDArray[Any]]) -> None:
    from safetensors.numpy import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(dict(weights), path, {"format": "pt"})


def _write_modules(target: Path, *modules: tuple[str, str]) -> None:
    _write(
        target / "modules.json",
        [
            {"idx": i, "name": str(i), "path": path, "type": kind}
            for i, (path, kind) in enumerate(modules)
        ],
    )


def _write_settings(target: Path, model_type: str | None, **settings: Any) -> None:
    versions = {"sentence_transformers": "6.2.0", "transformers": "5.24.0", "pytorch": "2.13.0"}
    content = {"__version__": versions, "prompts": {}, "default_prompt_name": None, **settings}
    if model_type is not None:
        content["model_type"] = model_type
    _write(target / "config_sentence_transformers.json", content)


def _write_task(target: Path, task: str, output: str, name: str, **more: Any) -> None:
    forward = {"method": "forward", "method_output_name": output}
    _write(
        target / "sentence_bert_config.json",
        {
            "transformer_task": task,
            "modality_config": {"text": forward},
            "module_output_name": name,
            **more,
        },
    )


# --- rerankers


def _classifier(
    target: Path, family: str, labels: tuple[str, ...] = ("LABEL_0",), **tokenizer: Any
) -> None:
    vocabulary = write_tokenizer(target, family, **tokenizer)
    names = {
        "id2label": dict(enumerate(labels)),
        "label2id": {label: number for number, label in enumerate(labels)},
    }
    write_transformer(target, family, "ForSequenceClassification", vocabulary, **names)


def _configured(target: Path, **entries: Any) -> None:
    """A classic BERT reranker with further entries in config.json."""
    _classifier(target, "bert")
    config = json.loads((target / "config.json").read_text(encoding="utf-8"))
    _write(target / "config.json", {**config, **entries})


def _new_layout(target: Path, activation: str = _SIGMOID, **settings: Any) -> None:
    """As sentence-transformers writes rerankers since 5.4."""
    _classifier(target, "bert")
    _write_modules(target, ("", f"{_BASE}transformer.Transformer"))
    _write_task(target, "sequence-classification", "logits", "scores")
    _write_settings(target, "CrossEncoder", activation_fn=activation, **settings)


def _causal(target: Path) -> int:
    vocabulary = write_tokenizer(target, "qwen3", padding_side="left")
    write_transformer(target, "qwen3", "ForCausalLM", vocabulary, tie_word_embeddings=True)
    return vocabulary


def _logit_score(target: Path, *, chat: bool, single_token: bool = False) -> None:
    _causal(target)
    tokenizer = Tokenizer.from_file(str(target / "tokenizer.json"))
    _write_modules(
        target,
        ("", f"{_BASE}transformer.Transformer"),
        ("1_LogitScore", "sentence_transformers.cross_encoder.modules.logit_score.LogitScore"),
    )
    _write(
        target / "1_LogitScore/config.json",
        {
            "true_token_id": tokenizer.token_to_id("yes"),
            "false_token_id": None if single_token else tokenizer.token_to_id("no"),
            "module_input_name": "causal_logits",
        },
    )
    forward = {"method": "forward", "method_output_name": "logits"}
    _write_task(target, "text-generation", "logits", "causal_logits")
    if chat:
        (target / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")
        modalities = {"text": forward, "message": {**forward, "format": "flat"}}
        _write_task(
            target, "text-generation", "logits", "causal_logits", modality_config=modalities
        )
    _write_settings(target, "CrossEncoder", activation_fn=_IDENTITY)


RERANKERS: dict[str, Callable[[Path], object]] = {
    "reranker-bert": lambda target: _classifier(target, "bert"),
    "reranker-labels": lambda target: _classifier(target, "bert", LABELS),
    "reranker-xlm-roberta": lambda target: _classifier(target, "xlm-roberta"),
    "reranker-xlm-roberta-left": lambda target: _classifier(
        target, "xlm-roberta", padding_side="left"
    ),
    "reranker-distilbert": lambda target: _classifier(target, "distilbert"),
    "reranker-modernbert": lambda target: _classifier(target, "modernbert"),
    # A tokenizer that makes no token types, for a model that has them.
    "reranker-no-types": lambda target: _classifier(
        target, "bert", model_input_names=["input_ids", "attention_mask"]
    ),
    # The three places of an activation, newest first, and one that is code of the model's own.
    "reranker-activation-saved": lambda target: _new_layout(target, activation=_IDENTITY),
    "reranker-activation-config": lambda target: _configured(
        target, sentence_transformers={"activation_fn": _IDENTITY, "version": "4.1.0"}
    ),
    "reranker-activation-legacy": lambda target: _configured(
        target, sbert_ce_default_activation_function=_IDENTITY
    ),
    "reranker-activation-foreign": lambda target: _configured(
        target, sentence_transformers={"activation_fn": "somewhere.else.Activation"}
    ),
    "reranker-new": lambda target: _new_layout(
        target, prompts={"query": "find: "}, default_prompt_name="query"
    ),
    "reranker-qwen3": lambda target: _logit_score(target, chat=False),
    "reranker-qwen3-one-token": lambda target: _logit_score(target, chat=False, single_token=True),
    "reranker-qwen3-chat": lambda target: _logit_score(target, chat=True),
    # A causal language model and nothing else: "yes" and "no" are looked up.
    "reranker-qwen3-bare": lambda target: _causal(target),
    "reranker-qwen3-classifier": lambda target: _classifier(target, "qwen3"),
}


# --- sparse encoders


def _masked(target: Path, family: str, **tokenizer: Any) -> int:
    vocabulary = write_tokenizer(target, family, **tokenizer)
    write_transformer(target, family, "ForMaskedLM", vocabulary)
    return vocabulary


def _splade(
    target: Path,
    pooling: str,
    activation: str,
    family: str = "bert",
    **settings: Any,
) -> None:
    """As sentence-transformers writes SPLADE since 5.4."""
    vocabulary = _masked(target, family)
    _write_modules(
        target,
        ("", f"{_BASE}transformer.Transformer"),
        ("1_SpladePooling", f"{_SPARSE}splade_pooling.SpladePooling"),
    )
    _write_task(target, "fill-mask", "logits", "token_embeddings")
    _write(
        target / "1_SpladePooling/config.json",
        {
            "pooling_strategy": pooling,
            "activation_function": activation,
            "embedding_dimension": vocabulary,
        },
    )
    _write_settings(target, "SparseEncoder", similarity_fn_name="dot", **settings)


def _old_splade(target: Path, pooling: str, activation: str) -> None:
    """As sentence-transformers 5.0 to 5.3 did."""
    vocabulary = _masked(target, "bert")
    _write_modules(
        target,
        ("", f"{_OLD_SPARSE}MLMTransformer"),
        ("1_SpladePooling", f"{_OLD_SPARSE}SpladePooling"),
    )
    _write(target / "sentence_bert_config.json", {"max_seq_length": 256, "do_lower_case": False})
    _write(
        target / "1_SpladePooling/config.json",
        {
            "pooling_strategy": pooling,
            "activation_function": activation,
            "word_embedding_dimension": vocabulary,
        },
    )
    _write_settings(target, "SparseEncoder", similarity_fn_name="dot")


def _autoencoder(target: Path, *, normalize: bool) -> None:
    """CSR: a transformer, the mean, and the largest activations of a sparse autoencoder."""
    vocabulary = write_tokenizer(target, "bert")
    write_transformer(target, "bert", "Model", vocabulary)
    _write_modules(
        target,
        ("", f"{_BASE}transformer.Transformer"),
        ("1_Pooling", "sentence_transformers.sentence_transformer.modules.pooling.Pooling"),
        ("2_SparseAutoEncoder", f"{_SPARSE}sparse_auto_encoder.SparseAutoEncoder"),
    )
    _write_task(target, "feature-extraction", "last_hidden_state", "token_embeddings")
    _write(
        target / "1_Pooling/config.json",
        {"embedding_dimension": HIDDEN, "pooling_mode": "mean", "include_prompt": True},
    )
    _write(
        target / "2_SparseAutoEncoder/config.json",
        {
            "input_dim": HIDDEN, "hidden_dim": 128, "k": 16, "k_aux": 32, "normalize": normalize,
            "dead_threshold": 30,
        },
    )  # fmt: skip
    # The encoder's weight goes by the last name of its two, as safetensors leaves out shared ones.
    shapes = {"decoder.linear.weight": (128, HIDDEN), "pre_bias": (HIDDEN,), "latent_bias": (128,)}
    weights = {name: _draw(name, shape, 0.2) for name, shape in shapes.items()}
    # Of training; it does not load without.
    weights["stats_last_nonzero"] = np.zeros(128, np.int64)
    _write_weights(target / "2_SparseAutoEncoder/model.safetensors", weights)
    _write_settings(target, "SparseEncoder", similarity_fn_name=None, max_active_dims=16)


def _inference_free(target: Path) -> None:
    """Queries looked up, documents through the transformer; nothing but the router at the top."""
    query, document = target / "query_0_SparseStaticEmbedding", target / "document_0_Transformer"
    vocabulary = write_tokenizer(query, "bert")
    _write(query / "config.json", {"frozen": True})
    weight = np.abs(_draw("idf", (vocabulary,), 2.0))
    _write_weights(query / "model.safetensors", {"weight": weight})
    _masked(document, "bert")
    _write_task(document, "fill-mask", "logits", "token_embeddings")
    pooling = {"pooling_strategy": "max", "activation_function": "log1p_relu"}
    _write(
        target / "document_1_SpladePooling/config.json", {**pooling, "embedding_dimension": None}
    )
    _write_modules(target, ("", f"{_BASE}router.Router"))
    _write(
        target / "router_config.json",
        {
            "types": {
                query.name: f"{_SPARSE}sparse_static_embedding.SparseStaticEmbedding",
                document.name: f"{_BASE}transformer.Transformer",
                "document_1_SpladePooling": f"{_SPARSE}splade_pooling.SpladePooling",
            },
            "structure": {
                "query": [query.name],
                "document": [document.name, "document_1_SpladePooling"],
            },
            "parameters": {
                "default_route": "document",
                "allow_empty_key": True,
                "route_mappings": {},
            },
        },
    )
    prompts = {"query": "", "document": ""}
    _write_settings(target, "SparseEncoder", similarity_fn_name="dot", prompts=prompts)


SPARSE: dict[str, Callable[[Path], object]] = {
    "splade": lambda target: _splade(target, "max", "relu"),
    "splade-log1p": lambda target: _splade(
        target, "max", "log1p_relu", max_active_dims=24, prompts={"query": "query: "}
    ),
    "splade-sum": lambda target: _splade(target, "sum", "relu", "xlm-roberta"),
    "splade-old": lambda target: _old_splade(target, "max", "relu"),
    "splade-old-sum": lambda target: _old_splade(target, "sum", "log1p_relu"),
    # *ForMaskedLM and nothing else.
    "splade-bare-bert": lambda target: _masked(target, "bert"),
    "splade-bare-distilbert": lambda target: _masked(target, "distilbert"),
    "splade-bare-modernbert": lambda target: _masked(target, "modernbert"),
    "splade-bare-xlm-roberta-left": lambda target: _masked(
        target, "xlm-roberta", padding_side="left"
    ),
    "csr": lambda target: _autoencoder(target, normalize=False),
    "csr-normalized": lambda target: _autoencoder(target, normalize=True),
    "inference-free": _inference_free,
}


# --- multi-vector models


def _projection(target: Path, **more: Any) -> None:
    _write(
        target / "1_Dense/config.json",
        {
            "in_features": HIDDEN,
            "out_features": 16,
            "bias": False,
            "activation_function": _IDENTITY,
            **more,
        },
    )
    weight = _draw("linear.weight", (16, HIDDEN), 0.2)
    _write_weights(target / "1_Dense/model.safetensors", {"linear.weight": weight})


def _colbert(
    target: Path,
    family: str = "bert",
    skip: tuple[str, ...] = (),
    tasks: tuple[str, ...] = ("document",),
    similarity: str | None = None,
    padding_side: str = "right",
    **transformer: Any,
) -> None:
    """As sentence-transformers 6 writes multi-vector models."""
    vocabulary = write_tokenizer(target, family, padding_side=padding_side)
    write_transformer(target, family, "Model", vocabulary)
    _write_modules(
        target,
        ("", f"{_BASE}transformer.Transformer"),
        ("1_Dense", f"{_BASE}dense.Dense"),
        ("2_MultiVectorMask", f"{_MULTI_VECTOR}multi_vector_mask.MultiVectorMask"),
        ("3_Normalize", f"{_BASE}normalize.Normalize"),
    )
    _write_task(
        target, "feature-extraction", "last_hidden_state", "token_embeddings", **transformer
    )
    tokens = {"module_input_name": "token_embeddings", "module_output_name": "token_embeddings"}
    _projection(target, **tokens)
    _write(
        target / "2_MultiVectorMask/config.json",
        {
            "skiplist_words": list(skip),
            "skiplist_tasks": list(tasks),
            "keep_only_token_ids": None,
        },
    )
    _write(target / "3_Normalize/config.json", tokens)
    prompts = {"query": "query: ", "document": "passage: "}
    _write_settings(target, "MultiVectorEncoder", prompts=prompts, similarity_fn_name=similarity)


def _pylate(target: Path, *, model_type: str | None, **settings: Any) -> None:
    """A checkpoint of PyLate: markers and lengths stand among the settings."""

    def add_markers(tokenizer: Tokenizer) -> Tokenizer:
        tokenizer.add_tokens([AddedToken(mark, normalized=True) for mark in ("[Q] ", "[D] ")])
        return tokenizer

    vocabulary = write_tokenizer(target, "bert", add_markers, model_max_length=511)
    write_transformer(target, "bert", "Model", vocabulary)
    _write_modules(target, ("", f"{_OLD}Transformer"), ("1_Dense", "pylate.models.Dense.Dense"))
    _write(target / "sentence_bert_config.json", {"max_seq_length": 511, "do_lower_case": False})
    _projection(target)
    _write_settings(
        target,
        model_type,
        similarity_fn_name="MaxSim",
        query_prefix="[Q] ",
        document_prefix="[D] ",
        **settings,
    )


def _stanford(target: Path, *, metadata: Mapping[str, Any] | None) -> None:
    """A checkpoint of Stanford's ColBERT: one file of weights, projection included."""
    from safetensors.numpy import load_file

    def add_unused(tokenizer: Tokenizer) -> Tokenizer:
        content = json.loads(tokenizer.to_str())
        vocabulary = content["model"]["vocab"]
        for word in ("[unused0]", "[unused1]"):
            vocabulary[word] = len(vocabulary)
        return Tokenizer.from_str(json.dumps(content))

    vocabulary = write_tokenizer(target, "bert", add_unused)
    write_transformer(target, "bert", "Model", vocabulary)
    config = json.loads((target / "config.json").read_text(encoding="utf-8"))
    _write(target / "config.json", {**config, "architectures": ["HF_ColBERT"]})
    weights = load_file(target / "model.safetensors")
    weights = {f"bert.{name}": weight for name, weight in weights.items()}
    weights["linear.weight"] = _draw("linear.weight", (16, HIDDEN), 0.2)
    _write_weights(target / "model.safetensors", weights)
    if metadata is not None:
        _write(target / "artifact.metadata", metadata)


_METADATA = {
    "query_token_id": "[unused0]",
    "doc_token_id": "[unused1]",
    "query_token": "[Q]",
    "doc_token": "[D]",
    "query_maxlen": 24,
    "doc_maxlen": 120,
    "attend_to_mask_tokens": False,
    "mask_punctuation": True,
    "dim": 16,
    "similarity": "cosine",
}

MULTI_VECTOR: dict[str, Callable[[Path], object]] = {
    "colbert": lambda target: _colbert(
        target,
        skip=tuple(string.punctuation),
        document_length=200,
        query_expansion={"strategy": "fixed", "attend": False, "token": None, "length": 32},
    ),
    "colbert-attend": lambda target: _colbert(
        target,
        skip=(".", ",", "nowhere to be found"),
        tasks=("query", "document"),
        similarity="meanmaxsim",
        query_length=48,
        query_expansion={"strategy": "min", "attend": True, "token": "[MASK]", "length": 16},
    ),
    "colbert-plain": lambda target: _colbert(target, "modernbert", query_length=64),
    "colbert-left": lambda target: _colbert(target, "xlm-roberta", padding_side="left"),
    "pylate": lambda target: _pylate(
        target, model_type="ColBERT", query_length=32, document_length=180,
        attend_to_expansion_tokens=False, skiplist_words=list(".,!"),
    ),
    # Of PyLate's first releases, which named no kind.
    "pylate-1": lambda target: _pylate(
        target, model_type=None, query_length=20, document_length=64, do_query_expansion=False
    ),
    "stanford": lambda target: _stanford(target, metadata=_METADATA),
    "stanford-bare": lambda target: _stanford(target, metadata=None),
}  # fmt: skip


# --- three kinds of one pass


def _bge_m3(target: Path) -> None:
    """As BAAI/bge-m3: the dense chain, and the two other heads beside it as PyTorch files."""
    import torch

    vocabulary = write_tokenizer(target, "xlm-roberta")
    write_transformer(target, "xlm-roberta", "Model", vocabulary)
    _write_modules(
        target,
        ("", f"{_OLD}Transformer"),
        ("1_Pooling", f"{_OLD}Pooling"),
        ("2_Normalize", f"{_OLD}Normalize"),
    )
    _write(
        target / "1_Pooling/config.json",
        {
            "word_embedding_dimension": HIDDEN,
            "pooling_mode_cls_token": True,
            "pooling_mode_mean_tokens": False,
            "pooling_mode_max_tokens": False,
            "pooling_mode_mean_sqrt_len_tokens": False,
        },
    )
    _write(target / "sentence_bert_config.json", {"max_seq_length": 512, "do_lower_case": False})
    _write(
        target / "config_sentence_transformers.json",
        {
            "__version__": {
                "sentence_transformers": "2.2.2", "transformers": "4.33.0", "pytorch": "2.1.2",
            }
        },
    )  # fmt: skip
    for name, outputs in (("sparse_linear", 1), ("colbert_linear", HIDDEN)):
        weights = {
            "weight": torch.from_numpy(_draw(f"{name}.weight", (outputs, HIDDEN), 0.2)),
            "bias": torch.from_numpy(_draw(f"{name}.bias", (outputs,), 0.1)),
        }
        torch.save(weights, target / f"{name}.pt")


SEVERAL: dict[str, Callable[[Path], object]] = {"bge-m3": _bge_m3}

KINDS: dict[str, Callable[[Path], object]] = {**RERANKERS, **SPARSE, **MULTI_VECTOR, **SEVERAL}


def build(name: str, target: Path) -> None:
    """Write the model called `name` (a key of `KINDS`) into `target`."""
    target.mkdir(parents=True, exist_ok=True)
    KINDS[name](target)
