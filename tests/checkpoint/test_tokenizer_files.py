"""What other files say of the tokenizer goes before tokenizer.json, as in the reference."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import core
from core.checkpoint.resolve import resolve
from core.tokenizer.reading import read_tokenizer
from core.tokenizer.tokenizer import Tokenizer
from tests.checkpoint.dialects import read, write
from tests.conftest import Exports, copy_model


@pytest.fixture
def tiny(tiny_model: Callable[[str], Path], tmp_path: Path) -> Path:
    """A copy of bert-mean, whose tokenizer.json lower-cases."""
    return Path(shutil.copytree(tiny_model("bert-mean"), tmp_path / "model"))


def tokenizer_of(folder: Path) -> Tokenizer:
    source = resolve(folder)
    return read_tokenizer(source, source.architecture)


def ids(folder: Path, text: str) -> list[int]:
    found: list[int] = tokenizer_of(folder).encode([text]).ids.tolist()
    return found


def set_normalizer(folder: Path, **settings: object) -> None:
    content = read(folder, "tokenizer.json")
    config = read(folder, "tokenizer_config.json")
    write(folder, "tokenizer_config.json", {**config, "tokenizer_class": "BertTokenizerFast"})
    content["normalizer"] = {
        "type": "BertNormalizer",
        "clean_text": True,
        "handle_chinese_chars": True,
        "strip_accents": None,
        "lowercase": False,
        **settings,
    }
    write(folder, "tokenizer.json", content)


def test_lower_casing_of_the_model_leaves_special_tokens_alone(tiny: Path) -> None:
    set_normalizer(tiny)
    config = read(tiny, "tokenizer_config.json")
    write(tiny, "tokenizer_config.json", {**config, "do_lower_case": False})
    assert ids(tiny, "Sea Shells") != ids(tiny, "sea shells")
    settings = read(tiny, "sentence_bert_config.json")
    write(tiny, "sentence_bert_config.json", {**settings, "do_lower_case": True})
    assert ids(tiny, "Sea Shells") == ids(tiny, "sea shells")
    separator = tokenizer_of(tiny).backend.token_to_id("[SEP]")
    assert separator is not None
    assert ids(tiny, "sea [SEP] shells").count(separator) == 2
    # The final sigma of Greek is decided by its word in Python, and by nothing here.
    assert ids(tiny, "ΣΑΣ") == ids(tiny, "σασ")


@pytest.mark.parametrize(
    ("key", "value", "first", "second"),
    [
        ("do_lower_case", True, "Sea Shells", "sea shells"),
        ("strip_accents", True, "caf\u00e9", "cafe"),
        ("tokenize_chinese_chars", False, "\u673a\u5668", None),
    ],
)
def test_tokenizer_config_goes_before_the_normalizer(
    tiny: Path, key: str, value: bool, first: str, second: str | None
) -> None:
    set_normalizer(tiny)
    config = read(tiny, "tokenizer_config.json")
    config = {k: v for k, v in config.items() if k not in ("do_lower_case", "strip_accents")}
    write(tiny, "tokenizer_config.json", config)
    before = ids(tiny, first)
    write(tiny, "tokenizer_config.json", {**config, key: value})
    assert ids(tiny, first) != before
    if second is not None:
        assert ids(tiny, first) == ids(tiny, second)
    # A class without such settings takes tokenizer.json as it is.
    plain = {**config, key: value, "tokenizer_class": "PreTrainedTokenizerFast"}
    write(tiny, "tokenizer_config.json", plain)
    assert ids(tiny, first) == before


@pytest.mark.parametrize("vocabulary", ["tokenizer.json", "vocab.txt"])
@pytest.mark.parametrize("key", ["do_lower_case", "strip_accents", "tokenize_chinese_chars"])
def test_a_switch_of_bert_s_that_is_neither_on_nor_off_is_named(
    tiny: Path, key: str, vocabulary: str
) -> None:
    if vocabulary == "vocab.txt":
        older_vocabulary(tiny, "BertTokenizer")
    settings(tiny, tokenizer_class="BertTokenizer", **{key: "false"})
    with pytest.raises(core.ModelFormatError, match=rf"settings: {key} is 'false'"):
        tokenizer_of(tiny)
    settings(tiny, **{key: None})  # off, as in Python
    unstated = ids(tiny, "A caf\u00e9 \u673a\u5668")
    settings(tiny, **{key: False})
    assert (ids(tiny, "A caf\u00e9 \u673a\u5668") == unstated) is (key != "strip_accents")


def test_the_side_of_tokenizer_json_is_cut_where_nothing_else_names_one(tiny: Path) -> None:
    write(tiny, "sentence_bert_config.json", {"max_seq_length": 4})
    first = ids(tiny, "sea shells sea fox lazy dog")
    content = read(tiny, "tokenizer.json")
    rules = {"direction": "Left", "max_length": 9, "strategy": "LongestFirst", "stride": 0}
    write(tiny, "tokenizer.json", {**content, "truncation": rules})
    assert first == ids(tiny, "sea shells")
    assert ids(tiny, "sea shells sea fox lazy dog") == ids(tiny, "lazy dog")
    config = read(tiny, "tokenizer_config.json")
    write(tiny, "tokenizer_config.json", {**config, "truncation_side": "right"})
    assert ids(tiny, "sea shells sea fox lazy dog") == first


@pytest.mark.parametrize("place", ["tokenizer_config.json", "sentence_bert_config.json"])
def test_names_of_special_tokens_are_text_where_the_settings_say_so(tiny: Path, place: str) -> None:
    text, separator = "fox [SEP] dog", tokenizer_of(tiny).backend.token_to_id("[SEP]")
    assert separator is not None
    assert ids(tiny, text).count(separator) == 2
    settings: dict[str, Any] = {"split_special_tokens": True}
    if place == "sentence_bert_config.json":
        settings = {"tokenizer_args": settings}
    write(tiny, place, {**read(tiny, place), **settings})
    tokenizer = tokenizer_of(tiny)
    expected = ids(tiny, text)
    assert expected.count(separator) == 1
    same = tokenizer, pickle.loads(pickle.dumps(tokenizer)), tokenizer.with_max_length(64)
    for one in same:
        assert one.encode([text]).ids.tolist() == expected
        assert one.encode([text, text]).ids.tolist() == 2 * expected
        assert one.count([text]).tolist() == [len(expected)]
    pair = tokenizer.encode([("fox", "[SEP]")]).ids.tolist()
    assert pair.count(separator) == 2


def test_the_length_given_to_the_tokenizer_comes_first(tiny: Path) -> None:
    write(
        tiny,
        "sentence_bert_config.json",
        {"max_seq_length": 128, "tokenizer_args": {"model_max_length": 9}},
    )
    assert resolve(tiny).architecture.max_seq_length == 9
    assert len(ids(tiny, "sea shells " * 50)) == 9


@pytest.mark.parametrize("key", ["padding_side", "truncation_side"])
def test_a_side_that_is_none_is_named(tiny: Path, key: str) -> None:
    config = read(tiny, "tokenizer_config.json")
    write(tiny, "tokenizer_config.json", {**config, key: "middle"})
    with pytest.raises(core.ModelFormatError, match=f"{key} is 'middle'"):
        tokenizer_of(tiny)


@pytest.mark.parametrize("dropout", [0.5, 1.0])
def test_a_text_has_the_same_tokens_in_every_call(
    dropout: float,
    tiny_model: Callable[[str], Path],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    folder = copy_model(tiny_model("roberta"), tmp_path / "roberta")
    text = "the quick brown fox jumps over the lazy dog"
    expected = ids(folder, text)
    content = read(folder, "tokenizer.json")
    content["model"]["dropout"] = dropout
    write(folder, "tokenizer.json", content)
    assert ids(folder, text) == expected
    assert f"leaves out merges at random (dropout {dropout:g})" in caplog.text


# Tokens beside tokenizer.json, and vocabularies: the reference is transformers' own tokenizer

TEXTS = ["sea shells <ent> Caf\u00e9 [SEP] 123", "hello <ENT>world <ent>s", "", " a  <x>c [X] end "]


def numbers(folder: Path) -> list[list[int]]:
    tokenizer = tokenizer_of(folder)
    return [tokenizer.encode([text]).ids.tolist() for text in TEXTS]


def reference(folder: Path, **arguments: Any) -> list[list[int]]:
    from transformers import AutoTokenizer

    found: list[list[int]] = AutoTokenizer.from_pretrained(folder, **arguments)(TEXTS)["input_ids"]
    return found


def settings(folder: Path, **more: Any) -> None:
    path = folder / "tokenizer_config.json"
    stored = read(folder, "tokenizer_config.json") if path.exists() else {}
    write(folder, "tokenizer_config.json", {**stored, **more})


def token(content: str, **flags: bool) -> dict[str, Any]:
    plain = dict.fromkeys(("lstrip", "rstrip", "single_word", "special"), False)
    return {"content": content, "normalized": True, **plain, **flags}


def to_vocabulary(folder: Path, **more: Any) -> int:
    """vocab.txt in the place of tokenizer.json; returns how many tokens it has."""
    vocabulary = read(folder, "tokenizer.json")["model"]["vocab"]
    lines = sorted(vocabulary, key=vocabulary.__getitem__)
    (folder / "vocab.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "tokenizer.json").unlink()
    settings(folder, **more)
    return len(lines)


ADDED: dict[str, dict[str, Any]] = {
    "added_tokens_decoder": {"added_tokens_decoder": {"293": token("<ent>", lstrip=True)}},
    "special": {"added_tokens_decoder": {"293": token("<ent>", special=True, normalized=False)}},
    "additional_special_tokens": {"additional_special_tokens": ["<ent>", "[X]"]},
    "extra_special_tokens": {"extra_special_tokens": ["<ent>", "<x>"]},
    "extra_by_name": {"extra_special_tokens": {"entity": "<ent>"}},
    "role_of_its_own": {"ent_token": "<ent>", "mask_token": "<x>"},
}


@pytest.mark.parametrize("vocabulary", ["tokenizer.json", "vocab.txt"])
@pytest.mark.parametrize("case", ADDED)
def test_tokens_of_the_configuration_are_added(tiny: Path, case: str, vocabulary: str) -> None:
    if vocabulary == "vocab.txt":
        to_vocabulary(tiny, tokenizer_class="BertTokenizer")
    before = numbers(tiny)
    settings(tiny, **ADDED[case])
    assert numbers(tiny) == reference(tiny)
    assert numbers(tiny) != before


@pytest.mark.parametrize("vocabulary", ["tokenizer.json", "vocab.txt"])
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("added_tokens.json", {"<ent>": 293, "<x>": 294}),
        ("special_tokens_map.json", {"additional_special_tokens": ["<ent>"]}),
        ("special_tokens_map.json", {"cls_token": "[MASK]", "sep_token": token("[SEP]")}),
    ],
)
def test_tokens_of_older_files_are_added(
    tiny: Path, name: str, content: dict[str, Any], vocabulary: str
) -> None:
    if vocabulary == "vocab.txt":
        to_vocabulary(tiny, tokenizer_class="BertTokenizer")
    write(tiny, name, content)
    assert numbers(tiny) == reference(tiny)


def test_a_number_that_is_not_the_next_one_is_reported(
    tiny: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tiny, "added_tokens.json", {"<ent>": 9_000})
    assert numbers(tiny) == reference(tiny)
    assert "'<ent>' 9000" in caplog.text


def test_a_saved_copy_keeps_added_tokens(tiny: Path, tmp_path: Path) -> None:
    to_vocabulary(tiny, tokenizer_class="BertTokenizer")
    write(tiny, "added_tokens.json", {"<ent>": 293})
    expected = numbers(tiny)
    with core.load(tiny, backend="torch", device="cpu") as model:
        model.save(tmp_path / "copy")
    assert numbers(tmp_path / "copy") == expected == reference(tmp_path / "copy")
    for name in ("vocab.txt", "added_tokens.json", "tokenizer_config.json"):
        (tmp_path / "copy" / name).unlink()
    assert numbers(tmp_path / "copy") == expected


@pytest.mark.parametrize(
    "given",
    [
        {"added_tokens_decoder": ["<ent>"]},
        {"added_tokens_decoder": {"x": token("<ent>")}},
        {"added_tokens_decoder": {"293": {"content": 5}}},
        {"added_tokens_decoder": {"293": {"content": "<ent>", "lstrip": "no"}}},
        {"extra_special_tokens": 5},
        {"extra_special_tokens": [5]},
        {"mask_token": 5},
    ],
)
def test_an_entry_that_is_not_a_token_is_named(tiny: Path, given: dict[str, Any]) -> None:
    settings(tiny, **given)
    with pytest.raises(core.ModelFormatError, match="token"):
        tokenizer_of(tiny)


@pytest.mark.parametrize("key", ["tokenizer_args", "processor_kwargs"])
@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("qwen3", {"add_eos_token": True, "eos_token": "<|im_start|>"}),
        ("qwen3", {"add_bos_token": True, "bos_token": "<|pad|>"}),
        ("qwen3", {"add_bos_token": False}),
        ("bert-mean", {"additional_special_tokens": ["<ent>"]}),
        ("bert-mean", {"mask_token": "<x>"}),
    ],
)
def test_settings_the_author_stored_are_applied(
    tiny_model: Callable[[str], Path], tmp_path: Path, name: str, given: dict[str, Any], key: str
) -> None:
    folder = Path(shutil.copytree(tiny_model(name), tmp_path / "model"))
    before = numbers(folder)
    stored = read(folder, "sentence_bert_config.json")
    write(folder, "sentence_bert_config.json", {**stored, key: given})
    assert numbers(folder) == reference(folder, **given)
    assert numbers(folder) != before


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ({"tokenizer_name_or_path": "/elsewhere"}, "takes its tokenizer from '/elsewhere'"),
        ({"processing_kwargs": {"text": {"max_length": 5}}}, "processing_kwargs.*'max_length': 5"),
    ],
)
def test_settings_that_change_tokens_and_are_not_applied_are_refused(
    tiny: Path, setting: dict[str, Any], says: str
) -> None:
    stored = read(tiny, "sentence_bert_config.json")
    write(tiny, "sentence_bert_config.json", {**stored, "processing_kwargs": {}})
    tokenizer_of(tiny)
    write(tiny, "sentence_bert_config.json", {**stored, **setting})
    with pytest.raises(core.UnsupportedOperation, match=says):
        tokenizer_of(tiny)


def test_bert_keeps_its_own_ends(tiny: Path) -> None:
    settings(tiny, tokenizer_class="BertTokenizer", eos_token="[SEP]")
    stored = read(tiny, "sentence_bert_config.json")
    given = {"add_eos_token": True}
    write(tiny, "sentence_bert_config.json", {**stored, "tokenizer_args": given})
    assert numbers(tiny) == reference(tiny, **given)


def test_a_stored_setting_that_is_not_read_is_reported(
    tiny: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stored = read(tiny, "sentence_bert_config.json")
    arguments = {"use_fast": True, "byte_order": 5}
    write(tiny, "sentence_bert_config.json", {**stored, "tokenizer_args": arguments})
    tokenizer_of(tiny)
    assert "'byte_order'" in caplog.text
    assert "use_fast" not in caplog.text


def test_a_space_in_front_is_the_class_s_setting(
    tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny_model("roberta"), tmp_path / "model"))
    before = numbers(folder)
    settings(folder, tokenizer_class="RobertaTokenizer", add_prefix_space=True)
    assert numbers(folder) == reference(folder) != before


# A vocabulary belongs to a class


@pytest.mark.parametrize("file", ["tokenizer_config.json", "config.json"])
@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("BertJapaneseTokenizer", "BertJapaneseTokenizer.*in Python"),
        ("PhobertTokenizer", "PhobertTokenizer.*in Python"),
        ("KoBertTokenizer", "KoBertTokenizer, which transformers does not have"),
    ],
)
def test_a_vocabulary_of_another_class_is_refused(
    tiny: Path, file: str, kind: str, says: str
) -> None:
    to_vocabulary(tiny)
    (tiny / "tokenizer_config.json").unlink()
    stored = read(tiny, file) if (tiny / file).exists() else {}
    write(tiny, file, {**stored, "tokenizer_class": kind})
    with pytest.raises(core.UnsupportedOperation, match=says):
        tokenizer_of(tiny)


def test_a_tokenizer_that_is_code_of_the_model_is_refused(tiny: Path) -> None:
    to_vocabulary(tiny, auto_map={"AutoTokenizer": ["tokenization_kobert.KoBertTokenizer", None]})
    with pytest.raises(core.UnsupportedOperation, match="code that comes with the model"):
        tokenizer_of(tiny)


@pytest.mark.parametrize("kind", [None, "BertTokenizer", "BertTokenizerFast", "ElectraTokenizer"])
def test_a_vocabulary_of_bert_s_own_class_is_read(tiny: Path, kind: str | None) -> None:
    expected = numbers(tiny)
    to_vocabulary(tiny)
    (tiny / "tokenizer_config.json").unlink()
    write(tiny, "tokenizer_config.json", {"tokenizer_class": kind} if kind else {})
    assert numbers(tiny) == expected == reference(tiny)


def test_a_class_that_its_files_do_not_fit_is_refused(tiny: Path) -> None:
    to_vocabulary(tiny, tokenizer_class="RobertaTokenizer")
    with pytest.raises(core.ModelFormatError, match="class and files may not belong together"):
        tokenizer_of(tiny)


def test_a_vocabulary_without_bert_s_tokens_is_refused(tiny: Path) -> None:
    to_vocabulary(tiny, tokenizer_class="BertTokenizer")
    lines = (tiny / "vocab.txt").read_text(encoding="utf-8").replace("[SEP]", "[END]")
    (tiny / "vocab.txt").write_text(lines, encoding="utf-8")
    with pytest.raises(core.ModelFormatError, match=r"lacks '\[SEP\]'"):
        tokenizer_of(tiny)


# A model without a vocabulary: every text of a length would embed alike


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "not UTF-8": lambda data: data + "café".encode("latin-1"),
    "binary": lambda data: bytes(range(256)),
    "another file": lambda data: b"<html><body>404</body></html>",
    "one byte": lambda data: data[:1],
    "nothing": lambda data: b"",
}


#: Model, class, file and damage. Fewer merges are another tokenizer, and no error.
DAMAGED = [
    *(("bert-mean", "BertTokenizer", "vocab.txt", damage) for damage in DAMAGE),
    *(("bert-mean", "FunnelTokenizer", "vocab.txt", damage) for damage in DAMAGE),
    *(("mpnet", "MPNetTokenizer", "vocab.txt", damage) for damage in DAMAGE),
    *(("roberta", "RobertaTokenizer", "vocab.json", damage) for damage in DAMAGE),
    *(("roberta", "RobertaTokenizer", "merges.txt", what) for what in ("not UTF-8", "binary")),
]


@pytest.mark.parametrize(("name", "kind", "file", "damage"), DAMAGED)
def test_a_damaged_vocabulary_is_named(
    tiny_model: Callable[[str], Path], tmp_path: Path, name: str, kind: str, file: str, damage: str
) -> None:
    folder = older_vocabulary(Path(shutil.copytree(tiny_model(name), tmp_path / "older")), kind)
    with core.load(folder, backend="torch") as model:
        assert len(set(model.encode(["a fox", "шелл"])[:, 0])) == 2
    path = folder / file
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    with pytest.raises(core.ModelFormatError, match=rf"older.*{file}.*Restore or download"):
        core.load(folder, backend="torch")


def test_a_vocabulary_that_was_cut_off_is_reported(
    tiny: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = older_vocabulary(tiny, "BertTokenizer") / "vocab.txt"
    tokenizer_of(tiny)
    assert not caplog.records
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 4])
    tokenizer_of(tiny)
    assert "vocab.txt holds" in caplog.text
    assert "cut off" in caplog.text


def older_vocabulary(folder: Path, kind: str) -> Path:
    """The model with its vocabulary in the files that the class `kind` had earlier."""
    model = read(folder, "tokenizer.json")["model"]
    (folder / "tokenizer.json").unlink()
    if "merges" in model:
        write(folder, "vocab.json", model["vocab"])
        merges = [m if isinstance(m, str) else " ".join(m) for m in model["merges"]]
        (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]), encoding="utf-8")
    else:
        words = sorted(model["vocab"], key=model["vocab"].__getitem__)
        (folder / "vocab.txt").write_text("\n".join(words), encoding="utf-8")
    settings = read(folder, "tokenizer_config.json")
    write(folder, "tokenizer_config.json", {**settings, "tokenizer_class": kind})
    return folder


@pytest.mark.parametrize("backend", ["torch", "onnx", "openvino"])
def test_an_unknown_token_that_the_vocabulary_lacks_is_named(
    exports: Exports, tmp_path: Path, backend: str
) -> None:
    folder = copy_model(exports("bert-mean", backend), tmp_path / "model")
    content = read(folder, "tokenizer.json")
    content["model"]["unk_token"] = "<unknown>"
    write(folder, "tokenizer.json", content)
    with core.load(folder, backend=backend, device="cpu") as model:
        assert model.encode("the fox").shape == (32,)
        for texts in ("\U0001f600", ["the fox", "\U0001f600"], ["the fox"] * 40 + ["\U0001f600"]):
            with pytest.raises(core.ModelFormatError, match=r"tokenizer .*Missing .* vocabulary"):
                model.encode(texts)


@pytest.mark.parametrize("backend", ["torch", "onnx", "openvino"])
def test_a_model_without_a_vocabulary_is_refused(tiny: Path, backend: str) -> None:
    (tiny / "tokenizer.json").unlink()
    with pytest.raises(core.ModelFormatError, match=r"no tokenizer\.json and no older vocabulary"):
        core.load(tiny, backend=backend, device="cpu")
    (tiny / "tokenizer_config.json").unlink()
    with pytest.raises(core.ModelFormatError, match=r"no tokenizer\.json and no older vocabulary"):
        core.load(tiny, backend=backend, device="cpu")


def test_a_vocabulary_of_special_tokens_alone_is_refused(tiny: Path) -> None:
    content = read(tiny, "tokenizer.json")
    special = {token["content"]: token["id"] for token in content["added_tokens"]}
    content["model"]["vocab"] = special
    write(tiny, "tokenizer.json", content)
    with pytest.raises(core.ModelFormatError, match="empty but for special tokens"):
        tokenizer_of(tiny)
    (tiny / "tokenizer.json").unlink()
    (tiny / "vocab.txt").write_text("\n".join(special), encoding="utf-8")
    with pytest.raises(core.ModelFormatError, match="empty but for special tokens"):
        tokenizer_of(tiny)


# Settings never name files

PLACES = ("vocab", "vocab_file", "merges_file", "tokenizer_file", "name_or_path", "spm_file")


@pytest.mark.parametrize("file", ["tokenizer_config.json", "special_tokens_map.json"])
@pytest.mark.parametrize("model", ["bert-mean", "mpnet"])
def test_settings_cannot_name_a_file(
    tiny_model: Callable[[str], Path], tmp_path: Path, file: str, model: str
) -> None:
    folder = Path(shutil.copytree(tiny_model(model), tmp_path / "model"))
    kind = "BertTokenizer" if model == "bert-mean" else "MPNetTokenizer"
    to_vocabulary(folder, tokenizer_class=kind)
    expected = numbers(folder)
    outside = tmp_path / "private.txt"
    outside.write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n<s>\n</s>\n<pad>\nsecret\n")
    stored = read(folder, file) if (folder / file).exists() else {}
    places = dict.fromkeys(PLACES, str(outside))
    write(folder, file, {**stored, **places, "init_inputs": [str(outside)]})
    assert numbers(folder) == expected
    with core.load(folder, backend="torch", device="cpu") as loaded:
        loaded.save(tmp_path / "copy")
    written = json.loads((tmp_path / "copy" / "tokenizer.json").read_text(encoding="utf-8"))
    assert "secret" not in written["model"]["vocab"]


def test_the_drop_in_s_tokenizer_cannot_be_led_to_a_file(tiny: Path, tmp_path: Path) -> None:
    from core.sentence_transformers import SentenceTransformer

    to_vocabulary(tiny, tokenizer_class="BertTokenizer")
    outside = tmp_path / "private.txt"
    outside.write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nsecret\n")
    settings(tiny, vocab=str(outside))
    model = SentenceTransformer(str(tiny), device="cpu")
    assert "secret" not in model.tokenizer.get_vocab()
    assert model.tokenizer(TEXTS)["input_ids"] == numbers(tiny)


@pytest.mark.parametrize(
    ("name", "kind", "stated", "agreeing"),
    [
        ("bert-mean", "BertTokenizer", {"cls_token": "[MASK]"}, {"cls_token": "[CLS]"}),
        ("mpnet", "MPNetTokenizer", {"sep_token": "<mask>"}, {"sep_token": "</s>"}),
        ("deberta-v2", "DebertaV2Tokenizer", {"do_lower_case": True}, {"do_lower_case": False}),
        ("albert", "AlbertTokenizer", {"do_lower_case": True}, {"do_lower_case": False}),
        ("albert", "AlbertTokenizer", {"keep_accents": False}, {"keep_accents": True}),
        (
            "xlm-roberta",
            "XLMRobertaTokenizer",
            {"add_prefix_space": False},
            {"cls_token": "<mask>"},
        ),
    ],
)
def test_a_setting_that_tokenizer_json_contradicts_is_reported(
    tiny_model: Callable[[str], Path],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    name: str,
    kind: str,
    stated: dict[str, Any],
    agreeing: dict[str, Any],
) -> None:
    """transformers 5 builds these classes anew by their settings; core keeps tokenizer.json."""
    folder = copy_model(tiny_model(name), tmp_path / name)
    before = ids(folder, "A text")
    settings(folder, tokenizer_class=kind, **agreeing)
    assert ids(folder, "A text") == before
    assert caplog.text == ""
    settings(folder, tokenizer_class=kind, **stated)
    assert ids(folder, "A text") == before
    ((key, value),) = stated.items()
    assert f"tokenizer_config.json has {key}={value!r}" in caplog.text
    caplog.clear()
    settings(folder, tokenizer_class="PreTrainedTokenizerFast")  # which keeps tokenizer.json
    assert ids(folder, "A text") == before
    assert caplog.text == ""


def unlike_transformers(folder: Path, text: str) -> bool:
    from transformers import AutoTokenizer

    found: list[int] = AutoTokenizer.from_pretrained(folder)(text)["input_ids"]
    return found != ids(folder, text)


@pytest.mark.parametrize("kind", ["BertTokenizer", None])
@pytest.mark.parametrize(
    "part",
    [
        {"normalizer": {"lowercase": False}},
        {"normalizer": {"handle_chinese_chars": False}},
        {"normalizer": {"strip_accents": False}},
        {"normalizer": None},
        {"normalizer": {"type": "Lowercase"}},
        {"post_processor": None},
    ],
)
def test_what_a_class_of_transformers_does_unasked_is_reported(
    tiny: Path, caplog: pytest.LogCaptureFixture, kind: str | None, part: dict[str, Any]
) -> None:
    """No setting is stated, and the class builds the tokenizer by its defaults."""
    text = "A caf\u00e9 \u673a\u5668"
    config = read(tiny, "tokenizer_config.json")
    write(tiny, "tokenizer_config.json", {**config, "tokenizer_class": kind})
    assert not unlike_transformers(tiny, text)
    assert caplog.text == ""
    content = read(tiny, "tokenizer.json")
    ((name, value),) = part.items()
    if value is not None and value.get("type") is None:
        value = {**content[name], **value}
    write(tiny, "tokenizer.json", {**content, name: value})
    assert unlike_transformers(tiny, text)
    stated = "puts no tokens" if name == "post_processor" else "tokenizer.json's normalizer"
    assert stated in caplog.text
    caplog.clear()
    settings(tiny, tokenizer_class="PreTrainedTokenizerFast")
    assert not unlike_transformers(tiny, text)
    assert caplog.text == ""


_LOWERCASE = {"normalizer": {"type": "Lowercase"}}
_WORDS_ONLY = {"pre_tokenizer": {"type": "Whitespace"}}
_NO_FIRST_SPACE = {
    "pre_tokenizer": {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "never"}
}


@pytest.mark.parametrize(
    ("name", "kind", "part"),
    [
        ("bert-mean", "BertTokenizer", _WORDS_ONLY),
        ("mpnet", None, _WORDS_ONLY),
        ("roberta", "RobertaTokenizer", _LOWERCASE),
        ("roberta", None, _WORDS_ONLY),
        ("roberta", "GPT2Tokenizer", _LOWERCASE),
        ("xlm-roberta", "XLMRobertaTokenizer", _LOWERCASE),
        ("xlm-roberta", None, _NO_FIRST_SPACE),
        ("t5", "T5Tokenizer", _LOWERCASE),
        ("qwen3", "Qwen2Tokenizer", _LOWERCASE),
    ],
)
def test_words_that_a_class_of_transformers_cuts_otherwise_are_reported(
    tiny_model: Callable[[str], Path],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    name: str,
    kind: str | None,
    part: dict[str, Any],
) -> None:
    text = "Sea... Shells"
    folder = copy_model(tiny_model(name), tmp_path / "model")
    config = read(folder, "tokenizer_config.json")
    write(folder, "tokenizer_config.json", {**config, "tokenizer_class": kind})
    content = read(folder, "tokenizer.json")
    if name != "qwen3":  # whose digits are made otherwise here than in published models
        assert not unlike_transformers(folder, text)
        assert caplog.text == ""
    write(folder, "tokenizer.json", {**content, **part})
    assert unlike_transformers(folder, text)
    assert "tokenizer.json cuts" in caplog.text
    caplog.clear()
    settings(folder, tokenizer_class="PreTrainedTokenizerFast")
    assert not unlike_transformers(folder, text)
    assert caplog.text == ""


def test_what_tokenizer_json_pads_with_is_a_special_token(tiny: Path) -> None:
    rules = {
        "strategy": "BatchLongest",
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": 5,
        "pad_type_id": 0,
        "pad_token": "ells",
    }
    write(tiny, "tokenizer.json", {**read(tiny, "tokenizer.json"), "padding": rules})
    config = read(tiny, "tokenizer_config.json")
    assert not unlike_transformers(tiny, "sea shells")
    write(tiny, "tokenizer_config.json", {k: v for k, v in config.items() if k != "pad_token"})
    assert not unlike_transformers(tiny, "sea shells")


def test_no_space_in_front_is_what_the_class_does_unasked(
    tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = copy_model(tiny_model("roberta"), tmp_path / "model")
    content = read(folder, "tokenizer.json")
    splitter = {**content["pre_tokenizer"], "add_prefix_space": True}
    write(folder, "tokenizer.json", {**content, "pre_tokenizer": splitter})
    settings(folder, tokenizer_class="RobertaTokenizer")
    assert not unlike_transformers(folder, "sea shells")


def test_what_transformers_saves_is_the_same_in_both(
    tiny: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The way out that the report names."""
    from transformers import AutoTokenizer

    config = read(tiny, "tokenizer_config.json")
    write(tiny, "tokenizer_config.json", {**config, "tokenizer_class": "BertTokenizer"})
    content = read(tiny, "tokenizer.json")
    write(tiny, "tokenizer.json", {**content, "normalizer": None, "post_processor": None})
    AutoTokenizer.from_pretrained(tiny).save_pretrained(tiny)
    assert not unlike_transformers(tiny, "A caf\u00e9 \u673a\u5668")
    assert caplog.text == ""
