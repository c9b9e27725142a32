"""Rerankers' scores: those of transformers, whatever the layout and the backend."""

from __future__ import annotations

import json
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import core
from tests.rerankers.conftest import BACKENDS, PAIRS

Make = Callable[[str], Path]


def logits(path: Path, pairs: list[tuple[str, str]]) -> NDArray[np.float32]:
    """What transformers computes for each pair alone: [pairs, labels]."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(path)
    model = AutoModelForSequenceClassification.from_pretrained(path).eval()
    rows = []
    with torch.inference_mode():
        for pair in pairs:
            inputs = tokenizer([pair], truncation="longest_first", return_tensors="pt")
            rows.append(model(**inputs).logits[0].numpy())
    return np.stack(rows)


def yes_less_no(path: Path, pairs: list[tuple[str, str]]) -> NDArray[np.float32]:
    """The difference of two logits after a pair's last token: [pairs, 1]."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(path)
    model = AutoModelForCausalLM.from_pretrained(path).eval()
    yes, no = tokenizer.convert_tokens_to_ids(["yes", "no"])
    rows = []
    with torch.inference_mode():
        for pair in pairs:
            inputs = tokenizer([pair], truncation="longest_first", return_tensors="pt")
            last = model(**inputs).logits[0, -1]
            rows.append([float(last[yes] - last[no])])
    return np.array(rows, dtype=np.float32)


def sigmoid(x: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(1 / (1 + np.exp(-x)), dtype=np.float32)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "name",
    [
        "reranker-bert",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("reranker-distilbert", "reranker-modernbert", "reranker-no-types")
        ),
        pytest.param("reranker-qwen3-classifier", marks=pytest.mark.slow),
    ],
)
def test_scores_are_those_of_transformers(reranker: Make, name: str, backend: str) -> None:
    path = reranker(name)
    with core.load_reranker(path, backend=backend, export=False) as model:
        scores = model.predict(PAIRS)
        raw = model.predict(PAIRS, activation_fn="Identity")
    expected = logits(path, PAIRS)[:, 0]
    assert scores.dtype == np.float32
    np.testing.assert_allclose(raw, expected, atol=1e-4)
    np.testing.assert_allclose(scores, sigmoid(expected), atol=1e-4)


@pytest.mark.parametrize(
    ("changed", "name", "value"),
    [
        ("tokenizer_config.json", "tokenizer_class", "DistilBertTokenizer"),
        ("tokenizer_config.json", "model_input_names", ["input_ids", "attention_mask"]),
        ("config.json", "type_vocab_size", None),
    ],
)
def test_token_types_are_those_that_transformers_gives(
    writable: Make, changed: str, name: str, value: Any
) -> None:
    """By the tokenizer's class; where config.json does not say how many, a BERT has two."""
    path = writable("reranker-bert")
    content = json.loads((path / changed).read_text())
    content.pop(name, None)
    (path / changed).write_text(json.dumps({**content, **({name: value} if value else {})}))
    with core.load_reranker(path, backend="torch") as model:
        raw = model.predict(PAIRS, activation_fn="Identity")
    np.testing.assert_allclose(raw, logits(path, PAIRS)[:, 0], atol=1e-4)


def test_token_types_that_depend_on_the_version_of_transformers_are_told(
    writable: Make, caplog: pytest.LogCaptureFixture
) -> None:
    path = writable("reranker-bert")
    settings = path / "tokenizer_config.json"
    content = json.loads(settings.read_text())
    content["tokenizer_class"] = "PreTrainedTokenizerFast"
    settings.write_text(json.dumps(content))
    with core.load_reranker(path, backend="torch") as model:
        assert model.tokenize(PAIRS)["token_type_ids"].any()
    assert "transformers 5 gives them none for the class PreTrainedTokenizerFast" in caplog.text
    caplog.clear()
    names = ["input_ids", "token_type_ids", "attention_mask"]
    settings.write_text(json.dumps({**content, "model_input_names": names}))
    with core.load_reranker(path, backend="torch") as model:
        assert model.tokenize(PAIRS)["token_type_ids"].any()
    assert not caplog.records


