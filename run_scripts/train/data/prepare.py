"""Prepare what csplade-tiny is trained on: texts, training examples scored by a teacher, and a tokenizer.

    python run_scripts/train/prepare_data.py pairs --data DATA --output WORK --teacher FOLDER
    python run_scripts/train/prepare_data.py tokenizer --texts WORK/texts.jsonl --output TOKENIZER
    python run_scripts/train/prepare_data.py map --vectors WORK/teacher --examples WORK/examples.jsonl --teacher FOLDER \\
        --tokenizer TOKENIZER --output MAPPED
    python run_scripts/train/prepare_data.py split --examples WORK/examples.jsonl --output WORK

DATA holds the development data described in DATA/README.md. No query, qrel or topic of a development or test
split is used: BEIR keeps the queries of all splits in one file, and the train qrels say which are taken.
Everything random comes from --seed. A file that is already there is kept, whatever made it.
"""

import argparse
import csv
import gzip
import io
import itertools
import json
import math
import random
import re
import sys
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from scipy.sparse import csr_matrix, vstack
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from tqdm import tqdm
from transformers import AutoModelForMaskedLM, AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from csplade_pyserini.cards import Checkpoint, EncoderCard, parse_card
from csplade_pyserini.collections.files import whole_file
from csplade_pyserini.command_line import run
from csplade_pyserini.errors import InputError
from csplade_pyserini.model.backbone import load_tokenizer
from csplade_pyserini.model.head import activate, streamed_peaks
from csplade_pyserini.tables import read_toml

CROPS, GLOSSES = 25_000, 20_000
"""Examples made of MS MARCO passages and of WordNet glosses."""
GROUP = 4
"""Most positives of one NFCorpus example."""
DOCUMENT_TERMS, QUERY_TERMS, IMPACT = 200, 64, 100
"""Terms kept of a teacher's vector, and the factor from its weights to whole impacts."""
TEACHER_LENGTH, BATCH_TOKENS, BATCH_TEXTS = 192, 8192, 256
"""Tokens the teacher reads of a text; most tokens, padding included, and texts of one batch."""
PASSAGE_CHARACTERS = range(100, 1000)
"""A paragraph of running text shorter than this is left out, a longer one is split at its line ends."""
END = "<|endoftext|>"
LEXICAL_QUERY, LEXICAL_DOCUMENT = 100, 30
"""Impact added to a mapped vector for each token of a query, and for each unit of BM25 weight of a passage's token:
the teacher knows little of rare words. About the best of the factors tried on NFCorpus's dev split."""
LEXICAL_LENGTH = 400
"""Tokens of a text that are counted."""
K1, B = 1.2, 0.75
"""BM25's parameters there."""
JUDGED, QUERY_SHARE = "nfcorpus:", 0.6
"""How the ids of queries begin whose relevant documents people chose, and the share of their impacts that these documents get:
of 0.3, 0.6 and 1.0 the best on NFCorpus's dev split, where it takes the mapped vectors from nDCG@10 0.296 to 0.334."""
OTHERS_KEPT = 3
"""One of so many examples that are not NFCorpus's is kept beside them."""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    pairs = commands.add_parser("pairs", help="texts, training examples and the teacher's vectors")
    pairs.add_argument("--data", type=Path, required=True, help="folder of the development data")
    pairs.add_argument("--output", type=Path, required=True, help="folder to write")
    pairs.add_argument(
        "--teacher", type=Path, help="folder of a SPLADE BERT; without it no scores, and random negatives"
    )
    pairs.add_argument("--seed", type=int, default=1)
    pairs.set_defaults(run=lambda args: prepare_pairs(args.data, args.output, args.teacher, args.seed))
    tokenizer = commands.add_parser("tokenizer", help="train a tokenizer")
    tokenizer.add_argument("--texts", type=Path, required=True, help="JSON Lines with contents")
    tokenizer.add_argument("--output", type=Path, required=True, help="tokenizer folder to write")
    tokenizer.add_argument("--vocabulary", type=int, default=16_384, help="entries (default 16384)")
    tokenizer.set_defaults(run=lambda args: prepare_tokenizer(args.texts, args.output, args.vocabulary))
    mapped = commands.add_parser(
        "map", help="vectors over wordpieces to vectors over another tokenizer's tokens"
    )
    mapped.add_argument(
        "--vectors", type=Path, required=True, help="folder of the teacher's vectors, queries/ and documents/"
    )
    mapped.add_argument("--examples", type=Path, required=True, help="the examples that pairs wrote")
    mapped.add_argument(
        "--teacher", type=Path, required=True, help="folder of the teacher, for its tokenizer"
    )
    mapped.add_argument(
        "--tokenizer",
        type=Path,
        required=True,
        help="folder of the other tokenizer, or a training configuration",
    )
    mapped.add_argument("--output", type=Path, required=True, help="folder to write")
    mapped.set_defaults(
        run=lambda args: map_vectors(args.vectors, args.examples, args.teacher, args.tokenizer, args.output)
    )
    split = commands.add_parser(
        "split", help="NFCorpus's examples and a share of the others, for the second contrastive phase"
    )
    split.add_argument("--examples", type=Path, required=True, help="the examples that pairs wrote")
    split.add_argument(
        "--output", type=Path, required=True, help="folder to write nfcorpus.jsonl and others.jsonl to"
    )
    split.set_defaults(run=lambda args: split_examples(args.examples, args.output))
    args = parser.parse_args(argv)
    args.run(args)
    return 0


