"""A lookup's token weights, fitted so that its scores agree with those of the full query encoder.

A query's score of a document is linear in the weights of the query's tokens. So the fit is convex: it starts
from idf over the encoded documents, and no weight goes below 0. It needs queries and documents, no labels.
"""

import dataclasses
import itertools
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from tqdm import tqdm

from csplade_pyserini.cards import (
    CARD_FILE,
    TABLE_FILE,
    Checkpoint,
    EncoderCard,
    find_checkpoint,
    same_encoder,
    table_folders,
    write_card,
)
from csplade_pyserini.collections.manifests import encoder_of
from csplade_pyserini.collections.topics import read_topics
from csplade_pyserini.collections.vectors import read_vectors
from csplade_pyserini.errors import InputError
from csplade_pyserini.files.whole import WORK_NAME
from csplade_pyserini.impacts import Vector
from csplade_pyserini.model import SparseEncoder, build_encoder
from csplade_pyserini.query_sides.lookup import LookupEncoder
from csplade_pyserini.query_sides.table import LookupTable, write_table
from csplade_pyserini.training.checkpoints import whole_card
from csplade_pyserini.training.texts import TEXT_ENDINGS, read_texts

try:
    from scipy import optimize, sparse
except ImportError as error:
    raise InputError(
        f"a lookup's fit needs scipy ({error}): pip install 'csplade_pyserini[train]'"
    ) from error

Objective = Literal["squared", "kl"]
OBJECTIVES: tuple[str, ...] = get_args(Objective)
_AT_ONCE = 512
"""Queries whose scores of all documents are held at once."""
_DOCUMENTS_AT_ONCE = 2_048
_BEST = 100
"""Documents that the full query encoder ranks highest, for each query."""
_ALSO = 50
"""Documents that a lookup by idf ranks highest, for each query."""
_RANDOM = 25
"""Other documents for each query, drawn at random."""
_STAY = 0.01
"""Pull of each weight towards its start, so that a token of few queries keeps its idf."""
_TEMPERATURE = 0.5
"""Temperature of both distributions of the objective `kl`, in standard deviations of a query's scores."""
_STEPS = 200
"""Most steps of the solver."""
_HELD_OUT = 0.1
"""Share of the queries that the fit does not see."""
_SPAN = (3, 12)
"""Fewest and most words of a query that is cut from a text."""
_TOP = 10
_Array = np.ndarray
_Matrix = Any
"""A sparse matrix of scipy, in CSR."""


@dataclass(frozen=True, kw_only=True)
class LookupSettings:
    """Settings of `train lookup`."""

    encoder: str
    output: Path
    """Folder of the table."""
    texts: tuple[str, ...] = ()
    """Corpora or FILE.txt: documents to encode, and text to cut queries from."""
    queries: tuple[str, ...] = ()
    """Topics or FILE.txt; empty cuts queries from `texts`."""
    vectors: tuple[Path, ...] = ()
    """Collections that the encoder has encoded already; empty encodes `texts`."""
    documents: int = 20_000
    """Most documents of the fit, drawn at random."""
    most_queries: int = 12_000
    """Most queries of the fit, drawn at random."""
    objective: Objective = "kl"
    device: str | None = None
    seed: int = 1


@dataclass(frozen=True)
class _Pairs:
    """Queries with some documents each, (P, ...) pairs in all. The pairs of a query lie together."""

    features: _Matrix
    """(P, T) score of each pair's document by each term of its query, at the term's start weight."""
    targets: _Array
    """(P,) the full query encoder's score."""
    starts: _Array
    """(Q,) number of each query's first pair."""
    sizes: _Array
    """(Q,) number of each query's pairs."""


def fit_lookup(settings: LookupSettings) -> Path:
    """Fit a table and write it into the output folder; return the table's path.

    Raises InputError on bad input, and on vectors that another encoder made.
    """
    checkpoint = find_checkpoint(settings.encoder, device=settings.device)
    _check_inputs(settings, checkpoint)
    encoder = build_encoder(checkpoint)
    drawn = np.random.default_rng(settings.seed)
    terms = token_terms(encoder)
    columns = {term: column for column, term in enumerate(dict.fromkeys(filter(None, terms)))}
    queries = _draw(_query_texts(settings, drawn), settings.most_queries, drawn)
    documents = _matrix(_document_vectors(settings, encoder, drawn), columns)
    if not len(queries) or not documents.nnz:
        raise InputError(
            f"there are {len(queries)} queries and {documents.shape[0]} documents with "
            f"{documents.nnz} impacts; wanted some of each"
        )
    idf = inverse_document_frequency(documents)
    start = _table(checkpoint, encoder, terms, columns, idf / checkpoint.card.impact_scale, {})
    full = _matrix(_with_bar(encoder, queries), columns)
    own = _token_matrix(LookupEncoder(encoder.card, start), queries, columns)
    held = np.zeros(len(queries), dtype=bool)
    held[: int(_HELD_OUT * len(queries))] = True
    weights, record = _fit(full[~held], own[~held], documents, idf, settings.objective, drawn)
    facts = record | {
        "objective": settings.objective,
        "documents": str(documents.shape[0]),
        "queries": str(int((~held).sum())),
    }
    if held.any():
        facts |= _agreement(full[held], own[held], documents, idf, weights)
    print(json.dumps(facts, indent=1), file=sys.stderr)
    table = _table(checkpoint, encoder, terms, columns, weights / checkpoint.card.impact_scale, facts)
    return write_lookup(table, settings.output, settings.encoder, checkpoint.stored_card)


