"""Speed and memory of SPLADE against sentence-transformers 6.2, in interleaved rounds.

    python scripts/sparse_speed.py                         # 200 texts of 256 tokens, BERT-base
    python scripts/sparse_speed.py --layers 2 --texts 40   # the head alone, nearly

A BERT with random weights, 768 wide and with 30,522 words, is written once and exported. Each
system has a process of its own, which loads the model and then embeds other texts in each round.
Printed are the median texts a second, the median of the ratios to the reference within a round, and
how much the process grew while it embedded. Run it on an idle machine.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = "sentence-transformers"
_WORDS = 30_522
_TOKENS = 256


def texts_of(count: int, seed: int) -> list[str]:
    """Texts of 256 tokens with [CLS] and [SEP]: one for each word of the vocabulary drawn."""
    generator = random.Random(seed)
    return [
        " ".join(f"w{generator.randrange(1_000)}" for _ in range(_TOKENS - 2)) for _ in range(count)
    ]


def write_model(folder: Path, layers: int) -> None:
    """A BertForMaskedLM and a tokenizer that has every word of the texts."""
    import tokenizers
    import torch
    import transformers
    from tokenizers import models, pre_tokenizers, processors

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = [*special, *(f"w{number}" for number in range(_WORDS - len(special)))]
    vocabulary = {word: number for number, word in enumerate(words)}
    tokenizer = tokenizers.Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.add_special_tokens(special)
    torch.manual_seed(0)
    config = transformers.BertConfig(vocab_size=_WORDS, num_hidden_layers=layers)
    model = transformers.BertForMaskedLM(config)
    with torch.no_grad():
        model.cls.predictions.bias -= 0.6  # most words are in no text
    model.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": 512,
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "mask_token": "[MASK]",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")


def resident() -> float:
    """Megabytes of this process."""
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def serve(system: str, path: str, count: int) -> None:
    """A worker: loads, then answers each seed on standard input with seconds and growth."""
    if system == REFERENCE:
        from sentence_transformers import SparseEncoder

        encoder = SparseEncoder(path, device="cpu")

        def encode(texts: list[str]) -> Any:
            return encoder.encode(texts, batch_size=32)
    else:
        import core

        encode = core.load_sparse(path, backend=system, device="cpu").encode
    start = resident()
    for line in sys.stdin:
        texts = texts_of(count, int(line))
        most, running = [start], threading.Event()

        def watch(most: list[float] = most, running: threading.Event = running) -> None:
            while not running.wait(0.005):
                most[0] = max(most[0], resident())

        watcher = threading.Thread(target=watch)
        watcher.start()
        begun = time.perf_counter()
        rows = encode(texts)
        seconds = time.perf_counter() - begun
        running.set()
        watcher.join()
        assert rows.shape == (count, _WORDS)
        print(json.dumps({"seconds": seconds, "growth": most[0] - start}), flush=True)


class Worker:
    """One system in a process of its own."""

    def __init__(self, system: str, python: Path, path: Path, count: int) -> None:
        command = [str(python), __file__, "--serve", system, str(path), "--texts", str(count)]
        environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
        if system == REFERENCE:
            environment["PYTHONPATH"] = ""
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def run(self, seed: int) -> dict[str, float]:
        """Seconds and growth of one round."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(seed, file=self._process.stdin, flush=True)
        found: dict[str, float] = json.loads(self._process.stdout.readline())
        return found

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()


def measure(parsed: argparse.Namespace, folder: Path) -> None:
    """Write, export, run the rounds and print."""
    sys.path.insert(0, str(ROOT))
    import core
    from scripts import peers

    python = parsed.python or peers.build("st-6.2")
    write_model(folder, parsed.layers)
    systems = ["torch", "onnx", "openvino"]
    with core.load_sparse(folder, backend="torch") as model:
        for backend in systems[1:]:
            print(f"{backend}: {core.export(model, backend=backend).verification}")
    workers = {REFERENCE: Worker(REFERENCE, python, folder, parsed.texts)}
    for system in systems:
        workers[system] = Worker(system, Path(sys.executable), folder, parsed.texts)
    results: dict[str, list[dict[str, float]]] = {system: [] for system in workers}
    for turn in range(parsed.rounds):
        for system, worker in workers.items():
            results[system].append(worker.run(turn))
    for worker in workers.values():
        worker.close()
    for system, rounds in results.items():
        speed = statistics.median(parsed.texts / one["seconds"] for one in rounds)
        pairs = zip(results[REFERENCE], rounds, strict=True)
        ratio = statistics.median(theirs["seconds"] / ours["seconds"] for theirs, ours in pairs)
        growth = max(one["growth"] for one in rounds)
        print(f"{system:22} {speed:7.2f} texts/s  {ratio:5.2f}x  grew by {growth:6.0f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--texts", type=int, default=200)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--python", type=Path, help="interpreter of the reference's environment")
    parser.add_argument("--serve", nargs=2, metavar=("SYSTEM", "MODEL"), help=argparse.SUPPRESS)
    parsed = parser.parse_args()
    if parsed.serve is not None:
        system, path = parsed.serve
        serve(system, path, parsed.texts)
        return
    with tempfile.TemporaryDirectory(prefix="core-sparse-") as temporary:
        measure(parsed, Path(temporary))


if __name__ == "__main__":
    main()
