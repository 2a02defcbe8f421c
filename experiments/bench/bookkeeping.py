"""What manifests, hashes and the means to resume cost: `encode` against a bare loop over the same documents.

    python run_scripts/bench/bookkeeping.py [--documents 6000 --rounds 11]

Both sides take turns in one process and are given vectors that csplade-tiny made before, so that what they differ by is not lost in
what a model's time varies by; the difference is then held against the time that csplade-tiny, the fastest encoder there is, took.
The bare loop reads and tokenizes the same windows and writes the same records to one file.
"""

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path

from csplade_pyserini.cards import find_checkpoint
from csplade_pyserini.collections.corpus import open_corpus
from csplade_pyserini.collections.encoding import WINDOW, EncodingJob, encode_corpus, to_record
from csplade_pyserini.model.batching import TokenBudget
from csplade_pyserini.model.encoder import SparseEncoder, build_encoder
from csplade_pyserini.reproduction.collections import SAMPLE

LIMIT = 1.0
"""Percent of the time."""


class Precomputed:
    """csplade-tiny, whose vectors of a corpus's texts are there already."""

    def __init__(self, encoder: SparseEncoder, texts: list[str]) -> None:
        self.encoder, self.empty_term = encoder, encoder.empty_term
        start = time.perf_counter()
        rows = encoder.tokenize(texts, side="document")
        vectors = encoder.encode_tokenized(rows, side="document")
        self.seconds = time.perf_counter() - start
        self.vectors = {tuple(row): vector for row, vector in zip(rows, vectors, strict=True)}

    def tokenize(self, texts: list[str], *, side: str) -> list[list[int]]:
        return self.encoder.tokenize(texts, side=side)

    def token_budget(self, tokens: int | str | None, *, side: str) -> TokenBudget:
        return self.encoder.token_budget(tokens, side=side)

    def encode_tokenized(self, rows, *, side, batch_tokens, progress) -> list[dict[str, int]]:
        progress(len(rows))
        return [self.vectors[tuple(row)] for row in rows]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--documents", type=int, default=6000)
    parser.add_argument("--rounds", type=int, default=11)
    args = parser.parse_args()
    checkpoint = find_checkpoint("csplade-tiny")
    folder = Path(tempfile.mkdtemp())
    try:
        write_documents(folder / "corpus.jsonl", args.documents)
        texts = [document.text for document in open_corpus(str(folder / "corpus.jsonl")).documents()]
        encoder = Precomputed(build_encoder(checkpoint), texts)
        times: dict[str, list[float]] = {"encode": [], "bare": []}
        for number in range(args.rounds + 1):
            for side in sorted(times, reverse=bool(number % 2)):
                output = folder / f"{side}-{number}"
                start = time.perf_counter()
                SIDES[side](encoder, checkpoint, folder / "corpus.jsonl", output)
                if number:  # the first round warms up
                    times[side].append(time.perf_counter() - start)
    finally:
        shutil.rmtree(folder)
    print(
        f"{args.documents} documents: {encoder.seconds:.2f} s for csplade-tiny, {args.documents / encoder.seconds:.1f} documents/s"
    )
    for side, taken in times.items():
        print(
            f"{side:<7} {statistics.median(taken):.3f} s without the model, from {min(taken):.3f} to {max(taken):.3f}"
        )
    extra = [ours - bare for ours, bare in zip(times["encode"], times["bare"], strict=True)]
    overhead, least, most = (100 * f(extra) / encoder.seconds for f in (statistics.median, min, max))
    print(
        f"bookkeeping: {overhead:+.2f} % of the time, {least:+.2f} to {most:+.2f} in {args.rounds} rounds (at most {LIMIT} % wanted)"
    )
    return 0 if overhead <= LIMIT else 1


def write_documents(file: Path, documents: int) -> None:
    lines = (SAMPLE / "corpus.jsonl").read_text(encoding="utf-8").splitlines()
    with file.open("w", encoding="utf-8") as out:
        for number in range(documents):
            record = json.loads(lines[number % len(lines)])
            title = f"{number} {record.get('title', '')}"  # no two documents alike
            out.write(json.dumps(record | {"id": f"d{number}", "title": title}) + "\n")


def with_bookkeeping(encoder, checkpoint, corpus: Path, output: Path) -> None:
    job = EncodingJob(
        corpus=open_corpus(str(corpus)), output=output, identity=checkpoint.identity(), card=checkpoint.card,
        load_encoder=lambda: encoder, arguments={"corpus": str(corpus)},
    )  # fmt: skip
    with redirect_stderr(StringIO()):
        encode_corpus(job)


def bare(encoder, checkpoint, corpus: Path, output: Path) -> None:
    documents = list(open_corpus(str(corpus)).documents())
    with output.open("w", encoding="utf-8") as file:
        for begin in range(0, len(documents), WINDOW):
            window = documents[begin : begin + WINDOW]
            rows = encoder.tokenize([document.text for document in window], side="document")
            vectors = encoder.encode_tokenized(
                rows, side="document", batch_tokens=None, progress=lambda count: None
            )
            for document, vector in zip(window, vectors, strict=True):
                file.write(to_record(document.docid, "", vector or {encoder.empty_term: 1}))


SIDES = {"encode": with_bookkeeping, "bare": bare}


if __name__ == "__main__":
    sys.exit(main())
