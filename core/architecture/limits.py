"""What config.json says about a transformer's tables, and what padding does to it.

Which architectures belong to which list was found by running each with random weights: how long a
text it takes, and whether padding beside a text changes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

from core.architecture.settings import positive_number
from core.errors import ModelFormatError

# These place the first token at position padding_idx + 1 (transformers'
# create_position_ids_from_input_ids); the number is the padding_idx where config.json has none.
_OFFSET_POSITIONS = {
    "camembert": 1,
    "data2vec-text": 1,
    "esm": 1,
    "ibert": 1,
    "layoutlmv3": 1,
    "lilt": 0,
    "longformer": 1,
    "luke": 1,
    "markuplm": 0,
    "mpnet": 1,
    "roberta": 1,
    "roberta-prelayernorm": 1,
    "xlm-roberta": 1,
    "xlm-roberta-xl": 1,
    "xmod": 1,
}

# Further ones with a row for every position, and no embedding beyond.
_POSITION_TABLES = (
    "albert",
    "bart",
    "bert",
    "bert-generation",
    "big_bird",
    "bigbird_pegasus",
    "biogpt",
    "blenderbot",
    "blenderbot-small",
    "clip_text_model",
    "convbert",
    "deberta",
    "deberta-v2",
    "distilbert",
    "electra",
    "ernie",
    "flaubert",
    "fnet",
    "gpt2",
    "gpt_bigcode",
    "gpt_neo",
    "layoutlm",
    "marian",
    "mbart",
    "megatron-bert",
    "mobilebert",
    "mra",
    "nystromformer",
    "openai-gpt",
    "opt",
    "pegasus",
    "rembert",
    "roc_bert",
    "roformer",
    "splinter",
    "squeezebert",
    "visual_bert",
    "xlm",
    "yoso",
)

# Positions are relative: the number of them is not a limit.
_RELATIVE = ("t5", "mt5", "umt5", "xlnet")

# Convolutions, Fourier transforms and landmarks take in tokens that the attention mask leaves out.
_MIXES_PADDING = (
    "big_bird",
    "bigbird_pegasus",
    "canine",
    "convbert",
    "cpmant",
    "fnet",
    "funnel",
    "mobilebert",
    "mra",
    "nystromformer",
    "perceiver",
    "reformer",
    "yoso",
)

#: Rotary positions that are others in a batch whose longest text has more tokens than some number.
_OF_THE_LONGEST = ("longrope", "su")
#: Those that grow with the longest text so far, beyond the positions that are stated.
_OF_ALL_BEFORE = "dynamic"

#: Numbers of layers by their names, and more of them than any model has: each is built before its
#: weights are looked for.
_LAYERS = (
    "num_hidden_layers",
    "num_layers",
    "n_layer",
    "n_layers",
    "encoder_layers",
    "decoder_layers",
    "num_decoder_layers",
)
_MOST_LAYERS = 1000
#: Rows of tables that are as wide as a token embedding, or wider, and narrower widths of those.
_TABLES = (
    "vocab_size",
    "type_vocab_size",
    "intermediate_size",
    "d_ff",
    "ffn_dim",
    "n_inner",
    "num_labels",
)
_WIDTHS = ("embedding_size", "input_embedding_size", "emb_dim", "word_embed_proj_dim")
_SMALL_TABLE = 1_000_000


def hidden_size(config: Mapping[str, Any]) -> int:
    """Width of a token embedding; 0 if the configuration does not say."""
    kind = config.get("model_type")
    if kind == "opt":  # may be projected at the end
        width = positive_number(config, "word_embed_proj_dim", "hidden_size")
    else:
        width = positive_number(config, "hidden_size", "d_model", "dim", "n_embd")
    if kind == "xlm" and width is None:
        width = positive_number(config, "emb_dim")
    if kind == "reformer" and width is not None:
        width *= 2  # both of its streams come out
    return width or 0


def vocabulary_size(config: Mapping[str, Any]) -> int | None:
    """How many token ids there are embeddings for; None if the configuration does not say."""
    return positive_number(config, "vocab_size", "n_words")


def position_limit(config: Mapping[str, Any], *, hard: bool = True) -> int | None:
    """How many tokens a text may have; None for any number, or if unknown.

    With `hard` only where more have no position at all; else also what a model with computed
    positions was made for.
    """
    positions = positive_number(
        config, "max_position_embeddings", "n_positions", "max_sequence_length"
    )
    kind = config.get("model_type")
    if positions is None or kind in _RELATIVE:
        return None
    if isinstance(kind, str) and kind in _OFFSET_POSITIONS:
        padding = config.get("pad_token_id")
        positions -= (padding if isinstance(padding, int) else _OFFSET_POSITIONS[kind]) + 1
    elif hard and kind not in _POSITION_TABLES:
        return None
    if not hard:
        return positions if positions > 0 else None
    stated = config.get("position_embedding_type", "absolute")
    computed = stated != "absolute" or config.get("position_biased_input") is False
    # The model's own code may compute positions whatever its architecture is called.
    return None if computed or "auto_map" in config or positions < 1 else positions


def mixes_padding(config: Mapping[str, Any]) -> bool:
    """Whether padding changes the embeddings of the texts beside it, whatever the mask says."""
    return config.get("model_type") in _MIXES_PADDING


def follows_longest(config: Mapping[str, Any]) -> bool:
    """Whether the embedding of a text depends on the longest one of its batch."""
    return any(kind in _OF_THE_LONGEST for kind in _rotary_kinds(config))


def follows_history(config: Mapping[str, Any]) -> bool:
    """Whether the embedding of a text with more tokens than positions are stated depends on the
    texts before it."""
    return _OF_ALL_BEFORE in _rotary_kinds(config)


def _rotary_kinds(config: Mapping[str, Any]) -> list[Any]:
    """How rotary positions are scaled, of all layers or of each kind of them."""
    settings = config.get("rope_parameters") or config.get("rope_scaling")
    if not isinstance(settings, Mapping):
        return []
    parts = [part for part in (settings, *settings.values()) if isinstance(part, Mapping)]
    return [part.get("rope_type", part.get("type")) for part in parts]


def check_sizes(where: str, config: Mapping[str, Any], file_name: str, stored: int) -> None:
    """No layers without end and no table that the weights cannot hold: a library makes them first.

    Args:
        where: Model and configuration file, for the message.
        file_name: Of the weights.
        stored: Their bytes.

    Raises:
        ModelFormatError: A size is too large for the weights, or the padding token has no row.
    """

    def refuse(name: str, value: int) -> NoReturn:
        raise ModelFormatError(
            f"{where}: {name} is {value}, too large for {file_name} ({stored:,} bytes). One of the "
            "two files is damaged or belongs to another model: download or copy both again."
        )

    outer = config.get("outer", config)
    parts = {f"{name}: ": part for name, part in outer.items() if name.endswith("_config")}
    for prefix, part in {"": config, **parts}.items():
        for name in _LAYERS if isinstance(part, Mapping) else ():
            layers = positive_number(part, name)
            if layers is not None and layers > _MOST_LAYERS:
                refuse(prefix + name, layers)
    widths = [positive_number(config, name) for name in _WIDTHS]
    width = min((w for w in (*widths, hidden_size(config)) if w), default=1)
    tables = _TABLES if position_limit(config) is None else (*_TABLES, "max_position_embeddings")
    for name in tables:
        rows = positive_number(config, name)
        # Four bits a number are the fewest that are stored.
        if rows is not None and rows * width > 2 * stored + _SMALL_TABLE:
            refuse(name, rows)
    vocabulary, padding = vocabulary_size(config), config.get("pad_token_id")
    if vocabulary is not None and isinstance(padding, int) and padding >= vocabulary:
        raise ModelFormatError(
            f"{where}: pad_token_id is {padding}, and there are {vocabulary} tokens, from 0."
        )