def absent(path: Path) -> bool:
    """Whether `path` still has to be made; says so where it is there."""
    if path.exists():
        print(f"{path} is there, kept", file=sys.stderr)
    return not path.exists()


def write_lines(path: Path, records: Iterable[dict]) -> None:
    """JSON Lines, whole or not at all. Raises InputError where the file cannot be written."""
    with whole_file(path) as file:
        for record in records:
            file.write(json.dumps(record, ensure_ascii=False) + "\n")


# ---------------------------------------------------------------- reading the data


def nfcorpus(data: Path, member: str) -> Iterator[str]:
    """Lines of a file of the BEIR NFCorpus archive."""
    archive = data / "ir_datasets" / "beir" / "nfcorpus" / "source.zip"
    with zipfile.ZipFile(archive) as zipped, zipped.open(f"nfcorpus/{member}") as raw:
        yield from io.TextIOWrapper(raw, encoding="utf-8")


def nfcorpus_documents(data: Path) -> dict[str, tuple[str, str]]:
    """(title, text) by id."""
    records = map(json.loads, nfcorpus(data, "corpus.jsonl"))
    return {record["_id"]: (record["title"], record["text"]) for record in records}


def nfcorpus_train(data: Path) -> dict[str, tuple[str, list[str]]]:
    """(query, ids of its relevant documents) by query id, of the train split."""
    queries = {record["_id"]: record["text"] for record in map(json.loads, nfcorpus(data, "queries.jsonl"))}
    judged: dict[str, tuple[str, list[str]]] = {}
    for row in csv.DictReader(nfcorpus(data, "qrels/train.tsv"), delimiter="\t"):
        if int(row["score"]) > 0:
            judged.setdefault(row["query-id"], (queries[row["query-id"]], []))[1].append(row["corpus-id"])
    return judged


def msmarco_passages(data: Path) -> dict[str, str]:
    """Passages of the MS MARCO pool by id."""
    with gzip.open(data / "msmarco-dl" / "collection.jsonl.gz", "rt", encoding="utf-8") as lines:
        return {record["id"]: record["contents"] for record in map(json.loads, lines)}


