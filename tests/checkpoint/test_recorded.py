"""What real releases of sentence-transformers write, without installing them.

`recorded/<release>/<model>` holds the configuration files that a release wrote for one of our
models (`scripts/reference_round_trips.py --record`); the weights are put beside them here.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import core
from tests.checkpoint.dialects import DIALECTS, build_dialect, read
from tests.conftest import build_tiny_model

RECORDED = Path(__file__).parent / "recorded"
CASES = sorted(path.relative_to(RECORDED).as_posix() for path in RECORDED.glob("*/*"))
TEXTS = ["one text", "another, longer text about vectors", ""]


def test_each_release_was_recorded() -> None:
    assert {case.partition("/")[0] for case in CASES} == {"st-5.3", "st-5.7", "st-6.2"}
    assert len(CASES) == 12


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_a_directory_as_the_release_wrote_it_embeds_the_same(case: str, tmp_path: Path) -> None:
    name = case.partition("/")[2]
    original = tmp_path / "original"
    if name in DIALECTS:
        build_dialect(name, original)
    else:
        shutil.copytree(build_tiny_model(name), original)
    written = tmp_path / "written"
    shutil.copytree(RECORDED / case, written)
    for file in [p for p in original.rglob("*") if p.is_file()]:
        if file.suffix != ".json" or file.name == "tokenizer.json":
            place = written / file.relative_to(original)
            if "0_StaticEmbedding" in place.parts:  # releases write the first module at the top
                place = written / file.name
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, place)
    _fit_vocabulary(written, original)
    with (
        core.load(str(original), backend="torch", device="cpu") as first,
        core.load(str(written), backend="torch", device="cpu") as second,
    ):
        assert np.array_equal(first.encode(TEXTS), second.encode(TEXTS))
        assert second.max_seq_length == first.max_seq_length
        assert second.similarity_fn_name == first.similarity_fn_name
        # Releases add empty prompts named query and document.
        assert first.prompts.items() <= second.prompts.items()


def _fit_vocabulary(written: Path, original: Path) -> None:
    """The weights bring their own vocabulary, whose size the release copied from its original."""
    if (original / "config.json").exists():
        config = read(written, "config.json")
        config["vocab_size"] = read(original, "config.json")["vocab_size"]
        (written / "config.json").write_text(json.dumps(config), encoding="utf-8")


@pytest.mark.parametrize("release", ["st-5.3", "st-5.7", "st-6.2"])
def test_the_records_are_of_different_dialects(release: str) -> None:
    types = [m["type"] for m in read(RECORDED / release / "bert-prompts", "modules.json")]
    assert types[0].startswith("sentence_transformers.models.") == (release == "st-5.3")
