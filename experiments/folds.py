"""Measure folded terms: effectiveness, terms, postings and bytes of one encoder with and without them.

    python experiments/folds.py --encoder csplade-bi-smol --collection sample --output runs/folds
    python experiments/folds.py --vocabulary llama-3=tokenizer.model --collection sample \\
        --output runs/folds-llama

Texts are encoded once, without folds; a fold's weight is the maximum of its tokens' weights, as the encoder
takes it. `apart` is `case`, but tokens within words stay apart from words (`heat` and `Ġheat`).

--vocabulary takes the token list of a byte-level tokenizer in the format of tiktoken. There is no model then:
a document has its tokens, each with the weight 1, and a query's weigh their inverse document frequency.
"""

import argparse
import base64
import itertools
import math
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from impacts import HITS, QueryVectors
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor
from tqdm import tqdm

from csplade_pyserini.collections.corpus import open_corpus
from csplade_pyserini.collections.topics import read_topics
from csplade_pyserini.collections.vectors import record_line
from csplade_pyserini.command_line import run
from csplade_pyserini.files.pages import markdown_table
from csplade_pyserini.files.whole import whole_file
from csplade_pyserini.folding import BYTE_SPACE, Folding, byte_characters, fold_tokens
from csplade_pyserini.impacts import to_terms
from csplade_pyserini.lucene.indexing import IndexJob, build_index
from csplade_pyserini.lucene.java import prepare_java
from csplade_pyserini.model import Side, load_encoder
from csplade_pyserini.reproduction.catalogue import find_collections
from csplade_pyserini.reproduction.inputs import Inputs
from csplade_pyserini.reproduction.scores import ALL, evaluate

BATCH = 16
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
"""How Llama 3 splits texts before its merges. Qwen takes single digits."""

Vectors = dict[str, dict[str, int]]
"""Impacts by term, by docid or qid."""


class Fold(NamedTuple):
    """One way to make terms of tokens."""

    terms: list[str]
    of_tokens: list[int]
    """Term of each token id; `len(terms)` for ids that are no terms."""


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    encoder: Any = Trained(args.encoder) if args.encoder else Untrained(args.vocabulary)
    if not args.collection:
        for name, fold in encoder.folds.items():
            print(f"{encoder.name} {name}: {len(fold.terms):,} terms")
        return 0
    prepare_java()
    [collection] = find_collections(args.collection)
    topic_set = collection.topics[0]
    inputs = Inputs(args.output / "inputs")
    inputs.write(collection)
    corpus = open_corpus(str(inputs.corpus / "docs.jsonl"))
    documents = {document.docid: document.text for document in corpus.documents()}
    topics = read_topics(str(inputs.topics_file(topic_set)))
    of_documents = encoder.vectors(documents, "document")
    of_queries = encoder.vectors(topics, "query")
    metrics = topic_set.metrics
    rows = []
    for name, fold in encoder.folds.items():
        folder = args.output / name
        row = make_index(folder, of_documents[name])
        search(folder, of_queries[name])
        scores = evaluate(inputs.qrels(topic_set), folder / "run.txt", topic_set)
        counts = (len(fold.terms), row["terms"], row["postings"], row["bytes"])
        rows.append(
            [name, *(f"{scores[metric][ALL]:.4f}" for metric in metrics), *(f"{n:,}" for n in counts)]
        )
    head = ["fold", *metrics, "terms of the vocabulary", "of the index", "postings", "bytes"]
    print(f"{encoder.name} on {collection.key(topic_set)}, {len(documents):,} documents\n")
    print(markdown_table(head, rows))
    return 0


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--encoder", help="encoder without folds")
    which.add_argument("--vocabulary", metavar="NAME=FILE", help="token list of a tokenizer, without a model")
    parser.add_argument(
        "--collection",
        metavar="NAME",
        help="a collection that `reproduce` takes; without it, the vocabulary's terms are counted, no more",
    )
    parser.add_argument("--output", type=Path, metavar="DIR", default=Path("runs/folds"))
    return parser.parse_args(argv)


