"""`core export`, `core optimize`, `core quantize`: one artifact each, and what it gained."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from functools import partial
from typing import Any

from core.arguments import check_path, in_any_case, suggestion
from core.artifacts.tuned import TUNED
from core.cli.arguments import (
    add_json,
    add_model,
    load_model,
    parse_option,
    print_json,
    size_of,
)
from core.errors import OptionError
from core.machine.stages import announce
from core.plugin.registry import registry
from core.tuning.measure import Ratio, interleaved

_ROUNDS = 5
#: Options with an argument of their own that `--set` may name, too.
_OWN = ("field", "num_samples")
#: Names of the argument that MODEL is, in the functions that are called.
_MODEL = ("model_name_or_path", "self")


def add_commands(commands: Any) -> None:
    for name, help_text, run in (
        ("export", "write a model in a backend's format", run_export),
        ("optimize", "write a faster version of a model's file", run_optimize),
        ("quantize", "write a version with fewer bits", run_quantize),
    ):
        parser = commands.add_parser(
            name,
            help=help_text,
            description=help_text.capitalize() + ".",
            formatter_class=_WithConfigs,
        )
        if name == "export":
            add_model(
                parser,
                backend_required=True,
                file_name="of the new file; the backend's default if absent",
            )
        else:
            add_model(parser)
        parser.add_argument(
            "-t",
            "--target",
            help="directory; if absent the model's own, or the cache for a model of the Hub",
        )
        parser.add_argument(
            "--set",
            action="append",
            default=[],
            metavar="NAME=VALUE",
            help="any other option of the operation, for example min_cosine=0.99",
        )
        parser.add_argument(
            "--measure",
            action="store_true",
            help="then measure the speed relative to what it was made from",
        )
        add_json(parser)
        if name == "export":
            parser.add_argument("--precision", default="fp32", help="fp32, fp16, ...")
            parser.add_argument("--exporter", default="direct", help="direct or optimum")
        else:
            parser.add_argument(
                "--config", help="one of those listed below; the first of its backend if absent"
            )
            parser.epilog = name
            parser.add_argument("--file-suffix", help="of the new file's name")
        parser.add_argument("--push-to-hub", metavar="REPO", help="upload the result")
        parser.add_argument("--create-pr", action="store_true", help="as a pull request")
        if name == "quantize":
            parser.add_argument(
                "--calibration",
                help="texts like those to be embedded: .txt, .jsonl, or the name of a dataset; "
                "core's own if absent",
            )
            parser.add_argument("--field", help='of each .jsonl line; "text" if absent')
            parser.add_argument("--num-samples", type=int, help="the most calibration texts to use")
        parser.set_defaults(core_command=run)


class _WithConfigs(argparse.RawDescriptionHelpFormatter):
    """Lists the configurations of every installed backend at the end, once help is asked for."""

    def add_text(self, text: str | None) -> None:
        if text in ("optimize", "quantize"):
            text = list_configs(text)
        super().add_text(text)


def list_configs(operation: str) -> str:
    """The configurations that each installed backend takes for an operation, with a line each."""
    lines = []
    for name, backend in registry.working():
        configs = getattr(backend.capabilities, f"{operation}_configs")
        if configs:
            lines.append(f"configurations of {name}:")
            lines += [f"  {config:14} {explanation}" for config, explanation in configs.items()]
    return "\n".join(lines)


def run_export(parsed: argparse.Namespace) -> None:
    """`core.export`."""
    import core
    from core.architecture.kinds import KINDS
    from core.options import split_options

    options = _options(parsed)
    core.ExportOptions(**split_options(options, core.ExportOptions))
    artifact = core.export(
        parsed.model,
        parsed.target,
        backend=parsed.backend,
        revision=parsed.revision,
        local_files_only=parsed.local_files_only,
        precision=parsed.precision,
        exporter=parsed.exporter,
        file_name=parsed.file_name,
        device=parsed.device,
        trust_remote_code=parsed.trust_remote_code,
        push_to_hub=False if parsed.push_to_hub is None else parsed.push_to_hub,
        create_pr=parsed.create_pr,
        **options,
    )
    origin = core.hooks(parsed.backend).capabilities.exports_from
    if origin is None or not parsed.measure:
        _report(parsed, artifact, None)
        return
    load = getattr(core, KINDS[artifact.kind].loader.removeprefix("core."))
    with load(
        parsed.model,
        backend=origin,
        revision=parsed.revision,
        local_files_only=parsed.local_files_only,
        trust_remote_code=parsed.trust_remote_code,
    ) as source:
        _report(parsed, artifact, source)


def run_optimize(parsed: argparse.Namespace) -> None:
    """`core.optimize`."""
    import core

    options = _checked_options(parsed, "optimize", core.OptimizeOptions)
    with load_model(parsed, None) as model:
        artifact = model.optimize(
            parsed.config,
            parsed.target,
            file_suffix=parsed.file_suffix,
            push_to_hub=False if parsed.push_to_hub is None else parsed.push_to_hub,
            create_pr=parsed.create_pr,
            **options,
        )
        _report(parsed, artifact, model)


def run_quantize(parsed: argparse.Namespace) -> None:
    """`core.quantize`."""
    import core
    from core.texts.calibration import check_calibration

    options = _checked_options(parsed, "quantize", core.QuantizeOptions)
    if parsed.calibration is not None:
        check_calibration(parsed.calibration, options)
    elif parsed.field is not None:
        raise OptionError("--field is of the lines of --calibration: give that, too.")
    with load_model(parsed, None) as model:
        artifact = model.quantize(
            parsed.config,
            parsed.target,
            calibration=parsed.calibration,
            file_suffix=parsed.file_suffix,
            push_to_hub=False if parsed.push_to_hub is None else parsed.push_to_hub,
            create_pr=parsed.create_pr,
            **options,
        )
        _report(parsed, artifact, model)


def _checked_options(parsed: argparse.Namespace, operation: str, kind: type) -> dict[str, Any]:
    """The options of an operation on a loaded model; what is wrong with them is found before it is
    loaded: which configuration, what `--set` holds, where the result goes, the token to push with.
    """
    import core
    from core.artifacts.publish import check_destination
    from core.hub.upload import check_token, open_repository
    from core.options import split_options
    from core.texts.calibration import DATASET_ARGUMENTS

    options = _options(parsed)
    reading = ("field", *DATASET_ARGUMENTS)
    given = {n: v for n, v in options.items() if n not in reading}
    kind(**split_options({**given, "file_suffix": parsed.file_suffix}, kind))
    named = None if parsed.backend is None or parsed.backend.lower() == TUNED else parsed.backend
    backend = core.hooks(named).capabilities if named else None
    if backend is not None and parsed.config is not None:
        known = getattr(backend, f"{operation}_configs")
        if known and in_any_case(parsed.config, known) not in known:
            raise OptionError(
                f"The {parsed.backend} backend has no configuration {parsed.config!r} of "
                f"{operation}.{suggestion(parsed.config, known)} It has: {', '.join(known)}."
            )
    if parsed.target is not None:
        folder = "" if backend is None else backend.artifact_folder
        check_destination(check_path("target", parsed.target), folder)
    if parsed.push_to_hub is not None:
        check_token(open_repository(parsed.push_to_hub))
    elif parsed.create_pr:
        raise OptionError("create_pr=True uploads: pass push_to_hub='owner/name' too.")
    return options


def _options(parsed: argparse.Namespace) -> dict[str, Any]:
    """What `--set` names, and the options that have an argument of their own."""
    named = {name: getattr(parsed, name, None) for name in _OWN}
    given = {name: value for name, value in named.items() if value is not None}
    options = dict(parse_option(text) for text in parsed.set)
    taken = dict.fromkeys(_MODEL, "MODEL")
    for action in parsed.core_parser._actions:
        if action.dest not in _OWN:
            own = action.option_strings[-1] if action.option_strings else action.metavar
            taken[action.dest] = str(own)
    for name in options:
        if name in taken:
            raise OptionError(f"--set {name!r} names what {taken[name]} is for: give it there.")
    return {**options, **given}


def _report(parsed: argparse.Namespace, artifact: Any, source: Any) -> None:
    """File, size, speed against its source, drift."""
    size = sum((artifact.root / name).stat().st_size for name in artifact.all_files)
    measured = _speed_ratio(artifact, source) if parsed.measure and source is not None else None
    if parsed.json:
        print_json(
            {
                "file": str(artifact.path),
                "backend": artifact.backend,
                "precision": artifact.precision,
                "bytes": size,
                "speed_ratio": measured and measured.median,
                "speed_spread": measured and measured.spread,
                "verification": artifact.verification and asdict(artifact.verification),
                "url": artifact.url,
            }
        )
        return
    parts = [str(artifact.path), size_of(size)]
    if measured is not None:
        parts.append(
            f"{measured.median:.2f}x the speed of its source (rounds differ by "
            f"{measured.spread:.0%})"
        )
    if artifact.verification is not None:
        parts.append(str(artifact.verification))
    if artifact.url:
        parts.append(artifact.url)
    print("; ".join(parts))


def _speed_ratio(artifact: Any, source: Any) -> Ratio:
    """How many times as fast as its source an artifact is, in interleaved rounds."""
    from core.operations.probes import probe_texts

    announce("measuring the speed of both")
    texts = probe_texts()[::2]  # every length, in seconds rather than half a minute
    with artifact.load() as result:

        def encode(model: Any, turn: int) -> None:
            # Repeats are computed once: make every text of a round another.
            rows = [f"{text} {turn} {i}" for i, text in enumerate(texts)]
            run = getattr(model, model.method)
            run(model.as_inputs(rows), show_progress_bar=False)

        timings = interleaved(
            {"source": partial(encode, source), "result": partial(encode, result)}, rounds=_ROUNDS
        )
    return timings["result"].speed_over(timings["source"])
