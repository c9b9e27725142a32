"""The suite passes for our backends and fails for each backend that is broken in one way."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

import core
from core import testing
from core.scaffold import write_backend
from core.testing import BackendConformance
from core.testing.subject import TEXTS
from tests.conftest import Exports, with_path
from tests.plugins.conftest import Site

pytestmark = pytest.mark.slow  # exports, quantizes or starts processes

#: Embeddings of all-MiniLM-L6-v2 by sentence-transformers 6.2.
REFERENCE: dict[str, list[float]] = json.loads(
    (Path(__file__).parent / "minilm_reference.json").read_text(encoding="utf-8")
)

#: `minilm` runs the whole contract on the real model, which takes a minute or two.
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
    variables = frozenset({"ORT_DISABLE_TELEMETRY"})

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _model(cls, minilm: Path, tiny_model: Callable[[str], Path]) -> None:
        cls.model = minilm if MODEL == "minilm" else tiny_model(MODEL)
        cls.reference = REFERENCE if MODEL == "minilm" else plain_embeddings(cls.model)


class TestTorch(OurConformance):
    backend = "torch"

    # What optimizing does here takes a compiler of C++ a minute; tests/torch_backend has it.
    @pytest.mark.parametrize("hook", ["export", "quantize"])
    def test_what_it_makes_of_a_model_loads(self, hook: str, tmp_path: Path) -> None:
        super().test_what_it_makes_of_a_model_loads(hook, tmp_path)


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


#: A sound backend: hashed pairs of bytes, saved as one file.
SOUND = """
import json
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
        data = np.frombuffer(f"^{text}$".encode(), np.uint8).astype(np.int64)
        pieces = (data[:-1] * 256 + data[1:]) * 2654435761 % 2**32 // 2**16 % WIDTH
        row = (np.bincount(pieces, minlength=WIDTH) + 0.25).astype(np.float32) * self.scale
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

#: What `load` of the sound one begins and ends with.
BEGIN = "    stored = Path("
END = "    return core.EmbeddingModel(source, Engine(scale), dimension=WIDTH)\n"
#: A hook of its own, in front of `save`.
SAVE = "@core.hookimpl\ndef save"

IMPORTS = "test_naming_it_imports_no_other_backend_and_no_runtime"

#: They start processes; eight threads stop at every instruction; 3,000 texts are encoded; what
#: threads leave is waited for.
COSTLY = {
    IMPORTS,
    "test_a_program_may_end_while_it_is_open",
    "test_many_threads_share_a_model",
    "test_many_texts_are_the_rows_of_few",
    "test_a_closed_model_leaves_nothing",
}

#: Where it fails, no other test runs.
FIRST = "test_it_loads_and_embeds"

#: Edits with which a backend changes what the whole process shares.
LEAVING = {
    "another working directory, by load": (
        "    stored = Path(",
        "    import os, tempfile\n    os.chdir(tempfile.gettempdir())\n    stored = Path(",
    ),
    "another working directory, by encode": (
        LOOP,
        LOOP + "    import os\n    os.chdir('/')\n",
    ),
    "a variable, by load": (
        "    stored = Path(",
        "    import os\n    os.environ['ACME_THREADS'] = '1'\n    stored = Path(",
    ),
    "a variable less, by encode": (
        LOOP,
        LOOP + "    import os\n    os.environ.pop('HOME', None)\n",
    ),
    "a line on standard output": (LOOP, LOOP + "    print('done')\n"),
    "a line on standard output, by a library": (
        "    stored = Path(",
        "    import os\n    os.write(1, b'v1.0')\n    stored = Path(",
    ),
    "a seed, by load": ("    stored = Path(", "    np.random.seed(0)\n    stored = Path("),
    "a seed, by encode": (LOOP, LOOP + "    import random\n    random.seed(0)\n"),
    "used random numbers": (LOOP, LOOP + "    np.random.rand()\n"),
    "a handler of the root logger": (
        LOOP,
        LOOP + "    import logging\n    logging.getLogger().addHandler(logging.NullHandler())\n",
    ),
    "floating-point errors": (LOOP, LOOP + "    np.seterr(all='raise')\n"),
    "a thread's processors": (
        BEGIN,
        "    import os\n    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n" + BEGIN,
    ),
    "the start method of processes": (
        BEGIN,
        "    import multiprocessing\n"
        "    multiprocessing.set_start_method('spawn', force=True)\n" + BEGIN,
    ),
    "silence": (BEGIN, "    import logging\n    logging.disable()\n" + BEGIN),
    "no garbage collection": (BEGIN, "    import gc\n    gc.set_threshold(0)\n" + BEGIN),
    "the handler of Ctrl-C": (
        "    stored = Path(",
        "    import signal\n    signal.signal(signal.SIGINT, signal.SIG_DFL)\n    stored = Path(",
    ),
}

