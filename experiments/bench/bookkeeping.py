"""Measure the cost of manifests, hashes and resuming: `encode` against a bare loop over the same documents.

    python experiments/bench/bookkeeping.py [--documents 6000 --rounds 11]

Both sides take turns in one process and get vectors that csplade-tiny made before. Their small difference
would otherwise drown in the model's varying time. The difference is then divided by the time of csplade-tiny,
the fastest encoder there is. The bare loop reads and tokenizes the same windows and writes the same records
to one file.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any

from csplade_pyserini.cards import Checkpoint, find_checkpoint
from csplade_pyserini.collections.corpus import open_corpus
from csplade_pyserini.collections.encoding import WINDOW, EncodingJob, encode_corpus
from csplade_pyserini.collections.vectors import record_line
from csplade_pyserini.model import Side, Vector
from csplade_pyserini.model.batching import TokenBudget
from csplade_pyserini.model.encoder import SparseEncoder, build_encoder
from csplade_pyserini.reproduction.catalogue import SAMPLE

LIMIT = 1.0
"""Most percent of the time."""


class Precomputed:
    """csplade-tiny with the vectors of a corpus computed before."""

    def __init__(self, encoder: SparseEncoder, texts: list[str]) -> None:
        self.encoder = encoder
        self.empty_term = encoder.empty_term
        start = time.perf_counter()
        rows = encoder.tokenize(texts, side="document")
        vectors = encoder.encode_tokenized(rows, side="document")
        self.seconds = time.perf_counter() - start
        self.vectors = {tuple(row): vector for row, vector in zip(rows, vectors, strict=True)}

    def tokenize(self, texts: list[str], *, side: Side) -> list[list[int]]:
        return self.encoder.tokenize(texts, side=side)

    def token_budget(self, tokens: int | str | None, *, side: Side) -> TokenBudget:
        return self.encoder.token_budget(tokens, side=side)

    def encode_tokenized(
        self,
        rows: list[list[int]],
        *,
        side: Side,
        batch_tokens: int | TokenBudget | None,
        progress: Callable[[int], object],
    ) -> list[Vector]:
        progress(len(rows))
        return [self.vectors[tuple(row)] for row in rows]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--documents", type=int, default=6000)
    parser.add_argument("--rounds", type=int, default=11)
    args = parser.parse_args(argv)
    checkpoint = find_checkpoint("csplade-tiny")
    with tempfile.TemporaryDirectory() as name:
        corpus = Path(name) / "corpus.jsonl"
        write_documents(corpus, args.documents)
        texts = [document.text for document in open_corpus(str(corpus)).documents()]
        encoder = Precomputed(build_encoder(checkpoint), texts)
        times = take_turns(encoder, checkpoint, corpus, args.rounds)
    print(
        f"{args.documents} documents: {encoder.seconds:.2f} s for csplade-tiny, "
        f"{args.documents / encoder.seconds:.1f} documents/s"
    )
    for side, taken in times.items():
        print(
            f"{side:<7} {statistics.median(taken):.3f} s without the model, "
            f"from {min(taken):.3f} to {max(taken):.3f}"
        )
    extra = [
        100 * (ours - bare) / encoder.seconds
        for ours, bare in zip(times["encode"], times["bare"], strict=True)
    ]
    overhead = statistics.median(extra)
    print(
        f"bookkeeping: {overhead:+.2f} % of the time, {min(extra):+.2f} to {max(extra):+.2f} "
        f"in {args.rounds} rounds (at most {LIMIT} % wanted)"
    )
    return 0


def take_turns(
    encoder: Precomputed, checkpoint: Checkpoint, corpus: Path, rounds: int
) -> dict[str, list[float]]:
    """Return the seconds of every round for both sides. They swap the first turn each round."""
    times: dict[str, list[float]] = {"encode": [], "bare": []}
    for number in range(rounds + 1):
        for side in sorted(times, reverse=bool(number % 2)):
            start = time.perf_counter()
            SIDES[side](encoder, checkpoint, corpus, corpus.with_name(f"{side}-{number}"))
            if number:  # the first round warms up
                times[side].append(time.perf_counter() - start)
    return times


def write_documents(file: Path, documents: int) -> None:
    """Write a corpus of any size from the sample's documents."""
    lines = (SAMPLE / "corpus.jsonl").read_text(encoding="utf-8").splitlines()
    with file.open("w", encoding="utf-8") as out:
        for number in range(documents):
            record = json.loads(lines[number % len(lines)])
            record["id"] = f"d{number}"
            record["title"] = f"{number} {record.get('title', '')}"  # no two documents are alike
            out.write(json.dumps(record) + "\n")


def with_bookkeeping(encoder: Any, checkpoint: Checkpoint, corpus: Path, output: Path) -> None:
    job = EncodingJob(
        corpus=open_corpus(str(corpus)), output=output, identity=checkpoint.identity, card=checkpoint.card,
        load_encoder=lambda: encoder, arguments={"corpus": str(corpus)},
    )  # fmt: skip
    with redirect_stderr(StringIO()):
        encode_corpus(job)


def bare(encoder: Any, checkpoint: Checkpoint, corpus: Path, output: Path) -> None:
    documents = list(open_corpus(str(corpus)).documents())
    with output.open("w", encoding="utf-8") as file:
        for begin in range(0, len(documents), WINDOW):
            window = documents[begin : begin + WINDOW]
            rows = encoder.tokenize([document.text for document in window], side="document")
            vectors = encoder.encode_tokenized(
                rows, side="document", batch_tokens=None, progress=lambda count: None
            )
            for document, vector in zip(window, vectors, strict=True):
                file.write(record_line(document.docid, "", vector or {encoder.empty_term: 1}))


SIDES = {"encode": with_bookkeeping, "bare": bare}


if __name__ == "__main__":
    raise SystemExit(main())
