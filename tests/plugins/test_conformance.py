"""The suite passes for our backends and fails for each backend that is broken in one way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import core
from core.testing import BackendConformance
from core.testing.subject import TEXTS
from tests.conftest import Exports, with_path
from tests.plugins.conftest import Site

#: Embeddings of all-MiniLM-L6-v2 by sentence-transformers 6.2.
REFERENCE: dict[str, list[float]] = json.loads(
    (Path(__file__).parent / "minilm_reference.json").read_text(encoding="utf-8")
)

#: `minilm` runs the whole contract on the real model, which takes minutes.
MODEL = os.environ.get("CORE_CONFORMANCE_MODEL", "bert-mean")


def plain_embeddings(model: Path) -> dict[str, list[float]]:
    """Mean pooling as its paper says it, with transformers alone, a text at a time."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer, module = AutoTokenizer.from_pretrained(model), AutoModel.from_pretrained(model)
    found = {}
    for text in TEXTS:
        inputs = tokenizer(text, return_tensors="pt", truncation=True, max_length=128)
        with torch.inference_mode():
            hidden = module(**inputs).last_hidden_state[0]
        found[text] = hidden.mean(dim=0).tolist()
    return found


class OurConformance(BackendConformance):
    min_cosine = 0.99999

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _model(cls, minilm: Path, tiny_model: Callable[[str], Path]) -> None:
        cls.model = minilm if MODEL == "minilm" else tiny_model(MODEL)
        cls.reference = REFERENCE if MODEL == "minilm" else plain_embeddings(cls.model)


class TestTorch(OurConformance):
    backend = "torch"


class TestOnnx(OurConformance):
    backend = "onnx"


class TestOpenVino(OurConformance):
    backend = "openvino"


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["torch", "onnx", "openvino"])
def test_agreement_on_the_real_model(backend: str, exports: Exports) -> None:
    with core.load(exports("minilm", backend), backend=backend, device="cpu") as model:
        found = model.encode(list(REFERENCE))
    expected = np.array(list(REFERENCE.values()))
    assert (found * expected).sum(axis=1).min() > 0.99999


#: A sound backend: hashed character trigrams, saved as one file.
SOUND = """
import json
import zlib
from pathlib import Path
import numpy as np
import core

SPEC_VERSION = 1
SOURCE = "name"
WIDTH = 32


class Engine:
    def __init__(self, scale):
        self.scale = scale

    def embed(self, text):
        row = np.zeros(WIDTH, np.float32)
        padded = f"^{text}$"[:300]
        for i in range(len(padded) - 1):
            row[zlib.crc32(padded[i : i + 3].encode()) % WIDTH] += self.scale
        return row


@core.hookimpl
def load(source, options):
    stored = Path(source.name, "scale.json")
    scale = json.loads(stored.read_text()) if stored.is_file() else 0.5
    return core.EmbeddingModel(source, Engine(scale), dimension=WIDTH)


@core.hookimpl
def encode(model, texts, options):
    if options.output_value == "token_embeddings":
        raise core.UnsupportedOperation("This backend has no tokens.")
    result = np.zeros((len(texts), WIDTH), np.float32)
    for i, text in enumerate(texts):
        result[i] = model.runtime.embed(text)
    return result


@core.hookimpl
def save(model, target, options):
    (target / "scale.json").write_text(json.dumps(model.runtime.scale))
    return target
"""

LOOP = "    for i, text in enumerate(texts):\n        result[i] = model.runtime.embed(text)\n"

IMPORTS = "test_naming_it_imports_no_other_backend_and_no_runtime"

