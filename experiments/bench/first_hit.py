"""Measure the first hit of a new process, step by step, in CPU seconds.

    python experiments/bench/first_hit.py [--index INDEX --encoders csplade-tiny csplade-tiny-lookup]

Without --index it makes one of the built-in sample. Each round asks each encoder in a process of its own. The
least time of each step counts. The start of Python itself is not among them.
"""

# Only the standard library here: a new process imports this file, and the import of the rest is a step.
import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

ROUNDS = 3
QUERY = "heart attack symptoms"
HITS = 10


def main(argv: Sequence[str] | None = None) -> int:
    from engines import in_a_process

    from csplade_pyserini.files.pages import markdown_table

    args = parse_args(argv)
    with tempfile.TemporaryDirectory() as temporary:
        index = args.index or index_sample(Path(temporary))
        columns = []
        for encoder in args.encoders:
            rounds = [in_a_process(first_hit, index, encoder) for _ in range(ROUNDS)]
            columns.append({step: min(seconds[step] for seconds in rounds) for step in rounds[0]})
    rows = [[step, *(f"{column[step]:.2f}" for column in columns)] for step in columns[0]]
    rows.append(["all of them", *(f"{sum(column.values()):.2f}" for column in columns)])
    print(f"CPU seconds, the least of {ROUNDS} processes:\n")
    print(markdown_table(["step", *args.encoders], rows))
    return 0


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--index", type=Path, metavar="DIR", help="Lucene index of the encoders' vectors")
    parser.add_argument("--encoders", nargs="+", default=["csplade-tiny", "csplade-tiny-lookup"])
    return parser.parse_args(argv)


def index_sample(folder: Path) -> Path:
    """Encode and index the sample; return the index."""
    from engines import LUCENE, encode_sample, load

    vectors, _ = encode_sample(folder)
    load(LUCENE, vectors, folder / "index")
    return folder / "index"


def first_hit(index: Path, encoder: str) -> dict[str, float]:
    """CPU seconds of each step up to the first hit, and of a second search."""
    steps: dict[str, float] = {}
    last = time.process_time()

    def done(step: str) -> None:
        nonlocal last
        now = time.process_time()
        steps[step] = now - last
        last = now

    import csplade_pyserini.retrieve  # noqa: F401
    from csplade_pyserini.lucene.bulk import ImpactSearcher
    from csplade_pyserini.lucene.java import prepare_java
    from csplade_pyserini.lucene.makers import refuse_mismatch
    from csplade_pyserini.query_sides import build_queries, find_queries

    done("modules of the verb `retrieve`")
    prepare_java()
    with ImpactSearcher(index) as searcher:
        done("Java starts and the index opens")
        source = find_queries(encoder)
        refuse_mismatch(index, source.identity, name=source.name)
        done("the encoder is found and compared with the index")
        queries = build_queries(source)
        done("the encoder loads")
        [vector] = queries.encode_queries([QUERY])
        done("the query is encoded")
        for step in ("first search", "second search"):
            searcher.run({"q": vector}, HITS, 1)
            done(step)
    return steps


if __name__ == "__main__":
    raise SystemExit(main())
