"""Every public function, method and setting, called with values of the wrong kind."""

from __future__ import annotations

import dataclasses
import inspect
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import core
from core import EmbeddingModel
from core.sentence_transformers import SentenceTransformer, SimilarityFunction, util
from core.sentence_transformers.backend import (
    export_dynamic_quantized_onnx_model,
    export_optimized_onnx_model,
)
from tests.conftest import Exports, kept
from tests.tiny_kinds import build

WRONG: dict[str, Any] = {
    "None": None,
    "number": 5,
    "bytes": b"x",
    "list": [],
    "mapping": {},
    "object": object(),
    "NaN": math.nan,
    "text": "",
    "path": Path("absent/place"),
    "array": np.array(1.5),
    "flag": True,
}


class Subjects:
    """What the calls are made on. Nothing is written: a call that begins to work is a mistake."""

    def __init__(
        self,
        path: Path,
        model: EmbeddingModel,
        dropin: SentenceTransformer,
        reranker: Path,
        multi_vector: Path,
        sparse: Path,
    ) -> None:
        self.path, self.model, self.dropin, self.reranker = path, model, dropin, reranker
        self.multi_vector, self.sparse = multi_vector, sparse
        self.rows = np.eye(4, 32, dtype=np.float32)


@pytest.fixture(scope="module")
def subjects(
    exports: Exports,
    tiny_kind: Callable[[str], Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Subjects]:
    reranker = tmp_path_factory.mktemp("reranker")
    build("reranker-bert", reranker)
    sparse = tmp_path_factory.mktemp("sparse")
    build("splade", sparse)
    path = exports("bert-mean", "onnx")
    with core.load(path, backend="onnx", device="cpu") as model, kept(model):
        dropin = SentenceTransformer(str(path), backend="onnx", device="cpu")
        yield Subjects(path, model, dropin, reranker, tiny_kind("colbert"), sparse)


class Row(NamedTuple):
    """One argument of one function.

    Attributes:
        call: Calls it with a value.
        right: The kinds that are values of this argument; they are not tried.
        says: Stands in the message.
    """

    name: str
    call: Callable[[Subjects, Any], Any]
    right: str
    says: str


def row(name: str, call: Callable[[Subjects, Any], Any], right: str = "", says: str = "") -> Row:
    argument = name.rpartition(" ")[2]
    return Row(name, call, right, says or argument)


def load(argument: str, right: str = "None", says: str = "") -> Row:
    def call(s: Subjects, wrong: Any) -> Any:
        given = {"model_name_or_path": s.path, "backend": "onnx", "device": "cpu"}
        return core.load(**{**given, argument: wrong})

    return row(f"load {argument}", call, right, says)


def load_multi_vector(argument: str, right: str = "None", says: str = "") -> Row:
    def call(s: Subjects, wrong: Any) -> Any:
        given = {"model_name_or_path": s.multi_vector, "backend": "torch", "device": "cpu"}
        return core.load_multi_vector(**{**given, argument: wrong})

    return row(f"load_multi_vector {argument}", call, right, says)


def load_reranker(argument: str, right: str = "None", says: str = "") -> Row:
    def call(s: Subjects, wrong: Any) -> Any:
        given = {"model_name_or_path": s.reranker, "backend": "torch", "device": "cpu"}
        return core.load_reranker(**{**given, argument: wrong})

    return row(f"load_reranker {argument}", call, right, says)


def load_sparse(argument: str, right: str = "None", says: str = "") -> Row:
    def call(s: Subjects, wrong: Any) -> Any:
        given = {"model_name_or_path": s.sparse, "backend": "torch", "device": "cpu"}
        return core.load_sparse(**{**given, argument: wrong})

    return row(f"load_sparse {argument}", call, right, says)


def kind_of(argument: str, right: str = "None", says: str = "") -> Row:
    def call(s: Subjects, wrong: Any) -> Any:
        return core.kind_of(**{"model_name_or_path": s.path, argument: wrong})

    return row(f"kind_of {argument}", call, right, says)


def export(argument: str, right: str = "None", says: str = "") -> Row:
    def call(s: Subjects, wrong: Any) -> Any:
        return core.export(**{"model_name_or_path": s.path, "backend": "onnx", argument: wrong})

    return row(f"export {argument}", call, right, says)


def change(operation: str, argument: str, right: str = "None", says: str = "") -> Row:
    def call(s: Subjects, wrong: Any) -> Any:
        return getattr(core, operation)(**{"model": s.model, argument: wrong})

    return row(f"{operation} {argument}", call, right, says)


def tune(argument: str, right: str = "None", says: str = "") -> Row:
    def call(s: Subjects, wrong: Any) -> Any:
        texts = [f"text {number}" for number in range(30)]
        given = {"model_name_or_path": s.path, "texts": texts, "write": False}
        return core.tune(**{**given, argument: wrong})

    return row(f"tune {argument}", call, right, says)


def embed_dataset(argument: str, right: str = "None", says: str = "") -> Row:
    def call(s: Subjects, wrong: Any) -> Any:
        source = Path(__file__).parents[1] / "docs/requirements.txt"
        given = {"source": source, "target": s.path / "absent", "model": s.model}
        return core.embed_dataset(**{**given, argument: wrong})

    return row(f"embed_dataset {argument}", call, right, says)


def encode(argument: str, right: str = "None") -> Row:
    return row(
        f"encode {argument}", lambda s, wrong: s.model.encode(["a"], **{argument: wrong}), right
    )


def setting(argument: str, right: str = "None") -> list[Row]:
    return [
        row(f"setting {argument}", lambda s, wrong: setattr(s.model, argument, wrong), right),
        row(
            f"drop-in setting {argument}",
            lambda s, wrong: setattr(s.dropin, argument, wrong),
            right,
        ),
    ]


def push(argument: str, right: str = "None", says: str = "") -> Row:
    def call(s: Subjects, wrong: Any) -> Any:
        return s.model.push_to_hub(**{"repo_id": "owner/name", argument: wrong})

    return row(f"push_to_hub {argument}", call, right, says)


def dropin(argument: str, right: str = "None", says: str = "") -> Row:
    def call(s: Subjects, wrong: Any) -> Any:
        given = {"model_name_or_path": str(s.path), "backend": "onnx", "device": "cpu"}
        return SentenceTransformer(**{**given, argument: wrong})

    return row(f"SentenceTransformer {argument}", call, right, says)


def hook(operation: str, argument: str, right: str = "", says: str = "") -> Row:
    def call(s: Subjects, wrong: Any) -> Any:
        given: dict[str, Any] = {
            "load": {"source": s.path},
            "export": {"source": s.path},
            "optimize": {"model": s.model},
            "quantize": {"model": s.model},
            "encode": {"model": s.model, "texts": ["a"]},
            "save": {"model": s.model, "target": s.path / "absent"},
        }[operation]
        return getattr(core.hooks("onnx"), operation)(**{**given, argument: wrong})

    return row(f"hooks.{operation} {argument}", call, right, says)


def options(kind: type, argument: str, right: str) -> Row:
    return row(f"{kind.__name__} {argument}", lambda _, wrong: kind(**{argument: wrong}), right)


POSITIVE = "None number"
PATHS = "None path"
ROWS = [
    load("model_name_or_path", says="A model is named|no directory|not the name"),
    load("backend", says="backend|text"),
    load("device", right="None text"),
    load("revision"),
    load("file_name", says="file_name|no file ''"),
    load("export", right="None flag"),
    load("token", right="None flag"),
    load("cache_dir", right=PATHS),
    load("local_files_only", right="flag"),
    load("trust_remote_code", right="flag"),
    load("truncate_dim", right=POSITIVE),
    load("prompts", right="None mapping"),
    load("default_prompt_name"),
    load("similarity_fn_name"),
    load("model_kwargs", right="None mapping"),
    load("config_kwargs", right="None mapping"),
    load_reranker("model_name_or_path", says="A model is named|no directory|not the name"),
    load_reranker("prompts", right="None mapping"),
    load_reranker("default_prompt_name"),
    load_reranker("max_length", right=POSITIVE, says="max_length|max_seq_length"),
    load_reranker("activation_fn"),
    load_multi_vector("model_name_or_path", says="A model is named|no directory|not the name"),
    load_multi_vector("prompts", right="None mapping"),
    load_multi_vector("default_prompt_name"),
    load_multi_vector("similarity_fn_name"),
    load_sparse("model_name_or_path", says="A model is named|no directory|not the name"),
    load_sparse("prompts", right="None mapping"),
    load_sparse("default_prompt_name"),
    load_sparse("similarity_fn_name"),
    load_sparse("max_active_dims", right=POSITIVE),
    kind_of("model_name_or_path", says="A model is named|no directory|not the name"),
    kind_of("backend", says="backend|text"),
    kind_of("revision"),
    kind_of("token", right="None flag"),
    kind_of("cache_dir", right=PATHS),
    kind_of("local_files_only", right="flag"),
    export("model_name_or_path", right="", says="A model is named|no directory|not the name"),
    export("target", right=PATHS),
    export("backend", right="None", says="backend|text"),
    export("revision"),
    export("token", right="None flag"),
    export("cache_dir", right=PATHS),
    export("local_files_only", right="flag"),
    export("push_to_hub", right="None", says="push_to_hub"),
    export("create_pr", right="", says="create_pr"),
    export("precision", right="None", says="precision|exports"),
    export("exporter", right="None", says="exporter|exports with"),
    export("device", right="None text path", says="device"),
    export("trust_remote_code", right="None flag"),
    export("model_kwargs", right="None mapping"),
    export("config_kwargs", right="None mapping"),
    export("min_cosine", right="None flag number"),
    export("max_score_difference", right="None number"),
    *(
        change(operation, argument, right, says)
        for operation in ("optimize", "quantize")
        for argument, right, says in (
            ("model", "", "takes a model from core.load"),
            ("target", PATHS, "target"),
            ("config", "None mapping", "config|optimizes to|quantizes to"),
            ("file_suffix", "None", "file_suffix"),
            ("push_to_hub", "None", "push_to_hub"),
            ("create_pr", "", "create_pr"),
            ("min_cosine", "None flag", "min_cosine"),
            ("backend_kwargs", "None mapping", "backend_kwargs"),
        )
    ),
    embed_dataset("source", "", "source"),
    embed_dataset("target", "path", "target"),
    embed_dataset("model", "", "A model is named|no directory|not the name"),
    embed_dataset("text_column", ""),
    embed_dataset("id_column"),
    embed_dataset("on_error", ""),
    embed_dataset("overwrite", "flag"),
    embed_dataset("rows_per_part", POSITIVE),
    embed_dataset("show_progress_bar", "None flag"),
    embed_dataset("runner"),
    tune("model_name_or_path", "", "A model is named|no directory|not the name"),
    tune("texts", "", "texts|holds|encode takes|Texts are read"),
    tune("backends"),
    tune("minutes", "number"),
    tune("objective", ""),
    tune("min_recall"),
    tune("min_cosine"),
    tune("max_quality_loss"),
    tune("pairs", says="pair|file that ends"),
    tune("corpus", says="corpus"),
    tune("queries", says="queries"),
    tune("qrels", says="qrels"),
    tune("target", PATHS),
    tune("field"),
    tune("device"),
    tune("revision"),
    tune("token", "None flag"),
    tune("cache_dir", PATHS),
    tune("local_files_only", "flag"),
    tune("trust_remote_code", "flag"),
    tune("write", "flag"),
    tune("fresh", "flag"),
    tune("on_progress"),
    change(
        "quantize", "calibration", "None", "calibration|encode takes|Cannot read|Texts are read"
    ),
    change("quantize", "num_samples", "None number flag"),
    row("save model", lambda s, wrong: core.save(wrong, s.path / "absent"), says="core.save takes"),
    row("save path", lambda s, wrong: core.save(s.model, wrong), "path"),
    row("push path", lambda s, wrong: core.push(wrong, "a/b"), "path"),
    row("push create_pr", lambda s, wrong: core.push(s.path, "a/b", create_pr=wrong), "flag"),
    row("push text", lambda s, wrong: core.push(s.path, "a/b", text=wrong), "None text"),
    row("model.save card", lambda s, wrong: s.model.save(s.path, card=wrong), "None"),
    row("hooks backend", lambda _, wrong: core.hooks(wrong), says="backend"),
    row("register_backend name", lambda _, wrong: core.register_backend(wrong, object())),
    row(
        "register_backend plugin",
        lambda _, wrong: core.register_backend("mine", wrong),
        says="Backend 'mine' cannot be used",
    ),
    row("register_plugin name", lambda _, wrong: core.register_plugin(wrong, object())),
    row(
        "register_plugin plugin",
        lambda _, wrong: core.register_plugin("mine", wrong),
        says="Plugin 'mine' cannot be used",
    ),
    *(
        row(
            f"{where}quantize_embeddings {argument}",
            lambda s, wrong, call=call, argument=argument: call(
                **{"embeddings": s.rows, "precision": "int8", argument: wrong}
            ),
            "None" if argument in ("ranges", "calibration_embeddings") else "",
        )
        for where, call in (("", core.quantize_embeddings), ("util.", util.quantize_embeddings))
        for argument in ("embeddings", "precision", "ranges", "calibration_embeddings")
    ),
    *(
        row(
            f"ProcessPool {argument}",
            lambda s, wrong, argument=argument: core.ProcessPool(
                **{"model": s.model, "processes": 1, argument: wrong}
            ),
            right,
        )
        for argument, right in (
            ("model", ""),
            ("processes", POSITIVE),
            ("threads", POSITIVE),
            ("devices", "None"),
        )
    ),
    encode("prompt_name", "None text"),
    encode("prompt", "None text"),
    encode("batch_size", POSITIVE),
    encode("batch_tokens", POSITIVE),
    encode("workers", POSITIVE),
    encode("output_value", ""),
    encode("precision", ""),
    encode("truncate_dim", POSITIVE),
    *(
        row(
            f"model.{method} texts",
            lambda s, wrong, method=method: getattr(s.model, method)(wrong),
            "list text",
            "encode takes",
        )
        for method in ("encode", "encode_query", "encode_document", "tokenize", "count_tokens")
    ),
    row("encode_stream texts", lambda s, wrong: s.model.encode_stream(wrong), "list"),
    row(
        "encode_stream window",
        lambda s, wrong: s.model.encode_stream(["a"], window=wrong),
        "number",
    ),
    *(
        row(
            f"{method} {side}",
            lambda s, wrong, m=method, side=side: getattr(s.model, m)(
                **{"a": s.rows, "b": s.rows, side: wrong}
            ),
            says=f"{side} must|Embeddings of",
        )
        for method in ("similarity", "similarity_pairwise")
        for side in ("a", "b")
    ),
    *setting("truncate_dim", POSITIVE),
    *setting("max_seq_length", POSITIVE),
    *setting("default_prompt_name"),
    *setting("prompts", "mapping"),
    *setting("similarity_fn_name", "None list mapping text"),
    push("repo_id", "", "is not the name of a repository"),
    push("token", "None flag"),
    push("private", "None flag"),
    push("revision"),
    push("commit_message"),
    push("create_pr", "flag"),
    push("exist_ok", "flag"),
    push("replace_model_card", "flag"),
    push("card"),
    hook("load", "source", says="A model is named|no directory|not the name"),
    hook("export", "source", says="A model is named|no directory|not the name"),
    hook("optimize", "model", says="takes a model"),
    hook("quantize", "model", says="takes a model"),
    hook("encode", "model", says="takes a model"),
    hook("save", "model", says="takes a model"),
    hook("encode", "texts", "list", "encode takes"),
    *(hook(operation, "target", PATHS) for operation in ("export", "optimize", "quantize")),
    hook("save", "target", "path"),
    *(
        hook(operation, "options", "None")
        for operation in ("load", "export", "optimize", "quantize", "encode", "save")
    ),
    dropin("model_name_or_path", "", "A model is|no directory|not the name"),
    dropin("prompts", "None mapping"),
    dropin("default_prompt_name"),
    dropin("cache_folder", "None path text list mapping", "cache_dir"),
    dropin("revision"),
    dropin("token", "None flag"),
    dropin("model_kwargs", "None mapping"),
    dropin("processor_kwargs", "None mapping"),
    dropin("tokenizer_kwargs", "None mapping"),
    dropin("config_kwargs", "None mapping"),
    dropin("truncate_dim", POSITIVE),
    row(
        "drop-in encode inputs",
        lambda s, wrong: s.dropin.encode(wrong),
        "list text",
        "Input|encode",
    ),
    row(
        "drop-in encode pool",
        lambda s, wrong: s.dropin.encode(["a"], pool=wrong),
        "None",
    ),
    row(
        "drop-in tokenize texts",
        lambda s, wrong: s.dropin.tokenize(wrong),
        "list text",
        "Input|encode",
    ),
    row("drop-in save path", lambda s, wrong: s.dropin.save(wrong), "None path"),
    row(
        "drop-in start_multi_process_pool target_devices",
        lambda s, wrong: s.dropin.start_multi_process_pool(wrong),
        "None",
        "devices",
    ),
    row(
        "drop-in stop_multi_process_pool pool",
        lambda s, wrong: s.dropin.stop_multi_process_pool(wrong),
    ),
    *(
        row(
            f"semantic_search {argument}",
            lambda s, wrong, argument=argument: util.semantic_search(
                **{"query_embeddings": s.rows, "corpus_embeddings": s.rows, argument: wrong}
            ),
            right,
        )
        for argument, right in (
            ("query_embeddings", "list"),
            ("corpus_embeddings", "list"),
            ("query_chunk_size", "number"),
            ("corpus_chunk_size", "number"),
            ("top_k", "number"),
            ("score_function", ""),
        )
    ),
    row(
        "normalize_embeddings embeddings", lambda _, wrong: util.normalize_embeddings(wrong), "list"
    ),
    row(
        "truncate_embeddings embeddings",
        lambda _, wrong: util.truncate_embeddings(wrong, 3),
        "list",
    ),
    row(
        "truncate_embeddings truncate_dim",
        lambda s, wrong: util.truncate_embeddings(s.rows, wrong),
        POSITIVE,
    ),
    row("batch_to_device batch", lambda _, wrong: util.batch_to_device(wrong, "cpu"), "mapping"),
    row("cos_sim a", lambda s, wrong: util.cos_sim(wrong, s.rows), says="a must|Embeddings of"),
    row(
        "SimilarityFunction name",
        lambda _, wrong: SimilarityFunction.to_similarity_fn(wrong),
        says="A similarity function",
    ),
    *(
        row(
            f"{function.__name__} model",
            lambda _, wrong, function=function: function(wrong, "O1", "absent"),
            says="The model must be",
        )
        for function in (export_optimized_onnx_model, export_dynamic_quantized_onnx_model)
    ),
    options(core.LoadOptions, "device", "None text"),
    options(core.LoadOptions, "export", "None flag"),
    options(core.ExportOptions, "file_name", "None text"),
    options(core.ExportOptions, "min_cosine", "None flag"),
    options(core.OptimizeOptions, "file_suffix", "None"),
    options(core.QuantizeOptions, "num_samples", POSITIVE),
    options(core.EncodeOptions, "output_value", ""),
    options(core.EncodeOptions, "precision", ""),
    options(core.EncodeOptions, "truncate_dim", POSITIVE),
    options(core.SaveOptions, "keep_source", "flag"),
    options(core.SaveOptions, "card", "None"),
    *(options(core.CardData, name, "None text") for name in ("title", "name", "task")),
    options(core.CardData, "header", "mapping"),
]


@pytest.mark.parametrize("tried", ROWS, ids=lambda tried: tried.name)
def test_a_wrong_value_is_refused_by_name(
    subjects: Subjects, tried: Row, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for kind, wrong in WRONG.items():
        if kind not in tried.right.split():
            with pytest.raises(core.CoreError, match=tried.says):
                tried.call(subjects, wrong)
    assert not list(tmp_path.iterdir())


def test_every_public_function_is_tried() -> None:
    functions = {name for name in core.__all__ if inspect.isfunction(getattr(core, name))}
    # Without arguments, a marker, or for the body of a hook.
    functions -= {"backends", "plugins", "hookimpl", "build_model", "encode_texts"}
    tried = {tried.name.split()[0] for tried in ROWS}
    assert functions <= tried
    assert {
        f"hooks.{name}" for name in ("load", "export", "optimize", "quantize", "encode", "save")
    } <= tried
    methods = {n for n, v in vars(EmbeddingModel).items() if inspect.isfunction(v) and n[0] != "_"}
    known = {name.removeprefix("model.") for name in tried}
    # What the operations ask of a model.
    methods -= {"state", "restore", "checked", "check_options", "finish", "join", "note_result"}
    methods -= {"first_of", "spread"}
    assert methods <= known


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda s: core.load(s.path, bakend="onnx"), "load does not take 'bakend'.*'backend'"),
        (lambda s: core.load(s.path, cache_folder="x"), "'cache_folder'.* It takes: .*cache_dir"),
        (lambda s: core.export(s.path, bakend="onnx"), "'bakend'.*'backend'"),
        (lambda s: core.optimize(s.model, "O1", targte="x"), "'targte'.*'target'"),
        (lambda s: core.quantize(s.model, "avx2", push_to_hubb=True), "'push_to_hub'"),
        (lambda s: core.save(s.model, pth="x"), "'pth'.*'path'"),
        (lambda s: s.model.push_to_hub("a/b", privat=True), "'privat'.*'private'"),
        (lambda s: s.model.encode("a", batchsize=1), "'batchsize'.*'batch_size'"),
        (lambda s: core.ProcessPool(s.model, process=1), "'process'.*'processes'"),
        (lambda s: core.quantize_embeddings(s.rows, precison="int8"), "'precison'.*'precision'"),
        (lambda s: SentenceTransformer(s.path, bakend="onnx"), "'bakend'.*'backend'"),
        (lambda s: core.hooks(backed="onnx"), "'backed'.*'backend'"),
    ],
)
def test_an_unknown_keyword_gets_a_suggestion(
    subjects: Subjects, call: Callable[[Subjects], Any], says: str
) -> None:
    with pytest.raises(core.OptionError, match=says):
        call(subjects)


def test_a_wrong_number_of_arguments_stays_a_type_error(subjects: Subjects) -> None:
    with pytest.raises(TypeError):
        core.load()  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        core.load(subjects.path, "onnx")  # type: ignore[misc]


def test_signatures_are_as_they_read() -> None:
    assert list(inspect.signature(core.load).parameters)[:3] == [
        "model_name_or_path", "backend", "device",
    ]  # fmt: skip
    assert "self" not in str(inspect.signature(core.ProcessPool))
    assert [f.name for f in dataclasses.fields(core.SaveOptions)] == ["keep_source", "card"]
