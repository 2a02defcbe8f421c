"""Measure effectiveness, index size and latency for scales, an 8-bit clamp and numbers of terms.

    python experiments/impacts.py --encoder csplade-bi-smol --collection beir/nfcorpus/test \\
        --output runs/impacts

Texts are encoded once, as floats and with all their terms. Every setting makes impacts, an index and a run
from them. The Pareto front holds the rows that no other row beats in both nDCG@10 and bytes. The script
writes table.md and plot.png into --output. Run it again to resume.
"""

import argparse
import itertools
import json
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from csplade_pyserini.collections.corpus import open_corpus
from csplade_pyserini.collections.manifests import versions
from csplade_pyserini.collections.topics import read_topics
from csplade_pyserini.collections.vectors import record_line
from csplade_pyserini.command_line import positive, run
from csplade_pyserini.files.pages import markdown_table
from csplade_pyserini.files.whole import whole_file
from csplade_pyserini.lucene.indexing import IndexJob, build_index
from csplade_pyserini.lucene.java import prepare_java
from csplade_pyserini.model import Side, SparseEncoder, load_encoder
from csplade_pyserini.reproduction.catalogue import find_collections
from csplade_pyserini.reproduction.inputs import Inputs
from csplade_pyserini.reproduction.records import described, hardware
from csplade_pyserini.reproduction.scores import ALL, evaluate

SCALES = (10, 20, 50, 100, 200)
CLAMP = 255
"""Largest impact of 8 bits."""
DOCUMENT_TERMS = (32, 64, 96, 128, 192, 256, 512)
QUERY_TERMS = (8, 16, 32, 64, 128)
BATCH = 32
ROUNDS = 5
"""Rounds of searches, of which the fastest counts."""
HITS = 1000


class Setting(NamedTuple):
    """One way to make impacts from weights."""

    scale: float
    document_terms: int
    query_terms: int
    clamp: int = 0
    """Largest impact; 0 for no limit."""

    @property
    def name(self) -> str:
        name = f"scale {self.scale:g}, {self.document_terms} and {self.query_terms} terms"
        if self.clamp:
            name += f", at most {self.clamp}"
        return name


class Weights(NamedTuple):
    """Texts by id, with their token ids and weights, heaviest first."""

    texts: dict[str, str]
    ids: list[NDArray[np.int64]]
    values: list[NDArray[np.float32]]


Row = dict[str, Any]
"""Measurements of one setting: metrics, bytes, postings and milliseconds."""


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    prepare_java()
    [collection] = find_collections(args.collection)
    topic_set = collection.topics[0]
    inputs = Inputs(args.output / "inputs")
    inputs.write(collection)
    encoder = load_encoder(args.encoder)
    corpus = open_corpus(str(inputs.corpus / "docs.jsonl"))
    documents = {document.docid: document.text for document in corpus.documents()}
    topics = read_topics(str(inputs.topics_file(topic_set)))
    document_weights = kept_weights(args.output, encoder, documents, "document", max(DOCUMENT_TERMS))
    query_weights = kept_weights(args.output, encoder, topics, "query", max(QUERY_TERMS))
    card = encoder.card
    caps = card.document_top_terms or max(DOCUMENT_TERMS), card.query_top_terms or max(QUERY_TERMS)
    chosen = settings(card.impact_scale, *caps)[: args.settings]
    rows = {}
    for setting in chosen:
        folder = args.output / setting.name.replace(" ", "-").replace(",", "")
        file = folder.with_suffix(".json")
        if not file.is_file():
            row = make_index(folder, setting, document_weights, encoder.terms)
            of_queries = vectors(setting, query_weights, setting.query_terms, encoder.terms)
            row["milliseconds"] = search(folder, dict(zip(topics, of_queries, strict=True)))
            scores = evaluate(inputs.qrels(topic_set), folder / "run.txt", topic_set)
            row |= {metric: values[ALL] for metric, values in scores.items()}
            with whole_file(file) as out:
                json.dump(row, out)
        rows[setting] = json.loads(file.read_text(encoding="utf-8"))
    system = described({**hardware(), **versions()})
    about = f"{args.encoder} on {collection.key(topic_set)}; {system}; {time.strftime('%Y-%m-%d')}"
    write_report(args.output, about, rows, topic_set.metrics)
    return 0


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--encoder", required=True)
    parser.add_argument(
        "--collection", required=True, metavar="NAME",
        help="a collection that `reproduce` takes; its first set of topics is used",
    )  # fmt: skip
    parser.add_argument("--output", required=True, type=Path, metavar="DIR")
    parser.add_argument(
        "--settings", type=positive, metavar="N", help="try the first N settings (default: all)"
    )
    return parser.parse_args(argv)


