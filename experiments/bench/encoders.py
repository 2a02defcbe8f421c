"""Measure passages per CPU second of `encode`, end to end, for several encoders.

    python experiments/bench/encoders.py --encoder csplade-tiny OTHER --corpus passages.jsonl

The encoders take turns, each in a process of its own with one thread. Each encodes a short and a long head of
the corpus. The difference of both leaves out the start of the process. Ratios are to the last encoder.
"""

import argparse
import itertools
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from csplade_pyserini.collections.corpus import open_corpus
from csplade_pyserini.command_line import run
from csplade_pyserini.errors import CheckError, InputError
from csplade_pyserini.files.whole import whole_file


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--encoder", nargs="+", required=True, metavar="NAME")
    parser.add_argument("--corpus", required=True)
    parser.add_argument("--passages", type=int, nargs=2, default=(100, 1000), metavar=("SHORT", "LONG"))
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args(argv)
    short, long = args.passages
    if not 0 < short < long:
        raise InputError(f"--passages is {short} {long}; wanted SHORT, then a larger LONG")
    rates: dict[str, list[float]] = {name: [] for name in args.encoder}
    with tempfile.TemporaryDirectory() as folder:
        heads = [write_head(args.corpus, passages, Path(folder)) for passages in (short, long)]
        for _ in range(args.rounds):
            for name in args.encoder:
                seconds = [cpu_seconds(name, head) for head in heads]
                rates[name].append((long - short) / (seconds[1] - seconds[0]))
    last = statistics.median(rates[args.encoder[-1]])
    for name in args.encoder:
        rate = statistics.median(rates[name])
        spread = f"{min(rates[name]):.1f} to {max(rates[name]):.1f}"
        print(f"{name}: {rate:.1f} passages per CPU second ({spread}), {rate / last:.2f} times the last")
    return 0


def write_head(corpus: str, passages: int, folder: Path) -> Path:
    """Write the first passages of a corpus to a file. Raises InputError if it has fewer."""
    file = folder / f"{passages}.jsonl"
    with whole_file(file) as output:
        documents = list(itertools.islice(open_corpus(corpus).documents(), passages))
        output.writelines(
            json.dumps({"id": document.docid, "contents": document.text}) + "\n" for document in documents
        )
    if len(documents) < passages:
        raise InputError(f"{corpus} has {len(documents)} passages; --passages wants {passages}")
    return file


def cpu_seconds(encoder: str, corpus: Path) -> float:
    """CPU time of one `encode`, whose vectors are removed again. Raises CheckError if it fails."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with tempfile.TemporaryDirectory() as folder:
        words = ["--encoder", encoder, "--corpus", str(corpus), "--output", str(Path(folder) / "vectors")]
        done = subprocess.run(
            [sys.executable, "-m", "csplade_pyserini.encode", *words],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise CheckError(f"encode with {encoder} failed: {done.stderr[-500:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    run(main)