@pytest.mark.parametrize("backend", BACKENDS)
def test_several_labels_have_a_score_each(reranker: Make, backend: str) -> None:
    path = reranker("reranker-labels")
    expected = logits(path, PAIRS)
    with core.load_reranker(path, backend=backend, export=False) as model:
        assert model.labels == ("contradiction", "entailment", "neutral")
        np.testing.assert_allclose(model.predict(PAIRS), expected, atol=1e-4)
        shares = model.predict(PAIRS, apply_softmax=True)
    np.testing.assert_allclose(shares.sum(axis=1), 1, atol=1e-6)
    wanted = torch.from_numpy(expected).softmax(dim=1).numpy()
    np.testing.assert_allclose(shares, wanted, atol=1e-4)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["reranker-qwen3", "reranker-qwen3-bare"])
def test_a_language_model_scores_by_two_logits(reranker: Make, name: str, backend: str) -> None:
    path = reranker(name)
    with core.load_reranker(path, backend=backend, export=False) as model:
        scores = model.predict(PAIRS, activation_fn="Identity")
    np.testing.assert_allclose(scores, yes_less_no(path, PAIRS)[:, 0], atol=1e-4)


def test_a_chat_template_makes_one_text_of_a_pair(reranker: Make) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    path = reranker("reranker-qwen3-chat")
    tokenizer = AutoTokenizer.from_pretrained(path)
    language = AutoModelForCausalLM.from_pretrained(path).eval()
    yes, no = tokenizer.convert_tokens_to_ids(["yes", "no"])
    end = tokenizer("\n<|im_start|>assistant")["input_ids"]
    expected = []
    for query, document in PAIRS:
        messages = [{"role": "query", "content": query}, {"role": "document", "content": document}]
        text = tokenizer.apply_chat_template(messages, tokenize=False)
        ids = tokenizer(text, add_special_tokens=False, truncation=True)["input_ids"]
        if len(ids) == tokenizer.model_max_length:  # what the template ends with stays
            ids[-len(end) :] = end
        with torch.inference_mode():
            last = language(torch.tensor([ids])).logits[0, -1]
        expected.append(float(last[yes] - last[no]))
    for backend in BACKENDS:
        with core.load_reranker(path, backend=backend, export=False) as model:
            np.testing.assert_allclose(model.predict(PAIRS), expected, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "activation"),
    [
        ("reranker-bert", "Sigmoid"),
        ("reranker-labels", "Identity"),
        ("reranker-activation-saved", "Identity"),
        ("reranker-activation-config", "Identity"),
        ("reranker-activation-legacy", "Identity"),
    ],
)
def test_the_newest_layout_names_the_activation(reranker: Make, name: str, activation: str) -> None:
    with core.load_reranker(reranker(name), backend="torch") as model:
        assert model.activation_fn.name.endswith(f".{activation}")


def test_code_of_a_model_is_no_activation(reranker: Make, caplog: pytest.LogCaptureFixture) -> None:
    with core.load_reranker(reranker("reranker-activation-foreign"), backend="torch") as model:
        assert model.activation_fn.name.endswith("Sigmoid")
    assert "somewhere.else.Activation" in caplog.text
    assert "trust_remote_code=True" in caplog.text
    with pytest.raises(core.UnsupportedOperation, match="cannot be made"):
        core.load_reranker(
            reranker("reranker-activation-foreign"), backend="torch", trust_remote_code=True
        )


@pytest.mark.parametrize(
    "given", ["ReLU", "torch.nn.modules.activation.ReLU", torch.nn.ReLU(), torch.relu,
              torch.nn.ReLU, lambda scores: np.maximum(scores, 0)],
)  # fmt: skip
def test_a_caller_chooses_the_activation(reranker: Make, given: Any) -> None:
    with core.load_reranker(reranker("reranker-qwen3"), backend="torch") as model:
        raw = model.predict(PAIRS, activation_fn="Identity")
        assert (raw < 0).any()
        np.testing.assert_array_equal(model.predict(PAIRS, activation_fn=given), raw.clip(0))
        model.activation_fn = given
        np.testing.assert_array_equal(model.predict(PAIRS), raw.clip(0))