#: Edits with which every model leaves something when it is closed.
KEEPING = {
    "a thread": (
        BEGIN,
        "    import threading\n"
        "    threading.Thread(target=threading.Event().wait, daemon=True).start()\n" + BEGIN,
    ),
    "a thread for each call": (
        LOOP,
        LOOP + "    import threading\n"
        "    threading.Thread(target=threading.Event().wait, daemon=True).start()\n",
    ),
    "an open file": (BEGIN, "    import os\n    os.open(os.devnull, os.O_RDONLY)\n" + BEGIN),
    "a temporary file": (
        LOOP,
        LOOP + "    import os, tempfile\n    os.close(tempfile.mkstemp()[0])\n",
    ),
    "the model": (
        END,
        END.replace("return ", "KEPT.append(").rstrip() + ")\n    return KEPT[-1]\n\n\nKEPT = []\n",
    ),
    "the engine": (
        END,
        "    KEPT.append(Engine(scale))\n"
        + END.replace("Engine(scale)", "KEPT[-1]")
        + "\n\nKEPT = []\n",
    ),
}

#: Attributes that say what the hooks do not do.
PROMISES = {
    "OPTIMIZE_CONFIGS = {'O1': 'some'}": "to optimize",
    "QUANTIZE_CONFIGS = {'int8': 'some'}": "to quantize",
    "CALIBRATED_CONFIGS = ('int8',)": "calibration",
    "LOAD_CONFIGS = {'fast': {'speed': 2}}": "options of load",
    "NEEDS = {'fast': ('avx2',)}": "configurations",
}

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
        "test_it_loads_and_embeds",
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
        (".encode(),", ".encode('ascii'),"),
        "test_it_loads_and_embeds",
    ),
    "drops what is not ASCII": (
        ('f"^{text}$"', "f\"^{text.encode('ascii', 'ignore').decode()}$\""),
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
        ("data[1:])", "data[:-1])"),
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
        "test_it_loads_and_embeds",
    ),
    "reverses more than 32 texts": (
        ("    return result\n", "    return result if len(texts) <= 32 else result[::-1].copy()\n"),
        "test_many_texts_are_the_rows_of_few",
    ),
    "mixes up two rows of 1,000": (
        (
            LOOP,
            LOOP + "    if len(texts) >= 1_000:\n        result[[800, 801]] = result[[801, 800]]\n",
        ),
        "test_many_texts_are_the_rows_of_few",
    ),
    "cuts texts at 1,000 characters": (
        ('f"^{text}$"', 'f"^{text[:1000]}$"'),
        "test_the_end_of_a_long_text_counts",
    ),
    "cuts texts at 300 words": (
        ('f"^{text}$"', 'f"^{chr(32).join(text.split()[:300]) if len(text) > 1500 else text}$"'),
        "test_the_end_of_a_long_text_counts",
    ),
    "writes nothing when it saves": (
        ('    (target / "scale.json").write_text(json.dumps(model.runtime.scale))\n', ""),
        "test_save_writes_the_weights_itself",
    ),
    "keeps its row where threads meet": (
        ("        return row\n", "        self.row = row\n        return self.row\n"),
        "test_many_threads_share_a_model",
    ),
    "keeps the text where threads meet": (
        (
            "model.runtime.embed(text)",
            "(setattr(model, 't', text), model.runtime.embed(model.t))[1]",
        ),
        "test_many_threads_share_a_model",
    ),
    "fills its table when first asked": (
        (
            LOOP,
            "    if not hasattr(model, 'table'):\n        model.table = []\n"
            "        for _ in range(WIDTH):\n            model.table.append(1.0)\n"
            + LOOP.replace("model.runtime", "len(model.table) / WIDTH * model.runtime"),
        ),
        "test_many_threads_share_a_model",
    ),
    **{
        f"leaves something behind: {what}": (edit, "test_it_leaves_the_process_as_it_was")
        for what, edit in LEAVING.items()
    },
    **{
        f"keeps what a closed model had: {what}": (edit, "test_a_closed_model_leaves_nothing")
        for what, edit in KEEPING.items()
    },
    **{
        f"promises {what}": (
            ("WIDTH = 32\n", f"WIDTH = 32\n{line}\n"),
            "test_capabilities_fit_the_hooks",
        )
        for line, what in PROMISES.items()
    },
    "loads in the main thread only": (
        (
            BEGIN,
            "    import signal\n"
            "    signal.signal(signal.SIGINT, signal.getsignal(signal.SIGINT))\n" + BEGIN,
        ),
        "test_any_thread_may_load_it",
    ),
    "gives zeros where it fails": (
        (
            "        result[i] = model.runtime.embed(text)\n",
            "        try:\n            result[i] = model.runtime.embed(text)\n"
            "        except Exception:\n            pass\n",
        ),
        "test_an_error_inside_it_is_raised_and_no_more",
    ),
    "is not what it was after an error": (
        (
            LOOP,
            "    scale, model.runtime.scale = model.runtime.scale, model.runtime.scale / 2\n"
            + LOOP.replace("model.runtime.embed(text)", "2 * model.runtime.embed(text)")
            + "    model.runtime.scale = scale\n",
        ),
        "test_an_error_inside_it_is_raised_and_no_more",
    ),
    "ends badly with an open model": (
        (
            END,
            END.replace("return", "model =")
            + "    import atexit, os\n"
            + "    atexit.register(lambda: model.closed or os._exit(3))\n"
            + "    return model\n",
        ),
        "test_a_program_may_end_while_it_is_open",
    ),
    "fails when it quantizes": (
        (
            SAVE,
            "@core.hookimpl\ndef quantize(model, target, options):\n    return None\n\n\n" + SAVE,
        ),
        "test_what_it_makes_of_a_model_loads[quantize]",
    ),
    "takes any option": (
        (
            SAVE,
            "@core.hookimpl\ndef quantize(model, target, options):\n"
            "    (target / 'settings.json').write_text('{}')\n"
            "    return core.Artifact(root=target, file_name='settings.json')\n\n\n" + SAVE,
        ),
        "test_unknown_options_of_an_operation_are_refused[quantize]",
    ),
    "hides that it cannot save": (
        ("@core.hookimpl\ndef save", "def save"),
        "test_a_saved_model_loads_and_embeds_the_same",
    ),
}