def wordnet_glosses(data: Path) -> list[tuple[str, str]]:
    """(term, gloss) pairs."""
    with gzip.open(data / "pairs" / "wordnet_gloss_pairs.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [(record["query"], record["pos"]) for record in map(json.loads, lines)]


def trecqa_questions(path: Path) -> Iterator[tuple[str, str, list[str], list[str]]]:
    """Id, question, positive and negative sentences of each question of a TREC QA file."""
    for name, block in re.findall(
        r"<QApairs id='(.*?)'>(.*?)</QApairs>", path.read_text(encoding="utf-8", errors="replace"), re.S
    ):
        sentences: dict[str, list[str]] = {"question": [], "positive": [], "negative": []}
        for tag, words in re.findall(r"^<(question|positive|negative)>\n(.*)", block, re.M):
            sentences[tag].append(natural(words))
        yield name, sentences["question"][0], sentences["positive"], sentences["negative"]


def natural(text: str) -> str:
    """Text as people write it: the tokens of treebanks and of WikiText undone, blanks collapsed."""
    text = re.sub(r" ?@([-,.])@ ?", r"\1", text.replace("<unk>", " "))
    for token, written in (("``", '"'), ("''", '"'), ("-LRB-", "("), ("-RRB-", ")")):
        text = text.replace(token, written)
    text = " ".join(text.split())
    return re.sub(r" ([,.;:!?%)]|n't\b|'(?:s|re|ve|ll|d|m)\b)", r"\1", text).replace("( ", "(")


def read_texts(data: Path) -> Iterator[tuple[str, str]]:
    """(id, passage) of everything that is text."""
    for name, text in msmarco_passages(data).items():
        yield f"msmarco:{name}", text
    for name, (title, text) in nfcorpus_documents(data).items():
        yield f"nfcorpus:{name}", f"{title} {text}"
    yield from running_texts(data)
    for number, (term, gloss) in enumerate(wordnet_glosses(data)):
        yield f"wordnet:{number}", f"{term}: {gloss}"


def running_texts(data: Path) -> Iterator[tuple[str, str]]:
    """(id, passage) of WikiText-2 and NLTK's corpora, cut at paragraphs."""
    for name in ("valid", "test"):
        text = (data / "text" / "wikitext-2" / f"{name}.txt").read_text(encoding="utf-8")
        # A line is a paragraph or, between equals signs, a heading.
        yield from numbered(
            f"wikitext-2:{name}", (line for line in text.splitlines() if not line.startswith(" ="))
        )
    for corpus in ("brown", "abc", "inaugural", "state_union", "webtext"):
        with zipfile.ZipFile(data / "text" / "nltk" / f"{corpus}.zip") as archive:
            for member in archive.namelist():
                name = member.rpartition("/")[2]
                if corpus == "brown" and re.fullmatch(r"c[a-r]\d\d", name):
                    tagged = archive.read(member).decode("latin-1")
                    yield from numbered(f"brown:{name}", paragraphs(re.sub(r"(\S+)/[^\s/]+", r"\1", tagged)))
                elif name.endswith(".txt"):
                    text = archive.read(member).decode("utf-8", errors="replace")
                    yield from numbered(f"{corpus}:{name.removesuffix('.txt')}", paragraphs(text))


def numbered(prefix: str, passages: Iterable[str]) -> Iterator[tuple[str, str]]:
    """(id, passage) of those that are long enough."""
    for number, passage in enumerate(map(natural, passages)):
        if len(passage) >= PASSAGE_CHARACTERS.start:
            yield f"{prefix}:{number}", passage


def paragraphs(text: str) -> Iterator[str]:
    """Blocks between blank lines; of a long one, runs of its lines."""
    for block in re.split(r"\n\s*\n", text.replace("\r\n", "\n")):
        passage = ""
        for line in block.splitlines():
            if passage and len(passage) + len(line) > PASSAGE_CHARACTERS.stop:
                yield passage
                passage = ""
            passage += line + " "
        yield passage


# ---------------------------------------------------------------- drafts: queries and their positives


@dataclass(frozen=True)
class Draft:
    """A training example whose negatives are not drawn yet. Queries, passages and pools go by their ids."""

    source: str
    query: str
    positives: tuple[str, ...]
    barred: frozenset[str]
    """Passages that are no negatives, the positives aside."""
    pool: str
    """Where negatives come from."""
    ranks: slice | None
    """Part of the teacher's ranking of the pool that negatives are drawn from; None for the whole pool."""
    count: int
    """Negatives wanted."""


@dataclass
class Material:
    """Everything that examples are made of."""

    queries: dict[str, str] = field(default_factory=dict)
    passages: dict[str, str] = field(default_factory=dict)
    pools: dict[str, list[str]] = field(default_factory=dict)
    drafts: list[Draft] = field(default_factory=list)
    _query_ids: dict[tuple[str, str], str] = field(default_factory=dict)

    def query(self, source: str, key: str, text: str) -> str:
        """Id of a source's query: `key`, or that of the source's earlier query with the same text."""
        name = self._query_ids.setdefault((source, text), key)
        if self.queries.setdefault(name, text) != text:
            raise ValueError(f"two queries have the id {name}")
        return name


def read_material(data: Path, seed: int) -> Material:
    """Queries, passages and drafts of all sources; the same for the same data and seed."""
    material = Material()
    documents = nfcorpus_documents(data)
    add_passages(
        material, "nfcorpus", {f"nfcorpus:{name}": " ".join(both) for name, both in documents.items()}
    )
    add_passages(
        material, "msmarco", {f"msmarco:{name}": text for name, text in msmarco_passages(data).items()}
    )
    add_nfcorpus_train(material, nfcorpus_train(data), random.Random(f"{seed}:nfcorpus"))
    add_nfcorpus_titles(material, documents)
    add_crops(material, random.Random(f"{seed}:crop"))
    add_glosses(material, wordnet_glosses(data), random.Random(f"{seed}:wordnet"))
    add_filings(
        material,
        json.loads((data / "pairs" / "llamaindex_10k" / "train_dataset.json").read_text(encoding="utf-8")),
    )
    add_trecqa(material, trecqa_questions(data / "pairs" / "trecqa" / "train.xml"))
    return material


def add_passages(material: Material, pool: str, passages: dict[str, str]) -> None:
    """Passages that are also a pool of negatives."""
    material.passages |= passages
    material.pools[pool] = list(passages)


def add_nfcorpus_train(
    material: Material, judged: dict[str, tuple[str, list[str]]], rng: random.Random
) -> None:
    """A query's relevant documents in groups, with seven of the teacher's top 100 that are not relevant."""
    relevant: dict[str, dict[str, None]] = {}  # as an ordered set
    for name, (text, documents) in judged.items():
        query = material.query("nfcorpus-train", f"nfcorpus:{name}", text)
        known = (f"nfcorpus:{document}" for document in documents)
        relevant.setdefault(query, {}).update(
            dict.fromkeys(name for name in known if name in material.passages)
        )
    for query, positives in relevant.items():
        for group in itertools.batched(rng.sample(list(positives), len(positives)), GROUP):
            material.drafts.append(
                Draft("nfcorpus-train", query, group, frozenset(positives), "nfcorpus", slice(0, 100), 7)
            )


def add_nfcorpus_titles(material: Material, documents: dict[str, tuple[str, str]]) -> None:
    """A document's title as the query of its text."""
    for name, (title, text) in documents.items():
        if title.strip() and text.strip():
            query = material.query("nfcorpus-title", f"title:nfcorpus:{name}", title)
            positive = f"nfcorpus:{name}:text"
            material.passages[positive] = text
            barred = frozenset({f"nfcorpus:{name}"})
            material.drafts.append(
                Draft("nfcorpus-title", query, (positive,), barred, "nfcorpus", slice(0, 50), 3)
            )


def add_crops(material: Material, rng: random.Random) -> None:
    """Spans of MS MARCO passages as queries; rank 5 and below, as the first ones may well be relevant too."""
    long = [name for name in material.pools["msmarco"] if len(material.passages[name].split()) > 20]
    for name in rng.sample(long, CROPS):
        span, rest = crop_pair(material.passages[name], rng)
        query = material.query("msmarco-crop", f"crop:{name}", span)
        positive = name if rest is None else f"{name}:cut"
        material.passages.setdefault(positive, rest or "")
        material.drafts.append(
            Draft("msmarco-crop", query, (positive,), frozenset({name}), "msmarco", slice(4, 100), 3)
        )


def crop_pair(text: str, rng: random.Random) -> tuple[str, str | None]:
    """A span of 3 to 8 words, and the text without it (inverse cloze); half of the time the text stays whole: None."""
    words = text.split()
    size = rng.randint(3, 8)
    start = rng.randint(0, max(0, len(words) - size))
    rest = words[:start] + words[start + size :]
    return " ".join(words[start : start + size]), " ".join(rest) if rng.random() < 0.5 else None


def add_glosses(material: Material, glosses: list[tuple[str, str]], rng: random.Random) -> None:
    """WordNet's terms as queries of their glosses, with other glosses of the sample."""
    ids: dict[str, str] = {}
    by_query: dict[str, dict[str, None]] = {}  # a term may have several glosses
    for number in sorted(rng.sample([at for at, pair in enumerate(glosses) if all(pair)], GLOSSES)):
        term, gloss = glosses[number]
        positive = ids.setdefault(gloss, f"wordnet:{number}")
        by_query.setdefault(material.query("wordnet", f"term:wordnet:{number}", term), {})[positive] = None
    add_passages(material, "wordnet", {name: gloss for gloss, name in ids.items()})
    for query, positives in by_query.items():
        for positive in positives:
            material.drafts.append(
                Draft("wordnet", query, (positive,), frozenset(positives), "wordnet", None, 3)
            )


def add_filings(material: Material, dataset: dict[str, dict]) -> None:
    """Questions on 10-K filings with the passage they were made from, and passages of other questions."""
    add_passages(material, "10k", {f"10k:{name}": text for name, text in dataset["corpus"].items()})
    for name, text in dataset["queries"].items():
        query = material.query("10k", f"10k:{name}", text)
        positives = tuple(f"10k:{passage}" for passage in dataset["relevant_docs"][name])
        material.drafts.append(Draft("10k", query, positives, frozenset(), "10k", None, 3))


def add_trecqa(material: Material, questions: Iterable[tuple[str, str, list[str], list[str]]]) -> None:
    """TREC QA's questions with one answer each, and up to seven sentences that were judged to be none."""
    ids: dict[str, str] = {}
    for name, question, right, wrong in questions:
        query = material.query("trecqa", f"trecqa:{name}", question)
        positives, negatives = (
            [ids.setdefault(text, f"trecqa:s{len(ids)}") for text in texts] for texts in (right, wrong)
        )
        own = [negative for negative in dict.fromkeys(negatives) if negative not in positives]
        if own:
            material.pools[query] = own
        for positive in dict.fromkeys(positives):
            pool, count = (query, 7) if own else ("trecqa", 3)
            material.drafts.append(
                Draft("trecqa", query, (positive,), frozenset(positives), pool, None, count)
            )
    add_passages(material, "trecqa", {name: text for text, name in ids.items()})


# ---------------------------------------------------------------- the teacher


class Teacher:
    """A SPLADE encoder with BERT's masked-LM head: log1p(relu(largest logit over the text's tokens))."""

    def __init__(self, folder: Path):
        """Raises InputError where `folder` holds no such model."""
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(folder)
            self.model = AutoModelForMaskedLM.from_pretrained(folder).eval()
            self.head = self.model.cls.predictions
        except (OSError, ValueError, AttributeError) as error:
            raise InputError(f"no BERT masked LM in {folder}: {error}") from error

    def terms(self) -> list[str]:
        """The V wordpieces by id."""
        return self.tokenizer.convert_ids_to_tokens(list(range(self.head.decoder.weight.shape[0])))

    @torch.inference_mode()
    def encode(self, texts: Sequence[str], what: str) -> csr_matrix:
        """Weights (N, V) in float32 of N texts; `what` is shown with the progress. Special tokens weigh 0."""
        rows = self.tokenizer(list(texts), truncation=True, max_length=TEACHER_LENGTH)["input_ids"]
        order = sorted(
            range(len(rows)), key=lambda at: -len(rows[at])
        )  # the longest first: memory fails early or never
        parts = []
        with tqdm(total=len(rows), desc=f"encode {what}", unit="text", mininterval=5) as progress:
            for batch in batches([rows[at] for at in order]):
                parts.append(csr_matrix(self._weights(batch).numpy()))
                progress.update(len(batch))
        return vstack(parts, format="csr")[np.argsort(order)]

    def _weights(self, rows: list[list[int]]) -> torch.Tensor:
        inputs = self.tokenizer.pad({"input_ids": rows}, return_tensors="pt")
        states = self.head.transform(self.model.base_model(**inputs).last_hidden_state)  # (B, L, H)
        peaks = streamed_peaks(
            states, inputs["attention_mask"], self.head.decoder.weight, bias=self.head.decoder.bias
        )
        weights = activate(peaks)  # (B, V)
        weights[:, self.tokenizer.all_special_ids] = 0
        return weights


def batches(rows: Iterable[list[int]]) -> Iterator[list[list[int]]]:
    """Runs of token id rows, which are sorted with the longest first, within the limits of a batch."""
    batch: list[list[int]] = []
    for row in rows:
        if batch and (len(batch) == BATCH_TEXTS or len(batch[0]) * (len(batch) + 1) > BATCH_TOKENS):
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


@dataclass(frozen=True)
class Vectors:
    """The teacher's weights (N, V) of N texts that go by ids."""

    ids: list[str]
    weights: csr_matrix

    def rows(self, ids: Iterable[str]) -> csr_matrix:
        """Weights (n, V) of some of the texts."""
        at = {name: row for row, name in enumerate(self.ids)}
        return self.weights[[at[name] for name in ids]]


def vector_records(vectors: Vectors, terms: Sequence[str], most: int) -> Iterator[dict]:
    """Records of a JsonVectorCollection: the heaviest `most` terms of each text, impacts in whole numbers."""
    weights = vectors.weights
    for name, start, stop in zip(vectors.ids, weights.indptr, weights.indptr[1:], strict=False):
        impacts = np.rint(IMPACT * weights.data[start:stop]).astype(int)
        heaviest = np.argsort(-weights.data[start:stop], kind="stable")[:most]
        columns = weights.indices[start:stop]
        vector = {terms[columns[at]]: int(impacts[at]) for at in heaviest if impacts[at] > 0}
        yield {"id": name, "contents": "", "vector": vector}


def rankings(queries: csr_matrix, passages: csr_matrix, depth: int, what: str) -> Iterator[np.ndarray]:
    """Rows of the best passages, best first, for each query: at most `depth`, and only those that score above 0."""
    inverted = passages.T.tocsr()
    for start in tqdm(
        range(0, queries.shape[0], BATCH_TEXTS), desc=f"rank {what}", unit="batch", mininterval=5
    ):
        scores = (queries[start : start + BATCH_TEXTS] @ inverted).toarray()  # (B, N)
        deep = min(depth, scores.shape[1])
        for row, best in zip(scores, np.argpartition(-scores, deep - 1, axis=1)[:, :deep], strict=True):
            best = best[np.lexsort((best, -row[best]))]  # equal scores in the order of the passages
            yield best[row[best] > 0]


def pair_scores(queries: Vectors, passages: Vectors, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
    """Inner product of each (query, passage) pair: float32 (N)."""
    scores = np.empty(len(pairs), dtype=np.float32)
    for start in tqdm(range(0, len(pairs), BATCH_TOKENS), desc="score", unit="batch", mininterval=5):
        names, others = zip(*pairs[start : start + BATCH_TOKENS], strict=True)
        products = queries.rows(names).multiply(passages.rows(others))
        scores[start : start + BATCH_TOKENS] = np.asarray(products.sum(axis=1)).ravel()
    return scores


# ---------------------------------------------------------------- examples


def prepare_pairs(data: Path, output: Path, teacher_folder: Path | None, seed: int) -> None:
    """Write texts.jsonl, examples.jsonl and, with a teacher, teacher/{queries,documents}/vectors.jsonl under `output`.

    Passages that no example came to use (10-K passages without a question, TREC QA sentences that were
    not drawn) have teacher's vectors too.
    """
    if absent(output / "texts.jsonl"):
        texts = [{"id": name, "contents": text} for name, text in read_texts(data)]
        random.Random(f"{seed}:texts").shuffle(texts)
        write_lines(output / "texts.jsonl", texts)
        print(f"texts: {dict(Counter(text['id'].partition(':')[0] for text in texts))}", file=sys.stderr)
    examples, vectors = output / "examples.jsonl", output / "teacher"
    files = [examples] + [
        vectors / kind / "vectors.jsonl" for kind in ("queries", "documents") if teacher_folder
    ]
    missing = list(filter(absent, files))
    if not missing:
        return

    material = read_material(data, seed)
    scored = encode_material(material, Teacher(teacher_folder), vectors) if teacher_folder else None
    if examples in missing:
        write_examples(examples, material, scored, random.Random(f"{seed}:negatives"))


def encode_material(material: Material, teacher: Teacher, folder: Path) -> tuple[Vectors, Vectors]:
    """The teacher's vectors of all queries and all passages, written where they are not there yet."""
    sides = []
    for kind, texts, most in (
        ("queries", material.queries, QUERY_TERMS),
        ("documents", material.passages, DOCUMENT_TERMS),
    ):
        side = Vectors(list(texts), teacher.encode(list(texts.values()), kind))
        print(f"{kind}: {len(texts)}, {side.weights.nnz / len(texts):.1f} terms each", file=sys.stderr)
        if not (path := folder / kind / "vectors.jsonl").exists():
            write_lines(
                path,
                tqdm(
                    vector_records(side, teacher.terms(), most),
                    desc=f"write {kind}",
                    total=len(texts),
                    mininterval=5,
                ),
            )
        sides.append(side)
    return sides[0], sides[1]


def write_examples(
    path: Path, material: Material, scored: tuple[Vectors, Vectors] | None, rng: random.Random
) -> None:
    """Training examples in Tevatron's format, shuffled, with the teacher's scores where there is one."""
    ranked = rank_pools(material, *scored) if scored else {}
    twins: dict[str, list[str]] = {}
    for name, text in material.passages.items():
        twins.setdefault(text, []).append(name)
    drafts = [(draft, draw_negatives(draft, material, ranked, twins, rng)) for draft in material.drafts]
    rng.shuffle(drafts)
    scores: dict[tuple[str, str], float] = {}
    if scored:
        pairs = list(
            dict.fromkeys(
                (draft.query, name) for draft, negatives in drafts for name in (*draft.positives, *negatives)
            )
        )
        scores = dict(zip(pairs, pair_scores(*scored, pairs).tolist(), strict=True))

    def passage(query: str, name: str) -> dict:
        record = {"docid": name, "title": "", "text": material.passages[name]}
        return record | {"score": round(scores[query, name], 3)} if scored else record

    def record(draft: Draft, negatives: list[str]) -> dict:
        return {
            "query_id": draft.query,
            "query": material.queries[draft.query],
            "positive_passages": [passage(draft.query, name) for name in draft.positives],
            "negative_passages": [passage(draft.query, name) for name in negatives],
        }

    write_lines(path, (record(*drawn) for drawn in tqdm(drafts, desc="write examples", mininterval=5)))
    print(f"examples: {dict(Counter(draft.source for draft in material.drafts))}", file=sys.stderr)


def rank_pools(material: Material, queries: Vectors, passages: Vectors) -> dict[tuple[str, str], list[str]]:
    """The teacher's ranking by (query, pool) where a draft asks for one, as deep as the deepest asks."""
    depths: dict[str, dict[str, int]] = {}
    for draft in material.drafts:
        if draft.ranks:
            asked = depths.setdefault(draft.pool, {})
            asked[draft.query] = max(draft.ranks.stop, asked.get(draft.query, 0))
    ranked = {}
    for pool, asked in depths.items():
        names = material.pools[pool]
        rows = rankings(queries.rows(asked), passages.rows(names), max(asked.values()), pool)
        ranked |= {(query, pool): [names[at] for at in best] for query, best in zip(asked, rows, strict=True)}
    return ranked


def draw_negatives(
    draft: Draft,
    material: Material,
    ranked: dict[tuple[str, str], list[str]],
    twins: dict[str, list[str]],
    rng: random.Random,
) -> list[str]:
    """Ids of the draft's negatives; what the ranking lacks comes from the whole pool, and a small pool gives fewer."""
    known = draft.barred.union(draft.positives)
    barred = {
        twin for name in known for twin in twins[material.passages[name]]
    }  # a copy of a positive is no negative
    best = ranked.get((draft.query, draft.pool), [])[draft.ranks] if draft.ranks else []
    chosen = draw(best, draft.count, barred, rng)
    return chosen + draw(material.pools[draft.pool], draft.count - len(chosen), barred.union(chosen), rng)


def draw(names: Sequence[str], count: int, barred: set[str], rng: random.Random) -> list[str]:
    """Up to `count` different names that are not barred."""
    candidates = rng.sample(names, min(len(names), count + len(barred)))
    return [name for name in candidates if name not in barred][:count]


# ---------------------------------------------------------------- tokenizer


def prepare_tokenizer(texts: Path, output: Path, vocabulary: int) -> None:
    """Train a tokenizer over the contents of a JSON Lines file. Raises InputError where that cannot be read."""
    if not absent(output / "tokenizer.json"):
        return
    try:
        with texts.open(encoding="utf-8") as lines:
            tokenizer = train_tokenizer(
                (json.loads(line)["contents"] for line in tqdm(lines, desc="read", mininterval=5)), vocabulary
            )
    except OSError as error:
        raise InputError(f"cannot read {texts}: {error.strerror or error}") from error
    partial = output.with_name(f".{output.name}.partial")
    tokenizer.save_pretrained(partial)
    output.mkdir(parents=True, exist_ok=True)
    for file in sorted(
        partial.iterdir(), key=lambda file: file.name == "tokenizer.json"
    ):  # which says that all is there
        file.replace(output / file.name)
    partial.rmdir()
    print(f"{output}: {len(tokenizer)} entries", file=sys.stderr)


def train_tokenizer(texts: Iterable[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE, lower-cased, every word with a leading space, so that a word is one term wherever it stands.

    Words are runs of letters, of digits, or of neither; also behind a bracket or a hyphen they get their
    space, so decoding does not give the text back.
    """
    word = Regex(r"'(?:[sdmt]|ll|ve|re)(?![\p{L}\p{M}])|[\p{L}\p{M}]+|\p{N}+|[^\s\p{L}\p{M}\p{N}]+")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(word, behavior="removed", invert=True),  # what is between words goes
            pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=[END], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=END, eos_token=END, pad_token=END)


# ---------------------------------------------------------------- split


def split_examples(examples: Path, output: Path) -> None:
    """NFCorpus's train queries with the better half of each group of positives, and one in OTHERS_KEPT of the others.

    NFCorpus's qrels count a document as relevant that is two links away; the half that the teacher scores
    higher is what a small model can learn. Without scores all positives stay.
    """

    def lines(of_nfcorpus: bool) -> Iterator[dict]:
        with examples.open(encoding="utf-8") as file:
            records = map(json.loads, tqdm(file, desc=f"read {examples}", unit="line", mininterval=5))
            chosen = (record for record in records if record["query_id"].startswith(JUDGED) == of_nfcorpus)
            yield from (
                map(better_half, chosen) if of_nfcorpus else itertools.islice(chosen, 0, None, OTHERS_KEPT)
            )

    for name, of_nfcorpus in (("nfcorpus.jsonl", True), ("others.jsonl", False)):
        if absent(output / name):
            write_lines(output / name, lines(of_nfcorpus))


def better_half(record: dict) -> dict:
    positives = record["positive_passages"]
    if all("score" in passage for passage in positives):
        positives = sorted(positives, key=lambda passage: -passage["score"])[: (len(positives) + 1) // 2]
    return record | {"positive_passages": positives}


# ---------------------------------------------------------------- map


def map_vectors(
    vectors: Path, examples: Path, teacher_folder: Path, tokenizer_place: Path, output: Path
) -> None:
    """Write the vectors of the examples' queries and passages, which are over BERT wordpieces, over another tokenizer's tokens.

    Only ids of `examples` are kept, and each gets its lexical weights on top; a document that people judged relevant
    to training queries also gets what those queries say. Raises InputError where a part is missing.
    """
    pending = [side for side in ("queries", "documents") if absent(output / side / "vectors.jsonl")]
    if not pending:
        return
    teacher, student = AutoTokenizer.from_pretrained(teacher_folder), read_tokenizer(tokenizer_place)
    words = Words(teacher, student)
    queries, passages, judged = example_texts(examples)
    sides = {
        "queries": (queries, lambda text: dict.fromkeys(lexical_tokens(text, student), LEXICAL_QUERY)),
        "documents": (passages, Bm25(passages.values(), student).impacts),
    }
    for side in pending:
        texts, lexical = sides[side]
        file = vectors / side / "vectors.jsonl"
        if not file.is_file():
            raise InputError(f"no teacher's vectors {file}")
        with file.open(encoding="utf-8") as lines:
            records = map(json.loads, tqdm(lines, desc=f"map {file}", unit="vector", mininterval=5))
            wanted = (record for record in records if record["id"] in texts)
            mapped = (words.mapped(record, texts[record["id"]]) for record in wanted)
            enriched = (with_impacts(record, lexical(texts[record["id"]])) for record in mapped)
            if side == "documents":
                vectors_of = judged_vectors(output / "queries" / file.name, judged)
                enriched = (
                    with_impacts(record, said_by(vectors_of[record["id"]]))
                    if record["id"] in vectors_of
                    else record
                    for record in enriched
                )
            write_lines(output / side / file.name, enriched)
    sizes = Counter(map(len, words.tokens.values()))
    print(
        f"of {len(words.tokens)} words {sizes[1]} map to one token, {sizes[2] + sizes[3]} to two or three, {sizes[0]} to none"
    )


def read_tokenizer(place: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a folder, or of the base that a training configuration's card names. Raises InputError."""
    if place.suffix == ".toml":
        return load_tokenizer(
            Checkpoint(parse_card(read_toml(place, "configuration")["card"], str(place)), None)
        )
    return load_tokenizer(Checkpoint(EncoderCard(name="tokenizer"), place))


def example_texts(examples: Path) -> tuple[dict[str, str], dict[str, str], dict[str, set[str]]]:
    """Texts of queries by query_id and of passages by docid; the judged queries that a passage is relevant to."""
    queries: dict[str, str] = {}
    passages: dict[str, str] = {}
    judged: dict[str, set[str]] = {}
    with examples.open(encoding="utf-8") as lines:
        for record in map(json.loads, tqdm(lines, desc=f"read {examples}", unit="line", mininterval=5)):
            queries[record["query_id"]] = record["query"]
            passages |= {
                p["docid"]: p["text"] for p in record["positive_passages"] + record["negative_passages"]
            }
            if record["query_id"].startswith(JUDGED):
                for passage in record["positive_passages"]:
                    judged.setdefault(passage["docid"], set()).add(record["query_id"])
    return queries, passages, judged


def judged_vectors(file: Path, judged: dict[str, set[str]]) -> dict[str, list[dict[str, int]]]:
    """By docid, the vectors in `file` of the queries that it was judged relevant to."""
    with file.open(encoding="utf-8") as lines:
        records = (json.loads(line) for line in lines)
        vectors = {record["id"]: record["vector"] for record in records if record["id"].startswith(JUDGED)}
    return {
        docid: [vectors[query] for query in sorted(queries) if query in vectors]
        for docid, queries in judged.items()
    }


def with_impacts(record: dict, added: dict[str, int]) -> dict:
    """The record with these impacts added, and no more terms than a document keeps."""
    total = Counter(record["vector"])
    total.update(added)
    return record | {"vector": dict(total.most_common(DOCUMENT_TERMS))}


def said_by(queries: list[dict[str, int]]) -> dict[str, int]:
    """What a document gets of its queries' summed impacts.

    It grows with the root of their number: a document of many queries says more, not many times more.
    """
    said: Counter[str] = Counter()
    for vector in queries:
        said.update(vector)
    shares = {
        term: round(QUERY_SHARE * impact / math.sqrt(len(queries)))
        for term, impact in said.most_common(DOCUMENT_TERMS)
    }
    return {term: share for term, share in shares.items() if share}


def lexical_tokens(text: str, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """The tokens of a text that have a letter or a digit, as training and encoding lower-case them."""
    tokens: list[str] = tokenizer.tokenize(f" {text.lower()}", add_special_tokens=False)
    return [token for token in tokens[:LEXICAL_LENGTH] if any(map(str.isalnum, token.removeprefix("Ġ")))]


class Bm25:
    """BM25 weights of the tokens of a passage, over all passages given."""

    def __init__(self, passages: Iterable[str], tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        self.frequency: Counter[str] = Counter()
        self.passages = tokens = 0
        for text in tqdm(passages, desc="count tokens", unit="passage", mininterval=5):
            found = lexical_tokens(text, tokenizer)
            self.frequency.update(set(found))
            self.passages += 1
            tokens += len(found)
        self.mean_length = tokens / max(1, self.passages)

    def impacts(self, text: str) -> dict[str, int]:
        """Impacts of its tokens."""
        counts = Counter(lexical_tokens(text, self.tokenizer))
        norm = K1 * (1 - B + B * counts.total() / self.mean_length)
        return {
            token: round(LEXICAL_DOCUMENT * self.rarity(token) * n * (K1 + 1) / (n + norm))
            for token, n in counts.items()
        }

    def rarity(self, token: str) -> float:
        """Lucene's inverse document frequency."""
        return math.log(1 + (self.passages - self.frequency[token] + 0.5) / (self.frequency[token] + 0.5))


class Words:
    """From wordpieces to another tokenizer's tokens, word by word."""

    def __init__(self, teacher: PreTrainedTokenizerBase, student: PreTrainedTokenizerBase) -> None:
        self.teacher, self.student = teacher, student
        self.tokens: dict[str, list[str]] = {}
        self._pieces: dict[str, list[str]] = {}

    def mapped(self, record: dict, text: str) -> dict:
        """The record over the student's tokens: a word's tokens get its weight, the largest where several share one.

        A wordpiece that is a word by itself has its own weight. A word of the text that the teacher cuts has
        that of its heaviest piece: left out, it would look to the student like a word to switch off.
        """
        vector = record["vector"]
        weights = {
            term: impact for term, impact in vector.items() if term.isalnum()
        }  # not what goes on a word: ##
        for word in dict.fromkeys(
            re.findall(r"[^\W_]+", text.lower())
        ):  # in order: ties come out alike in every run
            if word not in self._pieces:
                self._pieces[word] = self.teacher.tokenize(word)
            if len(self._pieces[word]) > 1:
                weights[word] = max(vector.get(piece, 0) for piece in self._pieces[word])
        mapped: dict[str, int] = {}
        for word, weight in weights.items():
            if word not in self.tokens:
                self.tokens[word] = term_tokens(word, self.student)
            for token in self.tokens[word] if weight else ():
                mapped[token] = max(weight, mapped.get(token, 0))
        return record | {"vector": mapped}


def term_tokens(word: str, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """The one to three tokens of a word after a space; none of a longer one, whose pieces say too little about it."""
    pieces = tokenizer.tokenize(f" {word}", add_special_tokens=False)
    return list(dict.fromkeys(pieces)) if len(pieces) <= 3 else []


if __name__ == "__main__":
    run(main)