class Trained:
    """An encoder, whose weights are folded after the model has run."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._encoder = load_encoder(name)
        if self._encoder.card.fold != "none":
            sys.exit(f"{name} folds its terms already; wanted an encoder with fold = 'none'")
        tokenizer = self._encoder.tokenizer
        self.folds = make_folds(self._encoder.terms, dict.fromkeys(tokenizer.all_special_ids, True))

    def vectors(self, texts: dict[str, str], side: Side) -> dict[str, Vectors]:
        """Vectors of each fold, by id."""
        made: dict[str, Vectors] = {name: {} for name in self.folds}
        order = sorted(texts, key=lambda name: -len(texts[name]))
        card = self._encoder.card
        most = card.side(side).top_terms or len(self._encoder.terms)
        for batch in tqdm(list(itertools.batched(order, BATCH)), desc=side, unit="batch"):
            weights = self._encoder.weights([texts[name] for name in batch], side=side)
            for name, fold in self.folds.items():
                heaviest = folded(weights, fold).topk(min(most, len(fold.terms)))
                impacts = torch.round(heaviest.values * card.impact_scale).int().tolist()
                for text, row, ids in zip(batch, impacts, heaviest.indices.tolist(), strict=True):
                    terms = zip(ids, row, strict=True)
                    made[name][text] = {fold.terms[number]: impact for number, impact in terms if impact}
        return made


class Untrained:
    """A vocabulary alone: the tokens of a text are its terms."""

    def __init__(self, vocabulary: str) -> None:
        self.name, _, file = vocabulary.partition("=")
        tokens = read_tokens(Path(file))
        self._tokenizer = byte_level_tokenizer(tokens)
        self.folds = make_folds(tokens, {})
        self._idf: dict[str, dict[str, float]] = {}

    def vectors(self, texts: dict[str, str], side: Side) -> dict[str, Vectors]:
        """Vectors of each fold, by id. Documents come first: the queries' weights are made of them."""
        ids = {name: self._tokenizer.encode(text).ids for name, text in texts.items()}
        made: dict[str, Vectors] = {}
        for name, fold in self.folds.items():
            terms = {text: {fold.terms[fold.of_tokens[n]] for n in row} for text, row in ids.items()}
            if side == "document":
                counts = Counter(itertools.chain.from_iterable(terms.values()))
                self._idf[name] = {t: math.log(1 + len(texts) / count) for t, count in counts.items()}
                made[name] = {text: dict.fromkeys(row, 1) for text, row in terms.items()}
            else:
                idf = self._idf[name]
                made[name] = {
                    text: {term: round(100 * idf[term]) for term in row if term in idf}
                    for text, row in terms.items()
                }
        return made


def make_folds(tokens: Sequence[str | None], added: dict[int, bool]) -> dict[str, Fold]:
    """Make the folds that are compared, by name."""
    case = fold_tokens(tokens, added)
    plain = [term for term in to_terms(tokens) if term is not None]
    numbers = itertools.count()
    own = [len(plain) if token is None else next(numbers) for token in tokens]
    folds = {"none": Fold(plain, own)}
    if any(token.startswith(BYTE_SPACE) for token in tokens if token is not None):
        folds["apart"] = apart(tokens, case)  # WordPiece's `##` tokens are apart as it is
    return folds | {"case": Fold(*case)}


def apart(tokens: Sequence[str | None], case: Folding) -> Fold:
    """Fold by case alone: tokens after a space, and tokens after none, are two terms."""
    keys = [
        None if token is None else (case.folds[number], token.startswith(BYTE_SPACE))
        for number, token in enumerate(tokens)
    ]
    found = {key: number for number, key in enumerate(dict.fromkeys(filter(None, keys)))}
    terms = [f"{'' if begins else '##'}{case.terms[number].removeprefix('##')}" for number, begins in found]
    return Fold(terms, [found.get(key, len(found)) if key else len(found) for key in keys])


def folded(weights: Tensor, fold: Fold) -> Tensor:
    """Maximum of each fold's weights: (B, V) to (B, T)."""
    into = torch.tensor(fold.of_tokens).expand_as(weights)
    made = weights.new_zeros(len(weights), len(fold.terms) + 1)
    return made.scatter_reduce_(1, into, weights, "amax")[:, :-1]


def read_tokens(file: Path) -> list[str]:
    """Read the tokens of a byte-level vocabulary, in the characters that stand for their bytes."""
    lines = file.read_text(encoding="ascii").splitlines()
    return [byte_characters(base64.b64decode(line.split()[0])) for line in lines]


def byte_level_tokenizer(tokens: Sequence[str]) -> Tokenizer:
    """Make the tokenizer of a list of tokens, whose order is that of its merges."""
    ids = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(ids, list(_merges(ids)), ignore_merges=True))
    split = pre_tokenizers.Split(Regex(SPLIT), behavior="isolated")
    plain = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, plain])
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _merges(ids: dict[str, int]) -> Iterator[tuple[str, str]]:
    for token in ids:
        halves = [(token[:cut], token[cut:]) for cut in range(1, len(token))]
        known = [pair for pair in halves if pair[0] in ids and pair[1] in ids]
        yield from sorted(known, key=lambda pair: (ids[pair[0]], ids[pair[1]]))


def make_index(folder: Path, documents: Vectors) -> dict[str, int]:
    """Build an index, and return its terms, postings and bytes."""
    with whole_file(folder / "vectors" / "docs.jsonl") as file:
        for docid, vector in documents.items():
            file.write(record_line(docid, "", vector))
    built = build_index(IndexJob(collection=folder / "vectors", index=folder / "index"))
    return {"terms": built.terms, "postings": built.postings, "bytes": built.bytes}


def search(folder: Path, queries: Vectors) -> None:
    """Write run.txt."""
    from pyserini.search.lucene import LuceneImpactSearcher

    searcher = LuceneImpactSearcher(str(folder / "index"), QueryVectors(queries))
    with whole_file(folder / "run.txt") as file:
        for qid in queries:
            for rank, hit in enumerate(searcher.search(qid, k=HITS), start=1):
                file.write(f"{qid} Q0 {hit.docid} {rank} {hit.score:f} folds\n")


if __name__ == "__main__":
    run(main)
