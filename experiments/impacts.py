"""Impacts and pruning: effectiveness against index bytes and search latency, for scales, an 8-bit clamp and numbers of terms.

python run_scripts/impacts.py --encoder csplade-bi-smol --collection beir/nfcorpus/test --output runs/impacts

Texts are encoded once, with all their terms and as floats; every setting makes impacts of these, an index and a run. The rows that no
other one beats in both nDCG@10 and bytes are the Pareto front. table.md and plot.png come into --output; run again to go on.
"""

import argparse
import itertools
import json
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import markdown
import numpy as np
from tqdm import tqdm

from csplade_pyserini.collections.corpus import open_corpus
from csplade_pyserini.collections.encoding import to_record
from csplade_pyserini.collections.files import whole_file
from csplade_pyserini.collections.manifests import versions
from csplade_pyserini.collections.topics import read_topics
from csplade_pyserini.command_line import run
from csplade_pyserini.lucene.indexing import IndexJob, build_index
from csplade_pyserini.lucene.java import prepare_java
from csplade_pyserini.model import SparseEncoder, load_encoder
from csplade_pyserini.reproduction.collections import find_collections
from csplade_pyserini.reproduction.inputs import Inputs
from csplade_pyserini.reproduction.records import described, hardware
from csplade_pyserini.reproduction.scores import ALL, evaluate

SCALES = (10, 20, 50, 100, 200)
CLAMP = 255
"""8 bits."""
DOCUMENT_TERMS = (32, 64, 96, 128, 192, 256, 512)
QUERY_TERMS = (8, 16, 32, 64, 128)
BATCH = 32
ROUNDS = 5
HITS = 1000


class Setting(NamedTuple):
    """How weights become impacts."""

    scale: float
    document_terms: int
    query_terms: int
    clamp: int = 0

    @property
    def name(self) -> str:
        return f"scale {self.scale:g}, {self.document_terms} and {self.query_terms} terms{f', at most {self.clamp}' if self.clamp else ''}"


class Weights(NamedTuple):
    """Texts by id, each with its token ids, heaviest first, and their weights."""

    texts: dict[str, str]
    ids: list[np.ndarray]
    values: list[np.ndarray]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--encoder", required=True)
    parser.add_argument(
        "--collection",
        required=True,
        metavar="NAME",
        help="what `reproduce` takes; its first set of topics is used",
    )
    parser.add_argument("--output", required=True, type=Path, metavar="DIR")
    args = parser.parse_args(argv)
    prepare_java()
    [collection] = find_collections(args.collection)
    inputs, topic_set = Inputs(args.output / "inputs"), collection.topics[0]
    inputs.write(collection)
    encoder = load_encoder(args.encoder)
    documents = {
        document.docid: document.text
        for document in open_corpus(str(inputs.corpus / "docs.jsonl")).documents()
    }
    weights = {
        "document": kept_weights(args.output, encoder, documents, "document", max(DOCUMENT_TERMS)),
        "query": kept_weights(
            args.output, encoder, read_topics(str(inputs.topics_file(topic_set))), "query", max(QUERY_TERMS)
        ),
    }
    card, rows = encoder.card, {}
    for setting in settings(card.impact_scale, card.document_top_terms, card.query_top_terms):
        folder = args.output / setting.name.replace(" ", "-").replace(",", "")
        file = folder.with_suffix(".json")
        if not file.is_file():
            counts = make_index(folder, setting, weights["document"], encoder.terms)
            of_queries = vectors(setting, weights["query"], setting.query_terms, encoder.terms)
            queries = dict(zip(weights["query"].texts, of_queries, strict=True))
            milliseconds = search(folder, queries)
            scores = evaluate(inputs.qrels(topic_set), folder / "run.txt", topic_set)
            row = (
                counts
                | {"milliseconds": milliseconds}
                | {metric: values[ALL] for metric, values in scores.items()}
            )
            with whole_file(file) as out:
                json.dump(row, out)
        rows[setting] = json.loads(file.read_text(encoding="utf-8"))
    about = f"{args.encoder} on {collection.key(topic_set)}; {described(hardware() | versions())}; {time.strftime('%Y-%m-%d')}"
    write_report(args.output, about, rows, topic_set.metrics)
    return 0


def settings(scale: float, document_terms: int, query_terms: int) -> list[Setting]:
    """The card's own first; then each of its numbers changed alone, and both of the strongest together."""
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
    folder: Path, encoder: SparseEncoder, texts: dict[str, str], side: Any, most: int
) -> Weights:
    """`weigh`, once: its result is kept in a file of this encoder's name."""
    file = folder / f"{side}-weights.{encoder.identity}.npz"
    if not file.is_file():
        made = weigh(encoder, texts, side, most)
        partial = file.with_suffix(".partial.npz")
        sizes = np.array([len(ids) for ids in made.ids])
        np.savez(partial, sizes=sizes, ids=np.concatenate(made.ids), values=np.concatenate(made.values))
        partial.replace(file)
    arrays = np.load(file)
    cuts = np.cumsum(arrays["sizes"])[:-1]
    return Weights(texts, np.split(arrays["ids"], cuts), np.split(arrays["values"], cuts))