def settings(scale: float, document_terms: int, query_terms: int) -> list[Setting]:
    """List the card's own setting, then each number changed alone, then several changed together."""
    own = Setting(scale, document_terms, query_terms)
    changed = [
        *(own._replace(scale=value) for value in SCALES),
        *(own._replace(scale=value, clamp=CLAMP) for value in (100, 200)),
        *(own._replace(document_terms=value) for value in DOCUMENT_TERMS),
        *(own._replace(query_terms=value) for value in QUERY_TERMS),
        *(Setting(50, terms, query) for terms, query in itertools.product((64, 96, 128), (32, 64))),
    ]
    return list(dict.fromkeys([own, *changed]))


def kept_weights(
    folder: Path, encoder: SparseEncoder, texts: dict[str, str], side: Side, most: int
) -> Weights:
    """Compute the weights once, and keep them in a file with this encoder's name."""
    file = folder / f"{side}-weights.{encoder.identity}.npz"
    if not file.is_file():
        made = weigh(encoder, texts, side, most)
        sizes = np.array([len(ids) for ids in made.ids])
        with whole_file(file, "wb") as out:
            np.savez(out, sizes=sizes, ids=np.concatenate(made.ids), values=np.concatenate(made.values))
    arrays = np.load(file)
    cuts = np.cumsum(arrays["sizes"])[:-1]
    return Weights(texts, np.split(arrays["ids"], cuts), np.split(arrays["values"], cuts))


def weigh(encoder: SparseEncoder, texts: dict[str, str], side: Side, most: int) -> Weights:
    """Return the `most` heaviest terms of every text, as floats."""
    order = sorted(texts, key=lambda name: -len(texts[name]))
    ids: dict[str, NDArray[np.int64]] = {}
    values: dict[str, NDArray[np.float32]] = {}
    for batch in tqdm(list(itertools.batched(order, BATCH)), desc=f"encoding, {side}", unit="batch"):
        heaviest = encoder.weights([texts[name] for name in batch], side=side).topk(most)
        for name, weights, tokens in zip(batch, heaviest.values, heaviest.indices, strict=True):
            active = weights > 0
            ids[name] = tokens[active].cpu().numpy()
            values[name] = weights[active].cpu().numpy()
    return Weights(texts, [ids[name] for name in texts], [values[name] for name in texts])


def vectors(
    setting: Setting, weights: Weights, most: int, terms: Sequence[str | None]
) -> Iterator[dict[str, int]]:
    """Yield impacts as the encoder makes them: scaled, rounded, zeros dropped."""
    for ids, values in zip(weights.ids, weights.values, strict=True):
        impacts = np.rint(values[:most] * setting.scale).astype(int)
        if setting.clamp:
            impacts = np.minimum(impacts, setting.clamp)
        vector = {}
        for token, impact in zip(ids.tolist(), impacts.tolist(), strict=False):
            if impact > 0:
                vector[str(terms[token])] = impact
        yield vector


def make_index(folder: Path, setting: Setting, documents: Weights, terms: Sequence[str | None]) -> Row:
    """Build a setting's index, and return its bytes and postings."""
    of_documents = vectors(setting, documents, setting.document_terms, terms)
    with whole_file(folder / "vectors" / "docs.jsonl") as file:
        for docid, vector in zip(documents.texts, of_documents, strict=True):
            file.write(record_line(docid, "", vector))
    built = build_index(IndexJob(collection=folder / "vectors", index=folder / "index"))
    return {"bytes": built.bytes, "postings": built.postings}


class QueryVectors:
    """Pyserini's query-encoder interface over vectors computed before."""

    def __init__(self, queries: dict[str, dict[str, int]]) -> None:
        self.queries = queries

    def encode(self, query: str, **_: object) -> dict[str, int]:
        return self.queries[query]