def test_ranking_is_by_score(reranker: Make) -> None:
    query, documents = "what is a cat", [text for _, text in PAIRS]
    with core.load_reranker(reranker("reranker-bert"), backend="onnx") as model:
        scores = model.predict([(query, text) for text in documents])
        ranked = model.rank(query, documents, top_k=3, return_documents=True)
    best = np.argsort(-scores, kind="stable")[:3]
    assert [entry["corpus_id"] for entry in ranked] == best.tolist()
    assert [entry["score"] for entry in ranked] == scores[best].tolist()
    assert [entry["text"] for entry in ranked] == [documents[i] for i in best]
    assert all(type(entry["score"]) is float for entry in ranked)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_score_does_not_depend_on_the_pairs_beside_it(reranker: Make, backend: str) -> None:
    with core.load_reranker(reranker("reranker-bert"), backend=backend) as model:
        together = model.predict(PAIRS * 3, batch_size=4)
        alone = [model.predict(pair) for pair in PAIRS]
        streamed = list(model.predict_stream(iter(PAIRS), window=2))
    np.testing.assert_allclose(together, alone * 3, atol=1e-5)
    assert np.isscalar(alone[0])
    assert [len(block) for block in streamed] == [2, 2, 1]
    np.testing.assert_allclose(np.concatenate(streamed), alone, atol=1e-5)


def test_pairs_come_as_lists_tuples_and_arrays(reranker: Make) -> None:
    pairs = PAIRS[:3]
    with core.load_reranker(reranker("reranker-bert"), backend="torch") as model:
        expected = model.predict(pairs)
        for given in (list(map(list, pairs)), np.array(pairs), np.array(pairs, dtype=object),
                      iter(pairs)):  # fmt: skip
            np.testing.assert_array_equal(model.predict(given), expected)
        for one in (pairs[0], list(pairs[0]), np.array(pairs[0])):
            np.testing.assert_allclose(model.predict(one), expected[0], atol=1e-6)
        assert model.predict([]).shape == (0,)
        tensor = model.predict(pairs, convert_to_tensor=True)
        assert isinstance(tensor, torch.Tensor)
        np.testing.assert_array_equal(tensor.numpy(), expected)


def test_a_prompt_goes_in_front_of_the_query(reranker: Make) -> None:
    with core.load_reranker(
        reranker("reranker-bert"), backend="torch", prompts={"q": "find: "}
    ) as model:
        expected = model.predict([("find: " + query, text) for query, text in PAIRS])
        np.testing.assert_array_equal(model.predict(PAIRS, prompt_name="q"), expected)
        np.testing.assert_array_equal(model.predict(PAIRS, prompt="find: "), expected)


def test_max_length_and_truncation(reranker: Make, caplog: pytest.LogCaptureFixture) -> None:
    path = reranker("reranker-bert")
    with core.load_reranker(path, backend="torch", max_length=24) as model:
        assert model.max_seq_length == 24
        assert model.tokenize(PAIRS)["input_ids"].shape == (len(PAIRS), 24)
        model.predict(PAIRS, truncation="warn")
        assert "3 of 5 texts have more tokens than the 24" in caplog.text
        with pytest.raises(core.OptionError, match=r"position 3 \([\d,]+ tokens\)"):
            model.predict(PAIRS[:1] * 3 + PAIRS[3:], truncation="error")