def write_lookup(table: LookupTable, folder: Path, encoder: str, card: EncoderCard) -> Path:
    """Write a table into a folder; return its path.

    A folder of its own also gets a card, so that it is an encoder's name. It makes queries only.
    """
    path = folder / TABLE_FILE
    write_table(table, path)
    places = [Path(place).resolve() for place in table_folders(encoder)]
    if folder.resolve() not in places and {file.name for file in folder.iterdir()} == {TABLE_FILE}:
        queries_only = dataclasses.replace(whole_card(card), query="lookup", query_encoder="")
        write_card(queries_only, folder / CARD_FILE)
    return path


def token_terms(encoder: SparseEncoder) -> list[str]:
    """Lucene term of each token id; empty where there is none, or none that counts."""
    terms = [term or "" for term in encoder.token_terms]
    if encoder.card.exclude_special_tokens:
        for token_id in encoder.tokenizer.all_special_ids:
            terms[token_id] = ""
    return terms


def inverse_document_frequency(documents: _Matrix) -> _Array:
    """Idf of each term over encoded documents (D, T), as BM25 has it: above 0."""
    count = documents.shape[0]
    frequency = np.bincount(documents.indices, minlength=documents.shape[1])
    idf: _Array = np.log1p((count - frequency + 0.5) / (frequency + 0.5))
    return idf


def _check_inputs(settings: LookupSettings, checkpoint: Checkpoint) -> None:
    """Raise InputError unless there are documents and queries, of this encoder."""
    if not settings.texts and not settings.queries:
        raise InputError("wanted --queries, or --texts to cut queries from")
    if not settings.texts and not settings.vectors:
        raise InputError("wanted --vectors, a collection that the encoder has encoded, or --texts to encode")
    for collection in settings.vectors:
        maker = encoder_of(collection)
        if maker is not None and not same_encoder(maker, checkpoint.identity):
            raise InputError(
                f"{collection} was encoded by {maker}, the table is to be for {checkpoint.identity}"
            )


def _table(
    checkpoint: Checkpoint,
    encoder: SparseEncoder,
    terms: Sequence[str],
    columns: dict[str, int],
    weights: _Array,
    facts: dict[str, str],
) -> LookupTable:
    """Make the table of weights (T,) of terms."""
    of_tokens = np.zeros(len(terms), dtype=np.float32)
    for token_id, term in enumerate(terms):
        if term:
            of_tokens[token_id] = weights[columns[term]]
    backend: Any = encoder.tokenizer
    return LookupTable(
        encoder=checkpoint.identity,
        weights=of_tokens,
        terms=tuple(terms),
        tokenizer=backend.backend_tokenizer.to_str(),
        facts=facts,
    )


def _query_texts(settings: LookupSettings, drawn: np.random.Generator) -> list[str]:
    """Texts of the queries, each once."""
    texts: list[str] = []
    for name in settings.queries:
        if name.endswith(TEXT_ENDINGS):
            texts += read_texts([name])
        else:
            texts += read_topics(name).values()
    if not settings.queries:
        texts += (span for text in read_texts(settings.texts) if (span := _span(text, drawn)))
    return list(dict.fromkeys(filter(None, map(str.strip, texts))))


def _span(text: str, drawn: np.random.Generator) -> str:
    """Cut a query from a text: some words in a row."""
    words = text.split()
    fewest, most = _SPAN
    length = int(drawn.integers(fewest, most + 1))
    begin = int(drawn.integers(0, max(1, len(words) - length + 1)))
    return " ".join(words[begin : begin + length])