def search(folder: Path, queries: dict[str, dict[str, int]]) -> float:
    """Write run.txt, and return the milliseconds per query in one thread, of the fastest round.

    Pyserini's min_idf stays at its default, 0, which leaves out terms that all documents have.
    """
    from pyserini.search.lucene import LuceneImpactSearcher

    searcher = LuceneImpactSearcher(str(folder / "index"), QueryVectors(queries))
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        hits = {qid: searcher.search(qid, k=HITS) for qid in queries}
        times.append(time.perf_counter() - start)
    with whole_file(folder / "run.txt") as file:
        for qid, found in hits.items():
            for rank, hit in enumerate(found, start=1):
                file.write(f"{qid} Q0 {hit.docid} {rank} {hit.score:f} impacts\n")
    return 1000 * min(times) / len(queries)


def pareto(points: dict[Setting, tuple[float, float]]) -> list[Setting]:
    """Return the settings whose (cost, score) no other one beats.

    A point beats another if it costs no more, scores no less, and differs from it.
    """
    front = []
    for setting, (cost, score) in points.items():
        others = [point for point in points.values() if point != (cost, score)]
        if not any(c <= cost and s >= score for c, s in others):
            front.append(setting)
    return front


def write_report(output: Path, about: str, rows: dict[Setting, Row], metrics: Sequence[str]) -> None:
    """Write table.md and plot.png, and print the table. The card's own setting is the first row."""
    front = pareto({setting: (row["bytes"], row[metrics[0]]) for setting, row in rows.items()})
    own = next(iter(rows.values()))
    head = ["impacts", *metrics, "index bytes", "of the card's", "bytes a posting", "ms a query", "front"]
    lines = []
    for setting, row in rows.items():
        lines.append([
            setting.name, *(f"{row[metric]:.4f}" for metric in metrics), f"{row['bytes']:,}",
            f"{row['bytes'] / own['bytes']:.2f}", f"{row['bytes'] / row['postings']:.2f}",
            f"{row['milliseconds']:.2f}", "yes" if setting in front else "",
        ])  # fmt: skip
    table = f"{about}\n\n{markdown_table(head, lines)}"
    with whole_file(output / "table.md") as file:
        file.write(table + "\n")
    print(table)
    plot(output / "plot.png", rows, front, metrics[0])


def kind_of(setting: Setting, own: Setting) -> str:
    """Name the numbers in which a setting differs from the card's own."""
    if setting == own:
        return "the card's"
    if setting._replace(scale=own.scale) == own:
        return "scale"
    if setting.clamp:
        return "8 bits"
    if setting._replace(document_terms=own.document_terms) == own:
        return "document terms"
    if setting._replace(query_terms=own.query_terms) == own:
        return "query terms"
    return "several"


def label_of(setting: Setting, kind: str) -> str:
    """Return the text beside a point of the plot."""
    labels = {
        "scale": f"{setting.scale:g}",
        "8 bits": f"{setting.scale:g}",
        "document terms": str(setting.document_terms),
        "query terms": str(setting.query_terms),
        "several": f"{setting.document_terms}/{setting.query_terms}",
    }
    return labels.get(kind, "")


def plot(path: Path, rows: dict[Setting, Row], front: Iterable[Setting], metric: str) -> None:
    """Draw the score against bytes and against latency, with one colour per kind of change."""
    from matplotlib import pyplot

    own = next(iter(rows))
    figure, axes = pyplot.subplots(1, 2, figsize=(12, 4.5), sharey=True, layout="constrained")
    panels = (("bytes", "index, MB", 1e6), ("milliseconds", "milliseconds a query", 1))
    for axis, (key, title, unit) in zip(axes, panels, strict=True):
        for number, kind in enumerate(
            ("the card's", "scale", "8 bits", "document terms", "query terms", "several")
        ):
            points = {
                setting: (row[key] / unit, row[metric])
                for setting, row in rows.items()
                if kind_of(setting, own) == kind
            }
            xs = [x for x, _ in points.values()]
            ys = [y for _, y in points.values()]
            marker = {"the card's": "*"}.get(kind, "o")
            axis.scatter(xs, ys, label=kind, color=f"C{number}", marker=marker, zorder=3)
            for setting, point in points.items():
                axis.annotate(
                    label_of(setting, kind), point, fontsize=7, xytext=(4, 3), textcoords="offset points"
                )
        axis.set_xlabel(title)
        axis.grid(alpha=0.3)
    line = sorted((rows[setting]["bytes"] / 1e6, rows[setting][metric]) for setting in front)
    axes[0].plot(*zip(*line, strict=True), color="#999", linewidth=1, label="front")
    axes[0].set_ylabel(metric)
    axes[0].legend(fontsize=8)
    figure.savefig(path, dpi=100)
    pyplot.close(figure)


if __name__ == "__main__":
    run(main)