def test_the_longer_text_of_a_pair_is_cut_first(reranker: Make) -> None:
    from transformers import AutoTokenizer

    path = reranker("reranker-bert")
    tokenizer = AutoTokenizer.from_pretrained(path)
    pairs = [("a b c", "d " * 60), ("a " * 60, "b c"), ("a " * 40, "b " * 41), ("", "c " * 50)]
    for length in (16, 17, 3):
        with core.load_reranker(path, backend="torch", max_length=length) as model:
            ours = model.tokenize(pairs)
        theirs = tokenizer(
            pairs, truncation="longest_first", max_length=length, padding=True, return_tensors="np"
        )
        for name in ("input_ids", "attention_mask", "token_type_ids"):
            np.testing.assert_array_equal(ours[name], theirs[name])


def test_a_reranker_survives_pickling(reranker: Make) -> None:
    with core.load_reranker(reranker("reranker-labels"), backend="onnx") as model:
        model.activation_fn, model.prompts = "Tanh", {"q": "find: "}
        expected = model.predict(PAIRS, prompt_name="q")
        with pickle.loads(pickle.dumps(model)) as copy:
            np.testing.assert_array_equal(copy.predict(PAIRS, prompt_name="q"), expected)


@pytest.mark.slow
def test_a_pool_scores_pairs(reranker: Make) -> None:
    with core.load_reranker(reranker("reranker-bert"), backend="onnx") as model:
        expected = model.predict(PAIRS * 4, prompt="find: ")
        with core.ProcessPool(model, processes=2) as pool:
            np.testing.assert_allclose(
                pool.predict(PAIRS * 4, prompt="find: "), expected, atol=1e-5
            )
            blocks = list(pool.predict_stream(iter(PAIRS * 4), window=6, prompt="find: "))
            np.testing.assert_allclose(np.concatenate(blocks), expected, atol=1e-5)
            with pytest.raises(core.OptionError, match=r"call pool\.predict"):
                pool.encode(["a text"])


def test_hooks_take_pairs_by_keyword(reranker: Make) -> None:
    hooks = core.hooks("onnx")
    with hooks.load(source=reranker("reranker-bert")) as model:
        assert isinstance(model, core.Reranker)
        scores = hooks.encode(model=model, texts=PAIRS)
        np.testing.assert_array_equal(scores, model.predict(PAIRS))


def test_a_graph_of_another_tool_runs(writable: Make) -> None:
    """Its output is called logits; a language model's has a number for every token."""
    path = writable("reranker-qwen3")
    with core.load_reranker(path, backend="torch") as model:
        expected = model.predict(PAIRS)
        module = model.runtime.module

    class Logits(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = module

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Any:
            return self.module(
                input_ids=input_ids, attention_mask=attention_mask, use_cache=False
            ).logits

    from torch_backend.masks import traceable_masks

    axes = {0: "batch", 1: "tokens"}
    names = ["input_ids", "attention_mask"]
    module.set_attn_implementation("eager")
    with torch.no_grad(), traceable_masks(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Logits(), (torch.ones((2, 8), dtype=torch.long),) * 2, str(path / "onnx/model.onnx"),
            dynamo=False, opset_version=18, input_names=names, output_names=["logits"],
            dynamic_axes=dict.fromkeys([*names, "logits"], axes),
        )  # fmt: skip
    with core.load_reranker(path, backend="onnx") as model:
        np.testing.assert_allclose(model.predict(PAIRS), expected, atol=1e-4)


def test_labels_that_do_not_fit_the_file_are_told(writable: Make) -> None:
    path = writable("reranker-labels")
    config = json.loads((path / "config.json").read_text())
    for wrong, message in (
        ({"0": "no", "1": "yes"}, r"3 scores for a pair, and there are 2 labels .*download"),
        ({"0": "no", "2": "yes"}, r"has 2 labels and none for 1"),
        ([], r"must map the numbers"),
    ):
        (path / "config.json").write_text(json.dumps({**config, "id2label": wrong}))
        with pytest.raises(core.ModelFormatError, match=message):
            core.load_reranker(path, backend="onnx")
    del config["id2label"]
    (path / "config.json").write_text(json.dumps(config))
    for backend in ("torch", "onnx", "openvino"):
        with pytest.raises(core.ModelFormatError, match=r"no id2label, and 2 .*name each score"):
            core.load_reranker(path, backend=backend)