#: The same for a backend that loads files, in either of its modules.
BROKEN_FILES = {
    "saves no weights": (
        ("model.copy_weights(target)", "target"),
        "test_save_writes_the_weights_itself",
    ),
    "saves where its weights were": (
        (
            "model.copy_weights(target)",
            "(target / 'model.safetensors').symlink_to(model.source.path('model.safetensors')) "
            "or target",
        ),
        "test_save_writes_the_weights_itself",
    ),
    "writes beside the weights": (
        (
            "file = options.file_name\n",
            "file = options.file_name\n"
            "        (source.path(file).parent / 'compiled.bin').write_bytes(b'x')\n",
        ),
        "test_no_call_changes_the_files_it_was_loaded_from",
    ),
    "remembers texts for all models": (
        (
            "    return core.encode_texts(model, texts, options)",
            "    key = (*texts, options.output_value, options.prompt)\n"
            "    if key not in KNOWN:\n"
            "        KNOWN[key] = core.encode_texts(model, texts, options)\n"
            "    return KNOWN[key].copy()\n\n\nKNOWN = {}",
        ),
        "test_a_limit_that_is_set_is_of_one_model",
    ),
    "lets tokens see the padding": (
        ("> 0, 0.0, -1e9)", "> 0, 0.0, -1.0)"),
        "test_rows_do_not_depend_on_batch_mates",
    ),
    "computes another activation": (
        ('ACTIVATIONS["GELU"](np, inner)', "np.maximum(inner, 0)"),
        "test_agreement_with_the_reference",
    ),
    "shares a buffer among threads": (
        (
            "return np.ascontiguousarray(hidden, dtype=np.float32)",
            "self.last = np.ascontiguousarray(hidden, dtype=np.float32)\n        return self.last",
        ),
        "test_many_threads_share_a_model",
    ),
}