def _document_vectors(
    settings: LookupSettings, encoder: SparseEncoder, drawn: np.random.Generator
) -> Iterator[Vector]:
    if settings.vectors:
        files = [file for collection in settings.vectors for file in _files(collection)]
        yield from _draw(list(read_vectors(files)), settings.documents, drawn)
        return
    texts = _draw(list(filter(str.strip, read_texts(settings.texts))), settings.documents, drawn)
    with tqdm(total=len(texts), desc="encoding documents", unit="doc") as bar:
        for batch in itertools.batched(texts, _DOCUMENTS_AT_ONCE):
            rows = encoder.tokenize(batch, side="document")
            yield from encoder.encode_tokenized(rows, side="document", progress=bar.update)


def _files(collection: Path) -> list[Path]:
    """Files of a collection directory. Raises InputError if there is none."""
    if not collection.is_dir():
        raise InputError(f"the collection {collection} does not exist; wanted a folder that `encode` wrote")
    return sorted(file for file in collection.iterdir() if file.name != WORK_NAME)


def _draw[T](items: Sequence[T], most: int, drawn: np.random.Generator) -> list[T]:
    """At most so many items in random order."""
    order = drawn.permutation(len(items))[:most]
    return [items[number] for number in order]


def _with_bar(encoder: SparseEncoder, queries: Sequence[str]) -> Iterator[Vector]:
    with tqdm(total=len(queries), desc="encoding queries", unit="query") as bar:
        for batch in itertools.batched(queries, _DOCUMENTS_AT_ONCE):
            yield from encoder.encode_queries(batch, progress=bar.update)


def _matrix(vectors: Iterator[Vector], columns: dict[str, int]) -> _Matrix:
    """(N, T) impacts of vectors; a term that no query token has is left out."""
    indices: list[int] = []
    values: list[int] = []
    ends = [0]
    for vector in vectors:
        known = [(columns[term], impact) for term, impact in vector.items() if term in columns]
        indices += (column for column, _ in known)
        values += (impact for _, impact in known)
        ends.append(len(indices))
    shape = (len(ends) - 1, len(columns))
    return sparse.csr_matrix((np.array(values, dtype=np.float32), indices, ends), shape=shape)


def _token_matrix(lookup: LookupEncoder, queries: Sequence[str], columns: dict[str, int]) -> _Matrix:
    """(Q, T) 1 at the terms of each query's own tokens."""
    rows = lookup.token_ids(queries)
    terms = [{lookup.terms[token_id] for token_id in row} - {""} for row in rows]
    return _matrix((dict.fromkeys(sorted(own), 1) for own in terms), columns)


def _scale(pairs: _Pairs) -> float:
    """Factor that brings the start's scores closest to the full query encoder's, in squared error."""
    scores = _centred(pairs.features.sum(axis=1).A1, pairs.starts, pairs.sizes)
    targets = _centred(pairs.targets, pairs.starts, pairs.sizes)
    scale = float(scores @ targets) / (float(scores @ scores) or 1.0)
    if not scale > 0:
        raise InputError("no document has a term of the queries: are they of another language or domain?")
    return scale


def _fit(
    full: _Matrix,
    own: _Matrix,
    documents: _Matrix,
    start: _Array,
    objective: Objective,
    drawn: np.random.Generator,
) -> tuple[_Array, dict[str, str]]:
    """Fit the weights (T,) of terms from their start, up to a factor; also say how it went."""
    pairs = _pairs(full, own, documents, start, drawn)
    scale = _scale(pairs)
    start = scale * start
    pairs = dataclasses.replace(pairs, features=scale * pairs.features)
    loss = {"squared": squared_loss, "kl": kl_loss}[objective]
    seen = np.asarray(abs(pairs.features).sum(axis=0)).ravel() > 0

    def total(factors: _Array) -> tuple[float, _Array]:
        scores = pairs.features @ factors
        value, slope = loss(scores, pairs.targets, pairs.starts, pairs.sizes)
        away = factors - 1
        count = len(pairs.sizes)
        pull = _STAY / count
        gradient = pairs.features.T @ slope + 2 * pull * away
        return value + pull * float(away @ away), np.asarray(gradient)

    first = np.ones(len(start))
    found = optimize.minimize(
        total, first, jac=True, method="L-BFGS-B", bounds=[(0, None)] * len(start),
        options={"maxiter": _STEPS},
    )  # fmt: skip
    factors = np.where(seen, found.x, 1.0)
    record = {
        "loss": f"{total(first)[0]:.4f} at idf, {float(found.fun):.4f} after {found.nit} steps",
        "fitted": f"{int(seen.sum())} of {len(start)} terms",
    }
    return start * factors, record


