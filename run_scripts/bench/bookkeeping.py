"""What manifests, hashes and the means to resume cost: `encode` against a bare loop over the same documents.

    python run_scripts/bench/bookkeeping.py [--documents 400 --rounds 5]

Both sides take turns in one process with csplade-tiny, the fastest encoder there is and so the one that shows such costs most. The
bare loop reads, tokenizes and encodes the same windows and writes the same records to one file.
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
from csplade_pyserini.model.encoder import build_encoder
from csplade_pyserini.reproduce import SAMPLE

LIMIT = 1.0
"""Percent of the time."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--documents", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    checkpoint = find_checkpoint("csplade-tiny")
    encoder = build_encoder(checkpoint)
    folder = Path(tempfile.mkdtemp())
    try:
        write_documents(folder / "corpus.jsonl", args.documents)
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
    ratios = [ours / bare for ours, bare in zip(times["encode"], times["bare"], strict=True)]
    for side, taken in times.items():
        slowest, median, fastest = (args.documents / f(taken) for f in (max, statistics.median, min))
        print(f"{side:<7} {median:8.1f} documents/s, from {slowest:.1f} to {fastest:.1f}")
    overhead, least, most = (100 * (f(ratios) - 1) for f in (statistics.median, min, max))
    print(f"bookkeeping: {overhead:+.2f} % of the time, {least:+.2f} to {most:+.2f} in {args.rounds} rounds (at most {LIMIT} % wanted)")
    return 0 if overhead <= LIMIT else 1


def write_documents(file: Path, documents: int) -> None:
    lines = (SAMPLE / "corpus.jsonl").read_text(encoding="utf-8").splitlines()
    with file.open("w", encoding="utf-8") as out:
        for number in range(documents):
            out.write(json.dumps(json.loads(lines[number % len(lines)]) | {"id": f"d{number}"}) + "\n")


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
            for document, vector in zip(window, encoder.encode_documents([document.text for document in window]), strict=True):
                file.write(to_record(document.docid, "", vector or {encoder.empty_term: 1}))


SIDES = {"encode": with_bookkeeping, "bare": bare}


if __name__ == "__main__":
    sys.exit(main())