FILES_SUITE = """

from core.testing import tiny_model, tiny_reference


class Files(BackendConformance):
    model = tiny_model()
    reference = tiny_reference()


"""

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
    """Outcome of every test of the suite for the sound and every broken backend, in one run, made
    by whichever process of the tests comes first."""
    base = tmp_path_factory.getbasetemp()
    kept = (base.parent if base.name.startswith("popen-") else base) / "verdicts.json"
    with FileLock(f"{kept}.lock"):
        if not kept.is_file():
            kept.write_text(json.dumps(_verdicts(tmp_path_factory.mktemp("site"))), "utf-8")
    found: dict[str, dict[str, str]] = json.loads(kept.read_text("utf-8"))
    return found


def _verdicts(root: Path) -> dict[str, dict[str, str]]:
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
    suite += FILES_SUITE
    for what, edit in {
        "sound files": ("", ""),
        **{w: e for w, (e, _) in BROKEN_FILES.items()},
    }.items():
        number = len(names)
        names[what] = ""
        _install_files(site, number, edit)
        suite += f"class Test{number}(Files):\n    backend = 'backend-{number}'\n\n\n"
    (root / "test_suite.py").write_text(suite, encoding="utf-8")
    (root / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    # A broken one is given the test that must fail and half of the others, the next one the
    # other half. Those that take seconds are for the sound ones, and where they must fail.
    tests = sorted(name for name in dir(BackendConformance) if name.startswith("test_"))
    broken = {**BROKEN, **BROKEN_FILES}
    left_out = [
        f"--deselect=test_suite.py::Test{number}::{test}"
        for number, what in enumerate(names)
        if what in broken
        for test in set(tests) - (set(tests[number % 2 :: 2]) - COSTLY)
        if test not in (FIRST, broken[what][1].partition("[")[0])
    ]
    done = run_suite(root, *left_out)
    assert done.returncode == 1, done.stdout + done.stderr
    results: dict[str, dict[str, str]] = {name: {} for name in names}
    for (group, name), outcome in outcomes_of(done.stdout).items():
        results[list(names)[int(group.removeprefix("Test"))]][name] = outcome
    return results


def _install_files(site: Site, number: int, edit: tuple[str, str]) -> None:
    """The package that `core new-backend --checkpoint` writes, broken by one edit."""
    package = write_backend(f"files{number}", site.root / f"written-{number}", checkpoint=True)
    module = f"files{number}_backend"
    shutil.copytree(package / "src" / module, site.root / module)
    sources = sorted((site.root / module).glob("*.py"))
    assert any(edit[0] in path.read_text() for path in sources), edit
    for path in sources if edit[0] else ():
        path.write_text(path.read_text().replace(*edit))
    stated = f"[core.backends]\nbackend-{number} = {module}.plugin\n"
    site.install(f"acme-{number}", "", entry_points=stated)


def run_suite(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """pytest on what lies in a site directory."""
    options = ("-q", "-p", "no:cacheprovider", "-rA", "--tb=no", *arguments)
    return subprocess.run(
        [sys.executable, "-m", "pytest", *options, "test_suite.py"],
        cwd=root,
        env={**os.environ, "PYTHONPATH": with_path(root), "COLUMNS": "300"},
        capture_output=True,
        text=True,
        check=False,
    )


def outcomes_of(output: str) -> dict[tuple[str, str], str]:
    """(class, test) to outcome, from what `pytest -rA` prints; skipped tests have no name there."""
    found = {}
    for line in output.splitlines():
        outcome, _, test = line.partition(" ")
        if outcome in ("PASSED", "FAILED", "ERROR") and "::" in test:
            _, group, name = test.partition(" - ")[0].split("::")
            found[group, name] = outcome
    return found


@pytest.mark.parametrize("what", ["sound", "sound files"])
def test_the_suite_passes_for_a_sound_backend(
    what: str, verdicts: dict[str, dict[str, str]]
) -> None:
    outcomes = verdicts[what]
    assert len(outcomes) > 40
    assert set(outcomes.values()) == {"PASSED"}


@pytest.mark.parametrize("what", [*BROKEN, *BROKEN_FILES])
def test_the_suite_fails_for_a_backend_that(what: str, verdicts: dict[str, dict[str, str]]) -> None:
    _, expected = {**BROKEN, **BROKEN_FILES}[what]
    assert verdicts[what][expected] == "FAILED"
    # Broken in one way: most of the contract holds where that way does not touch it.
    if expected != FIRST:
        assert list(verdicts[what].values()).count("PASSED") >= 3


#: Faults for which core itself refuses every result, and what it says.
REFUSED = {
    "float64": (("    return result\n", "    return result.astype(float)\n"), "float64"),
    "NaN": (("    return result\n", "    return result * np.nan\n"), "NaN"),
    "a list": (("    return result\n", "    return result.tolist()\n"), "list"),
    "no model": (
        ("    stored = Path(", "    raise RuntimeError('no license')\n    stored = Path("),
        "no license",
    ),
}


@pytest.fixture(scope="module")
def refusals(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What pytest prints for all of `REFUSED`, in one run: class `TestN` for the Nth."""
    root = tmp_path_factory.mktemp("refused")
    site, suite = Site(root), SUITE.format(reference={})
    for number, ((old, new), _) in enumerate(REFUSED.values()):
        name = f"refused-{number}"
        site.install(f"acme-{name}", SOUND.replace(old, new), backend=name)
        suite += f"class Test{number}(Conformance):\n    backend = {name!r}\n\n\n"
    (root / "test_suite.py").write_text(suite, encoding="utf-8")
    left_out = [f"--deselect=test_suite.py::Test{n}::{IMPORTS}" for n in range(len(REFUSED))]
    return run_suite(root, *left_out).stdout


@pytest.mark.parametrize("what", REFUSED)
def test_one_cause_fails_one_test(what: str, refusals: str) -> None:
    """What core refuses of every call is said once; tests that need no model still run."""
    group = f"Test{list(REFUSED).index(what)}"
    outcomes = {name: o for (of, name), o in outcomes_of(refusals).items() if of == group}
    assert [name for name, o in outcomes.items() if o == "FAILED"] == ["test_it_loads_and_embeds"]
    assert outcomes["test_it_is_found_and_valid"] == "PASSED"
    lines = [line for line in refusals.splitlines() if f"::{group}::" in line]
    assert any(REFUSED[what][1] in line for line in lines)
    assert any(f"see test_suite.py::{group}::test_it_loads_and_embeds" in line for line in lines)


def test_the_tiny_model_is_the_same_every_time_on_every_backend(tmp_path: Path) -> None:
    """Its embeddings are the recorded ones, which transformers computed in float64."""
    path, reference = testing.tiny_model(tmp_path / "tiny"), testing.tiny_reference()
    again = testing.tiny_model(tmp_path / "again")
    for file in path.rglob("*.*"):
        assert file.read_bytes() == (again / file.relative_to(path)).read_bytes()
    assert sum(file.stat().st_size for file in path.rglob("*.*")) < 200_000
    for backend in ("torch", "onnx", "openvino"):
        with core.load(path, backend=backend, device="cpu") as model:
            found = model.encode(list(reference))
        np.testing.assert_allclose(found, list(reference.values()), atol=1e-5)
    assert testing.tiny_model() == testing.tiny_model()
    with pytest.raises(core.OptionError, match="is not empty"):
        testing.tiny_model(path)


def test_the_tiny_model_needs_no_torch(tmp_path: Path) -> None:
    program = (
        "import sys\nfrom core.testing import tiny_model\ntiny_model(sys.argv[1])\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "tiny")], check=True)