def _pairs(
    full: _Matrix, own: _Matrix, documents: _Matrix, start: _Array, drawn: np.random.Generator
) -> _Pairs:
    """Pair each query with documents: the best of both sides, and some at random."""
    transposed = documents.T.tocsr()
    weighted = own @ sparse.diags(start)
    features = []
    targets = []
    sizes: list[int] = []
    for begin in tqdm(range(0, full.shape[0], _AT_ONCE), desc="pairing queries with documents"):
        part = slice(begin, begin + _AT_ONCE)
        scores = (full[part] @ transposed).toarray()
        by_start = (weighted[part] @ transposed).toarray()
        chosen = [_candidates(*both, drawn) for both in zip(scores, by_start, strict=True)]
        sizes += map(len, chosen)
        rows = np.repeat(np.arange(len(chosen)), list(map(len, chosen)))
        columns = np.concatenate(chosen)
        targets.append(scores[rows, columns])
        features.append(weighted[part][rows].multiply(documents[columns]).tocsr())
    counts = np.array(sizes)
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    return _Pairs(sparse.vstack(features).tocsr(), np.concatenate(targets), starts, counts)


def _candidates(full: _Array, start: _Array, drawn: np.random.Generator) -> _Array:
    """Numbers of a query's documents, each once."""
    random = drawn.integers(0, len(full), _RANDOM)
    return np.unique(np.concatenate([_best(full, _BEST), _best(start, _ALSO), random]))


def _best(scores: _Array, count: int) -> _Array:
    """Numbers of the highest scores above 0, in any order."""
    if count < len(scores):
        found = np.argpartition(scores, -count)[-count:]
    else:
        found = np.arange(len(scores))
    return found[scores[found] > 0]


def squared_loss(scores: _Array, targets: _Array, starts: _Array, sizes: _Array) -> tuple[float, _Array]:
    """Squared error of score differences within each query, and its slope by the scores (P,).

    Each query counts alike: its error is in units of its targets' variance. A constant of a query does not
    count, as it changes no ranking.
    """
    errors = _centred(scores - targets, starts, sizes)
    spread = _centred(targets, starts, sizes)
    variance = np.add.reduceat(spread**2, starts) / sizes
    share = np.repeat(1 / (sizes * np.maximum(variance, 1e-9) * len(sizes)), sizes)
    share[np.repeat(variance <= 1e-9, sizes)] = 0  # a query that tells no documents apart
    return float((share * errors**2).sum()), 2 * share * errors


def kl_loss(scores: _Array, targets: _Array, starts: _Array, sizes: _Array) -> tuple[float, _Array]:
    """KL divergence of softmax(scores) from softmax(targets) within each query, and its slope (P,)."""
    spread = _centred(targets, starts, sizes)
    deviation = np.sqrt(np.add.reduceat(spread**2, starts) / sizes)
    cold = np.repeat(np.maximum(_TEMPERATURE * deviation, 1e-6), sizes)
    wanted = _log_softmax(targets / cold, starts, sizes)
    found = _log_softmax(scores / cold, starts, sizes)
    probability = np.exp(wanted)
    count = len(sizes)
    value = float((probability * (wanted - found)).sum()) / count
    return value, (np.exp(found) - probability) / cold / count


def _centred(values: _Array, starts: _Array, sizes: _Array) -> _Array:
    """Values less the mean of their query's."""
    centred: _Array = values - np.repeat(np.add.reduceat(values, starts) / sizes, sizes)
    return centred


def _log_softmax(values: _Array, starts: _Array, sizes: _Array) -> _Array:
    shifted = values - np.repeat(np.maximum.reduceat(values, starts), sizes)
    total = np.log(np.add.reduceat(np.exp(shifted), starts))
    found: _Array = shifted - np.repeat(total, sizes)
    return found


def _agreement(
    full: _Matrix, own: _Matrix, documents: _Matrix, idf: _Array, weights: _Array
) -> dict[str, str]:
    """Share of the full query encoder's best documents that a lookup's best have, on unseen queries."""
    transposed = documents.T.tocsr()
    shares: dict[str, list[float]] = {"idf": [], "lookup": []}
    for begin in range(0, full.shape[0], _AT_ONCE):
        part = slice(begin, begin + _AT_ONCE)
        wanted = [set(_best(row, _TOP)) for row in (full[part] @ transposed).toarray()]
        for name, values in (("idf", idf), ("lookup", weights)):
            scores = ((own[part] @ sparse.diags(values)) @ transposed).toarray()
            found = [set(_best(row, _TOP)) for row in scores]
            both = zip(wanted, found, strict=True)
            shares[name] += [len(one & other) / len(one) for one, other in both if one]
    return {
        f"same best {_TOP} by {name}": f"{np.mean(values):.3f} of {len(values)} unseen queries"
        for name, values in shares.items()
        if values
    }