def weigh(encoder: SparseEncoder, texts: dict[str, str], side: Any, most: int) -> Weights:
    """The `most` heaviest terms of every text, as floats."""
    order = sorted(texts, key=lambda name: -len(texts[name]))
    found: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for batch in tqdm(list(itertools.batched(order, BATCH)), desc=f"encoding, {side}", unit="batch"):
        values, ids = encoder.weights([texts[name] for name in batch], side=side).topk(most)
        found |= {
            name: (i[v > 0].cpu().numpy(), v[v > 0].cpu().numpy())
            for name, i, v in zip(batch, ids, values, strict=True)
        }
    return Weights(texts, [found[name][0] for name in texts], [found[name][1] for name in texts])


def vectors(
    setting: Setting, weights: Weights, most: int, terms: Sequence[str | None]
) -> Iterator[dict[str, int]]:
    """Impacts as the encoder makes them: scaled, rounded, zeros dropped."""
    for ids, values in zip(weights.ids, weights.values, strict=True):
        impacts = np.rint(values[:most] * setting.scale).astype(int)
        if setting.clamp:
            impacts = np.minimum(impacts, setting.clamp)
        yield {
            str(terms[i]): impact
            for i, impact in zip(ids.tolist(), impacts.tolist(), strict=False)
            if impact > 0
        }


def make_index(
    folder: Path, setting: Setting, documents: Weights, terms: Sequence[str | None]
) -> dict[str, Any]:
    """Index, and what it holds."""
    with whole_file(folder / "vectors" / "docs.jsonl") as file:
        for docid, vector in zip(
            documents.texts, vectors(setting, documents, setting.document_terms, terms), strict=True
        ):
            file.write(to_record(docid, "", vector))
    built = build_index(IndexJob(collection=folder / "vectors", index=folder / "index"))
    return {"bytes": built.bytes, "postings": built.postings}


class QueryVectors:
    """Pyserini's query-encoder interface over vectors that are there already."""

    def __init__(self, queries: dict[str, dict[str, int]]) -> None:
        self.queries = queries

    def encode(self, query: str, **_: object) -> dict[str, int]:
        return self.queries[query]


def search(folder: Path, queries: dict[str, dict[str, int]]) -> float:
    """Write run.txt; milliseconds a query in one thread, of the fastest of some rounds.

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
            file.writelines(
                f"{qid} Q0 {hit.docid} {rank} {hit.score:f} impacts\n"
                for rank, hit in enumerate(found, start=1)
            )
    return 1000 * min(times) / len(queries)


def pareto(points: dict[Setting, tuple[float, float]]) -> list[Setting]:
    """Those that no other one beats: (cost, score) with lower cost and no lower score, or as low a cost and a higher score."""
    return [
        name
        for name, (cost, score) in points.items()
        if not any(c <= cost and s >= score and (c, s) != (cost, score) for c, s in points.values())
    ]


def write_report(
    output: Path, about: str, rows: dict[Setting, dict[str, Any]], metrics: Sequence[str]
) -> None:
    """table.md, also on stdout, and plot.png. The card's own setting is the first row."""
    front = pareto({setting: (row["bytes"], row[metrics[0]]) for setting, row in rows.items()})
    own = next(iter(rows.values()))
    head = ["impacts", *metrics, "index bytes", "of the card's", "bytes a posting", "ms a query", "front"]
    lines = []
    for setting, row in rows.items():
        lines.append([
            setting.name, *(f"{row[metric]:.4f}" for metric in metrics), f"{row['bytes']:,}", f"{row['bytes'] / own['bytes']:.2f}",
            f"{row['bytes'] / row['postings']:.2f}", f"{row['milliseconds']:.2f}", "yes" if setting in front else "",
        ])  # fmt: skip
    table = f"{about}\n\n{markdown.table(head, lines)}"
    with whole_file(output / "table.md") as file:
        file.write(table + "\n")
    print(table)
    plot(output / "plot.png", rows, front, metrics[0])


def plot(path: Path, rows: dict[Setting, dict[str, Any]], front: Iterable[Setting], metric: str) -> None:
    """Score against bytes and against latency; a colour for what was changed."""
    from matplotlib import pyplot

    own = next(iter(rows))
    kinds = {
        "the card's": lambda s: s == own,
        "scale": lambda s: s._replace(scale=own.scale) == own,
        "8 bits": lambda s: bool(s.clamp),
        "document terms": lambda s: s._replace(document_terms=own.document_terms) == own,
        "query terms": lambda s: s._replace(query_terms=own.query_terms) == own,
        "several": lambda s: True,
    }
    figure, axes = pyplot.subplots(1, 2, figsize=(12, 4.5), sharey=True, layout="constrained")
    for axis, key, title, unit in zip(
        axes, ("bytes", "milliseconds"), ("index, MB", "milliseconds a query"), (1e6, 1), strict=True
    ):
        left = dict(rows)
        for number, (kind, belongs) in enumerate(kinds.items()):
            members = {setting: left.pop(setting) for setting in list(left) if belongs(setting)}
            places = [
                [row[key] / unit for row in members.values()],
                [row[metric] for row in members.values()],
            ]
            axis.scatter(
                *places, label=kind, color=f"C{number}", marker="*" if kind == "the card's" else "o", zorder=3
            )
            for setting, x, y in zip(members, *places, strict=True):
                text = {
                    "scale": f"{setting.scale:g}",
                    "8 bits": f"{setting.scale:g}",
                    "document terms": str(setting.document_terms),
                }
                text |= {
                    "query terms": str(setting.query_terms),
                    "several": f"{setting.document_terms}/{setting.query_terms}",
                }
                axis.annotate(
                    text.get(kind, ""), (x, y), fontsize=7, xytext=(4, 3), textcoords="offset points"
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
