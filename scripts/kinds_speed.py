"""Speed and memory of SPLADE and of rerankers against sentence-transformers 6.2, in interleaved
rounds.

    python scripts/kinds_speed.py sparse                        # 200 texts of 256 tokens, BERT-base
    python scripts/kinds_speed.py sparse --layers 2 --texts 40  # the head alone, nearly
    python scripts/kinds_speed.py reranker                      # 100 pairs of 128 tokens, MiniLM

A BERT with random weights and 30,522 words, as wide as BERT-base or MiniLM, is written once and
exported. Each system has a process of its own, which loads the model and then takes other texts in
each round. Printed are the median texts (or pairs) a second, the median of the ratios to the
reference within a round, and how much the process grew meanwhile. Run it on an idle machine.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = "sentence-transformers"
SPARSE, RERANKER = "sparse", "reranker"
_WORDS = 30_522
_TOKENS = {SPARSE: 256, RERANKER: 128}
_QUERY_TOKENS = 16
#: The share of all words that a trained SPLADE gives a text, about.
_ACTIVE = 0.01
#: Texts or pairs of a round, and layers, unless others are asked for.
_DEFAULTS = {SPARSE: (200, 12), RERANKER: (100, 6)}


def texts_of(kind: str, count: int, seed: int) -> list[Any]:
    """Texts, or pairs of a query and a document: of so many tokens with [CLS] and [SEP], one for
    each word drawn."""
    generator = random.Random(seed)

    def text(tokens: int) -> str:
        return " ".join(f"w{generator.randrange(1_000)}" for _ in range(tokens))

    if kind == SPARSE:
        return [text(_TOKENS[kind] - 2) for _ in range(count)]
    query = text(_QUERY_TOKENS)
    return [(query, text(_TOKENS[kind] - 3 - _QUERY_TOKENS)) for _ in range(count)]


def write_model(folder: Path, kind: str, layers: int) -> None:
    """A BERT with the kind's head, and a tokenizer that has every word of the texts."""
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
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    tokenizer.add_special_tokens(special)
    torch.manual_seed(0)
    model: Any
    if kind == SPARSE:
        config = transformers.BertConfig(vocab_size=_WORDS, num_hidden_layers=layers)
        model = transformers.BertForMaskedLM(config)
        sample = [vocabulary[word] for word in texts_of(kind, 1, 0)[0].split()]
        with torch.no_grad():
            largest = model.eval()(torch.tensor([sample])).logits.amax(1)
            model.cls.predictions.bias -= largest.quantile(1 - _ACTIVE)
    else:
        config = transformers.BertConfig(
            vocab_size=_WORDS,
            num_hidden_layers=layers,
            hidden_size=384,
            intermediate_size=1536,
            num_labels=1,
        )
        model = transformers.BertForSequenceClassification(config)
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


def opened(kind: str, system: str, path: str) -> Callable[[list[Any]], Any]:
    """What a system computes of texts or pairs."""
    if system == REFERENCE:
        import sentence_transformers

        name = "SparseEncoder" if kind == SPARSE else "CrossEncoder"
        theirs = getattr(sentence_transformers, name)(path, device="cpu")
        method = theirs.encode if kind == SPARSE else theirs.predict
        return functools.partial(method, batch_size=32)
    import core

    backend, _, file_name = system.partition(":")
    options: dict[str, Any] = {"backend": backend, "file_name": file_name or None, "device": "cpu"}
    if kind == SPARSE:
        return core.load_sparse(path, **options).encode
    return core.load_reranker(path, **options).predict


def serve(kind: str, system: str, path: str, count: int) -> None:
    """A worker: loads, then answers each seed on standard input with seconds and growth."""
    encode = opened(kind, system, path)
    start = resident()
    for line in sys.stdin:
        texts = texts_of(kind, count, int(line))
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
        assert rows.shape[0] == count
        print(json.dumps({"seconds": seconds, "growth": most[0] - start}), flush=True)


class Worker:
    """One system in a process of its own."""

    def __init__(self, kind: str, system: str, python: Path, path: Path, count: int) -> None:
        own = ["--serve", system, str(path), "--texts", str(count)]
        command = [str(python), __file__, kind, *own]
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

    python, kind = parsed.python or peers.build("st-6.2"), parsed.kind
    write_model(folder, kind, parsed.layers)
    systems = ["torch", "onnx", "openvino"]
    made = []
    load = core.load_sparse if kind == SPARSE else core.load_reranker
    with load(folder, backend="torch") as model:
        for backend in systems[1:]:
            exported = core.export(model, backend=backend)
            made.append(exported.load(device="cpu").quantize())
            print(f"{backend}: {exported.verification}; int8: {made[-1].verification}")
    workers = {REFERENCE: Worker(kind, REFERENCE, python, folder, parsed.texts)}
    for system in [*systems, *(f"{one.backend}:{one.file_name}" for one in made)]:
        workers[system] = Worker(kind, system, Path(sys.executable), folder, parsed.texts)
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
        print(f"{system:40} {speed:7.2f} a second  {ratio:5.2f}x  grew by {growth:6.0f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("kind", choices=list(_DEFAULTS))
    parser.add_argument("--texts", type=int, help="of a round; else 200, or 100 pairs")
    parser.add_argument("--layers", type=int, help="else 12, or 6 of a reranker")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--python", type=Path, help="interpreter of the reference's environment")
    parser.add_argument("--serve", nargs=2, metavar=("SYSTEM", "MODEL"), help=argparse.SUPPRESS)
    parsed = parser.parse_args()
    texts, layers = _DEFAULTS[parsed.kind]
    parsed.texts, parsed.layers = parsed.texts or texts, parsed.layers or layers
    if parsed.serve is not None:
        system, path = parsed.serve
        serve(parsed.kind, system, path, parsed.texts)
        return
    with tempfile.TemporaryDirectory(prefix="core-speed-") as temporary:
        measure(parsed, Path(temporary))


if __name__ == "__main__":
    main()
