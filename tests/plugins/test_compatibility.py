"""What version 1 of the hook specifications promised is still there: docs/compatibility.md.

A name missing here breaks plugins that were written for version 1. Add what is new; take out only
together with a higher `SPEC_VERSION`.
"""

from __future__ import annotations

import dataclasses
import inspect

import pytest

import core
from core.plugin import hookspecs
from core.plugin.capabilities import Capabilities

HOOKS_OF_VERSION_1 = {
    "load": {"source", "options"},
    "export": {"source", "target", "options"},
    "optimize": {"model", "target", "options"},
    "quantize": {"model", "target", "options"},
    "encode": {"model", "texts", "options"},
    "save": {"model", "target", "options"},
}

FIELDS_OF_VERSION_1 = {
    core.LoadOptions: "device file_name trust_remote_code model_kwargs config_kwargs",
    core.ExportOptions: "precision exporter file_name device trust_remote_code model_kwargs "
    "config_kwargs backend_kwargs min_cosine",
    core.OptimizeOptions: "config file_suffix backend_kwargs min_cosine",
    core.QuantizeOptions: "config calibration num_samples file_suffix backend_kwargs min_cosine",
    core.EncodeOptions: "prompt prompt_name batch_size batch_tokens workers show_progress_bar "
    "output_value precision normalize_embeddings truncate_dim convert_to_tensor",
    core.SaveOptions: "keep_source",
    Capabilities: "spec_version devices precisions file_names file_patterns model_kwargs "
    "exports_from auto_export artifact_folder source",
}

NAMES_OF_VERSION_1 = {
    core.EmbeddingModel: "source runtime tokenizer dimension full_dimension hooks backend device "
    "dtype prompts identity encode close",
    core.Checkpoint: "name names path folder has read_json architecture commit repo_id",
    core.Runtime: "token_embeddings sentence_embeddings preferred_workers close device dtype "
    "max_workers batch_tokens",
    core.Hooks: "load export optimize quantize encode save raw_encode unwrapped name capabilities "
    "implemented distribution",
}


@pytest.mark.parametrize("hook", HOOKS_OF_VERSION_1)
def test_hooks_keep_their_arguments(hook: str) -> None:
    assert HOOKS_OF_VERSION_1[hook] <= set(inspect.signature(getattr(hookspecs, hook)).parameters)
    assert HOOKS_OF_VERSION_1.keys() <= set(hookspecs.HOOK_NAMES)
    assert set(hookspecs.REQUIRED_HOOKS) == {"load", "encode"}, "a plugin of version 1 has no other"


@pytest.mark.parametrize("options", FIELDS_OF_VERSION_1, ids=lambda kind: kind.__name__)
def test_options_keep_their_fields_and_all_have_defaults(options: type) -> None:
    names = {field.name for field in dataclasses.fields(options)}
    assert set(FIELDS_OF_VERSION_1[options].split()) <= names
    options()


@pytest.mark.parametrize("kind", NAMES_OF_VERSION_1, ids=lambda kind: kind.__name__)
def test_what_plugins_call_is_still_there(kind: type, minilm_torch: core.EmbeddingModel) -> None:
    examples = (minilm_torch, minilm_torch.source, minilm_torch.runtime, minilm_torch.hooks)
    (example,) = (value for value in examples if isinstance(value, kind))
    for name in NAMES_OF_VERSION_1[kind].split():
        assert hasattr(example, name), name
