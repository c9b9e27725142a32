"""What a backend may use of `core`, besides the names of `core` itself and `core.errors`.

The second public face: a backend, and any other package that computes with models, imports `core`,
`core.errors` and `core.toolkit`, and nothing below them. docs/reference.md has the page.
"""

from __future__ import annotations

from core.architecture.activations import ACTIVATIONS
from core.architecture.configuration import (
    LEADING_ELSEWHERE,
    SETTINGS_WITHOUT_EFFECT,
    clean_configuration,
)
from core.architecture.graph import Elementwise, GraphArray, GraphBuilder, Reduction
from core.architecture.heads import MaskedLanguageHead, Scoring
from core.architecture.limits import check_sizes
from core.architecture.modules import (
    POOLING_MODES,
    Dense,
    LayerNorm,
    Module,
    Normalize,
    Pooling,
    append_modules,
    append_token_modules,
    follows_pooling,
    pools_prompt,
    run_modules,
    run_sentence_modules,
    run_token_modules,
    unit_length,
)
from core.architecture.sparse_modules import SpladePooling
from core.architecture.token_heads import (
    HEAD_OUTPUTS,
    TokenHeads,
    finish_head,
    run_outputs,
)
from core.artifacts.artifact import DTYPE_PRECISIONS, SIDECAR_SUFFIX
from core.artifacts.naming import artifact_name, derived_name, installed_versions
from core.artifacts.plain import plain_folder
from core.engine.arrow import arrow_column
from core.engine.batching import cpu_batch_tokens, cut_batches, logits_batch_tokens, pad
from core.engine.calibration import calibration_batches
from core.engine.graphs import (
    GRAPH_INPUTS,
    SENTENCE_OUTPUTS,
    TOKEN_OUTPUTS,
    VECTOR_OUTPUTS,
    GraphHeads,
    GraphOutput,
    check_inputs,
    check_labels,
    check_token_width,
    check_tokens_shape,
    check_vector_width,
    choose_logits,
    choose_outputs,
    choose_vectors,
    modules_after,
    modules_after_vectors,
    scores_of,
)
from core.engine.rounding import Moments, WeightRounder, moment_parts, round_weights
from core.engine.runtime import as_numpy
from core.engine.smoothing import ChannelRanges, smoothing_factors
from core.files.held import HeldFiles
from core.files.onnx_file import QUANTIZED_OPERATORS, OnnxFile, external_files, read_onnx_file
from core.files.paths import check_relative
from core.files.pointers import check_fetched
from core.files.staging import copy_file
from core.files.weights import check_safetensors, read_weights, write_safetensors
from core.machine.cpus import THREADS_VARIABLE, available_cpus
from core.machine.forks import abandon_in_forks
from core.machine.process_wide import process_wide
from core.machine.processor import INT8_INSTRUCTIONS, processor_flags, processor_vendor
from core.machine.quiet import quiet_transformers
from core.machine.stages import announce
from core.machine.surroundings import (
    expand_home,
    explain_surroundings,
    stderr_is_terminal,
    temporary_directory,
)
from core.operations.embedding_agreement import compare
from core.operations.origin import open_source
from core.operations.probes import probe_texts
from core.operations.sensitivity import has_floor, keep_sensitive_layers
from core.options import (
    DENSE,
    SPARSE,
    check_exporter,
    check_names,
    check_positive,
    suggestion,
)
from core.texts.calibration import DATASET_ARGUMENTS, choose_samples, choose_varied_samples
from core.tokenizer.tokenizer import Tokenizer

__all__ = [
    "ACTIVATIONS",
    "DATASET_ARGUMENTS",
    "DENSE",
    "DTYPE_PRECISIONS",
    "GRAPH_INPUTS",
    "HEAD_OUTPUTS",
    "INT8_INSTRUCTIONS",
    "LEADING_ELSEWHERE",
    "POOLING_MODES",
    "QUANTIZED_OPERATORS",
    "SENTENCE_OUTPUTS",
    "SETTINGS_WITHOUT_EFFECT",
    "SIDECAR_SUFFIX",
    "SPARSE",
    "THREADS_VARIABLE",
    "TOKEN_OUTPUTS",
    "VECTOR_OUTPUTS",
    "ChannelRanges",
    "Dense",
    "Elementwise",
    "GraphArray",
    "GraphBuilder",
    "GraphHeads",
    "GraphOutput",
    "HeldFiles",
    "LayerNorm",
    "MaskedLanguageHead",
    "Module",
    "Moments",
    "Normalize",
    "OnnxFile",
    "Pooling",
    "Reduction",
    "Scoring",
    "SpladePooling",
    "TokenHeads",
    "Tokenizer",
    "WeightRounder",
    "abandon_in_forks",
    "announce",
    "append_modules",
    "append_token_modules",
    "arrow_column",
    "artifact_name",
    "as_numpy",
    "available_cpus",
    "calibration_batches",
    "check_exporter",
    "check_fetched",
    "check_inputs",
    "check_labels",
    "check_names",
    "check_positive",
    "check_relative",
    "check_safetensors",
    "check_sizes",
    "check_token_width",
    "check_tokens_shape",
    "check_vector_width",
    "choose_logits",
    "choose_outputs",
    "choose_samples",
    "choose_varied_samples",
    "choose_vectors",
    "clean_configuration",
    "compare",
    "copy_file",
    "cpu_batch_tokens",
    "cut_batches",
    "derived_name",
    "expand_home",
    "explain_surroundings",
    "external_files",
    "finish_head",
    "follows_pooling",
    "has_floor",
    "installed_versions",
    "keep_sensitive_layers",
    "logits_batch_tokens",
    "modules_after",
    "modules_after_vectors",
    "moment_parts",
    "open_source",
    "pad",
    "plain_folder",
    "pools_prompt",
    "probe_texts",
    "process_wide",
    "processor_flags",
    "processor_vendor",
    "quiet_transformers",
    "read_onnx_file",
    "read_weights",
    "round_weights",
    "run_modules",
    "run_outputs",
    "run_sentence_modules",
    "run_token_modules",
    "scores_of",
    "smoothing_factors",
    "stderr_is_terminal",
    "suggestion",
    "temporary_directory",
    "unit_length",
    "write_safetensors",
]
