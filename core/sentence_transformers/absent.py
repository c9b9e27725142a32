"""Names of the reference that are not here, and what to do instead."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import NoReturn

from core.errors import UnsupportedOperation

_PACKAGE = "core.sentence_transformers"


class NotProvided(UnsupportedOperation, AttributeError):  # noqa: N818
    """An attribute of the reference that has no counterpart here; the message says what has."""


class NotImportable(UnsupportedOperation, ImportError):  # noqa: N818
    """A name of the reference that is not here; the message says where it is."""


_PAIRS = "training rerankers"
_SPARSE = "training sparse encoders"
_LATE = "training multi-vector models"
_FAMILIES: dict[str, str] = {}
_PARTS = ("", "Trainer", "TrainingArguments", "ModelCardData")
_FOR_TRAINING = (
    "DefaultBatchSampler",
    "InputExample",
    "MultiDatasetDefaultBatchSampler",
    "ParallelSentencesDataset",
    "SentenceTransformerTrainer",
    "SentenceTransformerTrainingArguments",
    "SentencesDataset",
    "data_collator",
    "datasets",
    "fit_mixin",
    "losses",
    "mine_hard_negatives",
    "peft_mixin",
    "readers",
    "resolve_ids",
    "sampler",
    "trainer",
    "training_args",
)
#: Name of an attribute or submodule to what it is for.
ELSEWHERE = {
    **{family + part: use for family, use in _FAMILIES.items() for part in _PARTS},
    **dict.fromkeys(_FOR_TRAINING, "training"),
    **{f"CrossEncoder{part}": _PAIRS for part in _PARTS[1:]},
    **{f"MultiVectorEncoder{part}": _LATE for part in _PARTS[1:]},
    **{f"SparseEncoder{part}": _SPARSE for part in _PARTS[1:]},
    "LoggingHandler": "a handler of log records",
    "base": "putting a model together from torch modules",
    "evaluation": "evaluation",
    "models": "putting a model together from torch modules",
    "sentence_transformer": "putting a model together from torch modules",
}


def refuse_import(name: str, use: str | None = None) -> NoReturn:
    """Raise `NotImportable` for a name of the reference; `use` is what it is for."""
    use = use or ELSEWHERE[name]
    raise NotImportable(
        f"{_PACKAGE} has no {name}: core embeds texts, and {use} is outside it. Import {name} from "
        "sentence_transformers; models saved by either load in the other."
    )


class _Submodules(MetaPathFinder):
    """Explains `import core.sentence_transformers.losses` as its `from` form is explained.

    Asked only after every other finder, so only for modules that do not exist.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        package, _, name = fullname.rpartition(".")
        if package != _PACKAGE:
            return None
        # Without it the package is being imported still: Python says so better.
        if name == "SentenceTransformer" and hasattr(sys.modules.get(_PACKAGE), name):
            raise NotImportable(
                f"{_PACKAGE}.SentenceTransformer is a class, not a module: "
                f"`from {_PACKAGE} import SentenceTransformer`."
            )
        if name in ELSEWHERE:
            refuse_import(name)
        return None


sys.meta_path.append(_Submodules())


class Absent:
    """An attribute of the reference that says what to do instead, on class and instance."""

    def __init__(self, name: str, advice: str) -> None:
        self.name, self.advice = name, advice

    def __get__(self, instance: object, owner: type | None = None) -> NoReturn:
        kind = (owner or type(instance)).__name__
        raise NotProvided(f"{kind}.{self.name} is not in core. {self.advice}")


#: What belongs to training or to torch's modules, and what to do instead.
_ADVICE = {
    "Train with sentence_transformers, and load what it saved here.": (
        "active_adapters",
        "add_adapter",
        "backward",
        "delete_adapter",
        "disable_adapters",
        "enable_adapters",
        "fit",
        "get_adapter_state_dict",
        "gradient_checkpointing_enable",
        "load_adapter",
        "old_fit",
        "set_adapter",
        "smart_batching_collate",
        "zero_grad",
    ),
    "A model here is not a torch module; the torch backend's is model.transformers_model.": (
        "add_module",
        "append",
        "apply",
        "auto_model",
        "buffers",
        "children",
        "forward",
        "get_submodule",
        "load_state_dict",
        "modules",
        "named_buffers",
        "named_children",
        "named_modules",
        "named_parameters",
        "parameters",
        "register_forward_hook",
        "register_forward_pre_hook",
        "state_dict",
    ),
    "Its newer name is push_to_hub.": ("save_to_hub",),
    'A compiled model is an artifact: core.optimize(model.embedding_model, "compile").': (
        "compile",
    ),
    "Its newer name is preprocess.": ("get_sentence_features",),
    'Set "include_prompt" in the model\'s 1_Pooling/config.json.': ("set_pooling_include_prompt",),
    "Merge models with sentence_transformers, and load the result here.": ("merge",),
    "Models compute in float32, float16 or bfloat16.": ("double",),
    "A module of a model is a torch module in the reference, and no backend but torch has any.": (
        "_first_module",
        "_last_module",
    ),
}


class Unprovided:
    """The attributes of a reference model that are not here; each is an `Absent`."""


for _advice, _names in _ADVICE.items():
    for _name in _names:
        setattr(Unprovided, _name, Absent(_name, _advice))