#: What is wrong: the edit that breaks it, and a test that must fail.
BROKEN = {
    "sorts and forgets to unsort": (
        ("enumerate(texts)", "enumerate(sorted(texts))"),
        "test_order_follows_the_input",
    ),
    "depends on batch mates": (
        ("    return result\n", "    return result - result.mean(axis=0)\n"),
        "test_rows_do_not_depend_on_batch_mates",
    ),
    "fails on no texts": (
        ("    return result\n", "    return result if len(texts) else np.empty(0, 'f4')\n"),
        "test_shape_and_dtype[0]",
    ),
    "drops rows after the hundredth": (
        ("    return result\n", "    return result[:100]\n"),
        "test_shape_and_dtype[150]",
    ),
    "states a wrong dimension": (
        ("dimension=WIDTH", "dimension=WIDTH + 1"),
        "test_one_text_gives_one_vector",
    ),
    "is random at every load": (
        ("Engine(scale)", "Engine(scale + np.random.rand())"),
        "test_the_same_call_gives_the_same_result",
    ),
    "lends its buffer": (
        (
            "    result = np.zeros((len(texts), WIDTH), np.float32)\n",
            "    buffer = model.__dict__.setdefault('b', np.zeros((999, WIDTH), np.float32))\n"
            "    result = buffer[: len(texts)]\n",
        ),
        "test_results_belong_to_the_caller",
    ),
    "changes the caller's list": (
        (LOOP, LOOP + "    if len(texts) > 1:\n        texts[0] = ''\n"),
        "test_inputs_are_not_changed",
    ),
    "knows ASCII only": (
        (".encode())", ".encode('ascii'))"),
        "test_unusual_texts[right to left]",
    ),
    "drops what is not ASCII": (
        ('f"^{text}$"', '"^" + text.encode("ascii", "ignore").decode() + "$"'),
        "test_different_texts_differ_and_equal_ones_do_not",
    ),
    "gives NaN for empty texts": (
        ("        return row\n", "        return row / (len(text) > 0)\n"),
        "test_unusual_texts[empty]",
    ),
    "takes sentences for tokens": (
        (
            'raise core.UnsupportedOperation("This backend has no tokens.")',
            "return [model.runtime.embed(text)[None] for text in texts]",
        ),
        "test_token_embeddings",
    ),
    "is not safe in threads": (
        (
            LOOP,
            "    import time\n    model.count = len(texts)\n    time.sleep(0.002)\n"
            + LOOP.replace("enumerate(texts)", "enumerate(texts[: model.count])"),
        ),
        "test_many_threads_share_a_model",
    ),
    "shares one engine among models": (
        (
            "    return core.EmbeddingModel(source, Engine(scale), dimension=WIDTH)",
            "    return core.EmbeddingModel(source, SHARED, dimension=WIDTH)\n\n\n"
            "class Closing(Engine):\n"
            "    def close(self):\n        del self.scale\n\n\nSHARED = Closing(0.5)",
        ),
        "test_two_models_are_independent",
    ),
    "saves nothing": (
        (
            "json.dumps(model.runtime.scale)",
            "'0.25'",
        ),
        "test_a_saved_model_loads_and_embeds_the_same",
    ),
    "imports a runtime at once": (
        ("import numpy as np\n", "import numpy as np\nimport xml.dom.pulldom\n"),
        IMPORTS,
    ),
    "promises exports": (
        ("WIDTH = 32\n", "WIDTH = 32\nAUTO_EXPORT = True\n"),
        "test_capabilities_fit_the_hooks",
    ),
    "computes elsewhere than it says": (
        ("dimension=WIDTH)", "dimension=WIDTH, device='cuda:0')"),
        "test_the_model_says_what_it_is",
    ),
    "ignores the device": (
        ("WIDTH = 32\n", "WIDTH = 32\nDEVICES = ('cpu', 'cuda')\n"),
        "test_unknown_options_are_refused",
    ),
    "calls itself through its hooks": (
        (
            LOOP,
            "    if len(texts) > 1:\n"
            "        return np.concatenate("
            "[model.hooks.raw_encode(model, [t], options) for t in texts])\n" + LOOP,
        ),
        "test_wrappers_see_each_call_once_and_in_order",
    ),
    "disagrees with the reference": (
        ("i : i + 3", "i : i + 2"),
        "test_agreement_with_the_reference",
    ),
    "ignores prompts": (
        (
            ".embed(text)\n    return result",
            ".embed(text.removeprefix('query: '))\n    return result",
        ),
        "test_prompts_go_in_front_of_every_text",
    ),
    "rounds in the wrong type": (
        ("    return result\n", "    return result.astype(np.float16)\n"),
        "test_shape_and_dtype[33]",
    ),
    "hides that it cannot save": (
        ("@core.hookimpl\ndef save", "def save"),
        "test_a_saved_model_loads_and_embeds_the_same",
    ),
}

SUITE = """
from core.testing import BackendConformance

REFERENCE = {reference!r}


class Conformance(BackendConformance):
    reference = REFERENCE
    lacks = {{"token_embeddings"}}
    runtime_modules = {{"xml.dom.pulldom"}}

"""


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """Outcome of every test of the suite for the sound and every broken backend, in one run."""
    root = tmp_path_factory.mktemp("site")
    site = Site(root)
    names = {"sound": SOUND}
    for what, ((old, new), _) in BROKEN.items():
        assert SOUND.count(old) >= 1, what
        names[what] = SOUND.replace(old, new)
    namespace: dict[str, object] = {}
    exec(SOUND, namespace)  # the reference comes from the sound engine
    engine = namespace["Engine"](0.5)  # type: ignore[operator]
    texts = ["a reference", "another one", "naïve 机器"]
    suite = SUITE.format(reference={text: engine.embed(text).tolist() for text in texts})
    for number, source in enumerate(names.values()):
        site.install(f"acme-{number}", source, backend=f"backend-{number}")
        suite += f"class Test{number}(Conformance):\n    backend = 'backend-{number}'\n\n\n"
    (root / "test_suite.py").write_text(suite, encoding="utf-8")
    (root / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    # A process of its own each: for the others it would only cost time.
    watched = ("sound", "imports a runtime at once")
    alone = [n for n, what in enumerate(names) if what not in watched]
    left_out = [f"--deselect=test_suite.py::Test{n}::{IMPORTS}" for n in alone]
    options = ["-q", "-p", "no:cacheprovider", "-rA", "--tb=no", *left_out]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "test_suite.py"],
        cwd=root,
        env={**os.environ, "PYTHONPATH": with_path(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    results: dict[str, dict[str, str]] = {name: {} for name in names}
    for line in done.stdout.splitlines():
        outcome, _, test = line.partition(" ")
        if outcome in ("PASSED", "FAILED", "ERROR", "SKIPPED") and "::" in test:
            _, group, name = test.partition(" - ")[0].split("::")
            results[list(names)[int(group.removeprefix("Test"))]][name] = outcome
    return results


def test_the_suite_passes_for_a_sound_backend(verdicts: dict[str, dict[str, str]]) -> None:
    outcomes = verdicts["sound"]
    assert len(outcomes) > 40
    assert set(outcomes.values()) == {"PASSED"}


@pytest.mark.parametrize("what", BROKEN)
def test_the_suite_fails_for_a_backend_that(what: str, verdicts: dict[str, dict[str, str]]) -> None:
    _, expected = BROKEN[what]
    assert verdicts[what][expected] == "FAILED"
    # Broken in one way: most of the contract holds where that way does not touch it.
    assert list(verdicts[what].values()).count("PASSED") >= 6
