"""The models a server has: loading them, whatever their kind, and what a request may ask of one."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import core
from core.errors import OptionError, UnsupportedOperation
from core.toolkit import Pooling
from core_server.dispatcher import Dispatcher
from core_server.engine import (
    Engine,
    InProcess,
    InProcesses,
    Padding,
    engine_batch_tokens,
    server_batch_tokens,
)
from core_server.failures import RequestFailedError
from core_server.job import Call
from core_server.lengths import Lengths
from core_server.metrics import Metrics, ModelMetrics
from core_server.settings import Settings
from core_server.vocabulary import Vocabulary

#: Functions of core that load a model, each of another kind.
_LOADERS = ("load", "load_reranker", "load_sparse", "load_multi_vector")
#: The turn of models without a limit, in tokens.
_USUAL_LENGTH = 512

EMBEDDING, RERANKER, SPARSE, MULTI_VECTOR = "embedding", "reranker", "sparse", "multi_vector"

#: What each kind of model does. An embedding model with further heads does more: `outputs`.
_TASKS: Mapping[str, frozenset[str]] = {
    EMBEDDING: frozenset({"dense", "tokens", "tokenize"}),
    RERANKER: frozenset({"scores", "tokenize"}),
    SPARSE: frozenset({"sparse", "tokenize"}),
    MULTI_VECTOR: frozenset({"tokens", "tokenize"}),
}
#: Names of prompts to what `task` calls the texts they are for.
_ROLES = {"query": "query", "document": "document", "passage": "document", "corpus": "document"}
#: What a kind is called, and what is needed for a task, in messages.
_KINDS = {
    EMBEDDING: "an embedding model",
    RERANKER: "a reranker",
    SPARSE: "a sparse encoder",
    MULTI_VECTOR: "a multi-vector model",
}
_WHAT = {
    "dense": "embedding models",
    "tokens": "embedding models and multi-vector models",
    "sparse": "sparse encoders, and for embedding models with a head for words",
    "scores": "rerankers",
    "tokenize": "every model",
}


@dataclass(eq=False)
class ServedModel:
    """A model behind a queue.

    Attributes:
        name: What clients call it.
        model: Its prompts, labels, limits and tokenizer. With `workers` it computes nothing.
    """

    name: str
    model: Any
    dispatcher: Dispatcher
    aliases: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    client_vocabulary: Vocabulary | None = None
    #: When it was loaded, in seconds since 1970.
    created: int = field(default_factory=lambda: int(time.time()))

    @property
    def kind(self) -> str:
        return str(self.model.kind)

    @functools.cached_property
    def tasks(self) -> frozenset[str]:
        """What it does."""
        more = {"sparse"} & set(getattr(self.model, "outputs", ()))
        return _TASKS[self.kind] | more

    @functools.cached_property
    def vocabulary(self) -> Vocabulary:
        """The model's own tokenizer, nothing cut.

        Raises:
            RequestFailedError: The backend takes text and has none.
        """
        if not self.model.has_tokenizer:
            raise RequestFailedError(422, f"The model {self.name!r} has no tokenizer.")
        return Vocabulary.of_model(self.model)

    def prompt(self, name: str | None) -> str:
        """The prompt of this name; the model's default for None.

        Raises:
            RequestFailedError: It has none of this name.
        """
        name = self.model.default_prompt_name if name is None else name
        if name is None:
            return ""
        if name not in self.model.prompts:
            listed = ", ".join(map(repr, sorted(self.model.prompts))) or "none"
            raise RequestFailedError(
                422,
                f"{self.name!r} has no prompt {name!r}. Its prompts: {listed}.",
                param="prompt_name",
            )
        return str(self.model.prompts[name])

    def call(self, task: str, prompt_name: str | None = None) -> Call:
        """What to ask for a task.

        Sparse encoders and multi-vector models tell queries from documents by more than a prompt:
        its name then says which the texts are, whether they have such a prompt or not.

        Raises:
            RequestFailedError: The model has no prompt of this name.
        """
        if task == "tokens" and self.kind == MULTI_VECTOR:
            task = "multi_vector"
        role = ""
        if self.kind in (SPARSE, MULTI_VECTOR):
            role = _ROLES.get(prompt_name or "", "")
        if role and prompt_name not in self.model.prompts:
            return Call(task, "", role)
        return Call(task, self.prompt(prompt_name), role)

    def check_knows_cuts(self, param: str) -> None:
        """Refuse a request about what is cut of a backend that cuts text by itself.

        Raises:
            RequestFailedError: It is one.
        """
        if not self.model.has_tokenizer:
            raise RequestFailedError(
                422,
                f"The model {self.name!r} takes text and cuts it by itself, so nothing here knows "
                f'what is too long for it. Leave "{param}" out.',
                param=param,
            )

    def check_length(
        self,
        inputs: Sequence[Any],
        call: Call,
        otherwise: str = 'let the server cut it: "truncate": true',
    ) -> None:
        """Refuse inputs that the model would cut.

        Args:
            otherwise: What a client may do but shorten the input.

        Raises:
            RequestFailedError: The first of them, and how many tokens it has; or the backend takes
                text, and only it knows what it cuts.
        """
        self.check_knows_cuts("truncate")
        rows = self.model.with_prompt(inputs, call.prompt)
        positions, counts = self.model.tokenizer.find_cut(rows)
        if len(positions):
            raise RequestFailedError(
                422,
                f"Input {positions[0]} has {counts[0]} tokens, and the model reads "
                f"{self.model.max_seq_length}. Shorten it, or {otherwise}.",
                param="inputs",
            )


class Models:
    """Everything served, in the order of the command line."""

    def __init__(self, served: Sequence[ServedModel]) -> None:
        self.served = tuple(served)

    def __iter__(self) -> Any:
        return iter(self.served)

    def choose(self, name: str | None, task: str) -> ServedModel:
        """The model of this name that does the task; the first that does, for no name.

        Where only one model does it, clients that insist on a name of their own get that one, as
        they do from Text Embeddings Inference.

        Raises:
            RequestFailedError: There is none of this name (404), or none for the task (422).
        """
        able = [one for one in self.served if task in one.tasks]
        named = next((one for one in self.served if name in (one.name, *one.aliases)), None)
        if named is not None and task not in named.tasks:
            found = f"{named.name!r} is {_KINDS[named.kind]}"
            hint = f" Here that is {' or '.join(repr(one.name) for one in able)}." if able else ""
            raise RequestFailedError(
                422, f"{found}, and this route is for {_WHAT[task]}.{hint}", param="model"
            )
        if not able:
            listed = ", ".join(f"{one.name!r} ({_KINDS[one.kind]})" for one in self.served)
            raise RequestFailedError(
                422,
                f"This route is for {_WHAT[task]}, and the server has {listed}.",
                param="model",
            )
        if named is None and name and len(able) > 1:
            listed = ", ".join(repr(one.name) for one in able)
            raise RequestFailedError(
                404,
                f"There is no model {name!r} here. Choose one of {listed}.",
                param="model",
                code="model_not_found",
            )
        return named or able[0]

    def close(self) -> None:
        """Finish what waits, and free everything."""
        for one in self.served:
            one.dispatcher.close()


def load_models(
    specifications: Sequence[str],
    settings: Settings,
    metrics: Metrics,
    **options: Any,
) -> Models:
    """Load what the command line names.

    Args:
        specifications: `MODEL`, or `NAME=MODEL` to call it so.
        options: Of `core.load`: `backend`, `device`, ...

    Raises:
        CoreError: One cannot be loaded, or two have one name.
    """
    served: list[ServedModel] = []
    try:
        for specification in specifications:
            name, source, aliases = _named(specification)
            if any("\ud800" <= character <= "\udfff" for character in name):
                raise OptionError(
                    f"a model cannot be called {name!r}: its bytes are not UTF-8, and no answer "
                    "could name it. Call it something else: NAME=MODEL."
                )
            taken = [one for one in served if name in (one.name, *one.aliases)]
            if taken:
                raise OptionError(
                    f"two models are called {name!r}. Name one of them yourself: NAME={source}."
                )
            served.append(_serve(name, source, aliases, settings, metrics, options))
    except BaseException:
        for one in served:
            one.dispatcher.close()
        raise
    return Models(served)


def _named(specification: str) -> tuple[str, str, tuple[str, ...]]:
    """(name, what to load, other names)."""
    name, equals, source = specification.partition("=")
    if equals and name and source and not Path(specification).exists():
        return name, source, (source,)
    short = specification.rstrip("/\\").replace("\\", "/").rpartition("/")[2]
    if Path(specification).exists():
        return short or specification, specification, (specification,)
    return specification, specification, (short,)


def _serve(
    name: str,
    source: str,
    aliases: tuple[str, ...],
    settings: Settings,
    metrics: Metrics,
    options: Mapping[str, Any],
) -> ServedModel:
    load = functools.partial(load_any, source, **options)
    model = load()
    batch_tokens = settings.max_batch_tokens or server_batch_tokens(model)
    engine_tokens = engine_batch_tokens(model)
    if engine_tokens is not None:
        engine_tokens = min(engine_tokens, batch_tokens)
    facts = _facts(model) | {"max_batch_tokens": batch_tokens}
    padding = Padding(model, engine_tokens)
    engine: Engine
    if settings.workers:
        try:
            engine = InProcesses(model, settings.workers, engine_tokens)
        except BaseException:
            model.close()
            raise
    else:
        engine = InProcess(model, load, engine_tokens)
    dispatcher = Dispatcher(
        engine,
        ModelMetrics(metrics, name),
        Lengths(model),
        padding,
        batch_tokens=batch_tokens,
        turn=model.max_seq_length or _USUAL_LENGTH,
        max_inputs=settings.max_queued_inputs,
    )
    metrics.up.labels(name).set_function(lambda: float(dispatcher.up))
    vocabulary = Vocabulary.of_clients(settings.client_tokenizer, model)
    return ServedModel(name, model, dispatcher, aliases, facts, vocabulary)


def load_any(source: str, **options: Any) -> Any:
    """The model, whatever its kind: with the first function of core that takes it.

    Raises:
        CoreError: What is wrong with the model, from the function that loads its kind.
    """
    reason: UnsupportedOperation | None = None
    for name in _LOADERS:
        load: Callable[..., Any] | None = getattr(core, name, None)
        if load is None:
            continue
        try:
            return load(source, **options)
        except UnsupportedOperation as error:
            # The others say which function loads it; its own says what is wrong.
            if reason is None or "core.load" in str(reason):
                reason = error
    assert reason is not None
    raise reason


def _facts(model: Any) -> dict[str, Any]:
    """What `/info` tells, read while the runtime is open."""
    facts = {
        "backend": model.backend,
        "device": model.device,
        "dtype": model.dtype,
        "revision": getattr(model.source, "revision", None),
        "max_input_length": model.max_seq_length,
        "prompts": sorted(model.prompts),
    }
    if model.kind == EMBEDDING:
        facts["dimension"] = model.dimension
        facts["outputs"] = list(model.outputs)
        architecture = getattr(model.runtime, "architecture", None)
        modes = [m.modes for m in getattr(architecture, "modules", ()) if isinstance(m, Pooling)]
        facts["pooling"] = "+".join(modes[0]) if modes else None
    if model.kind == RERANKER:
        facts["labels"] = list(model.labels)
    return facts
