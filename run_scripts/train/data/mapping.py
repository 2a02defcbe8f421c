"""The command `map`: the teacher's vectors over another tokenizer's tokens."""

import json
import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from lexical import Bm25, query_impacts
from outputs import Record, absent, write_lines
from split import JUDGED, is_judged, read_examples
from tqdm import tqdm
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from csplade_pyserini.cards import Checkpoint, EncoderCard, parse_card
from csplade_pyserini.errors import InputError
from csplade_pyserini.files.tables import read_toml
from csplade_pyserini.model.backbone import load_tokenizer

DOCUMENT_TERMS = 200
"""Terms kept in a vector."""
QUERY_SHARE = 0.6
"""Share of a judged query's impacts that its relevant documents get.

The best of 0.3, 0.6 and 1.0 on NFCorpus's dev split. It takes the mapped vectors there from nDCG@10 0.296
to 0.334.
"""


@dataclass
class Texts:
    """Texts in the examples, and the judged queries that each passage is relevant to."""

    queries: dict[str, str] = field(default_factory=dict)
    passages: dict[str, str] = field(default_factory=dict)
    judged: dict[str, set[str]] = field(default_factory=dict)


def map_vectors(vectors: Path, examples: Path, teacher: Path, tokenizer: Path, output: Path) -> None:
    """Write the vectors of the examples' queries and passages over another tokenizer's tokens.

    Only ids in `examples` are kept. Each vector gets its lexical weights on top. A document that people
    judged relevant also gets the impacts of its queries. Raises InputError if a part is missing.
    """
    pending = [side for side in ("queries", "documents") if absent(output / side / "vectors.jsonl")]
    if not pending:
        return
    student = read_tokenizer(tokenizer)
    words = Words(AutoTokenizer.from_pretrained(teacher), student)
    texts = read_example_texts(examples)
    bm25 = Bm25(texts.passages.values(), student)
    for side in pending:
        file = vectors / side / "vectors.jsonl"
        if not file.is_file():
            raise InputError(f"no teacher's vectors {file}")
        if side == "queries":
            records = mapped_queries(file, texts, words)
        else:
            said = judged_vectors(output / "queries" / file.name, texts.judged)
            records = mapped_passages(file, texts, words, bm25, said)
        write_lines(output / side / file.name, records)
    sizes = Counter(len(tokens) for tokens in words.tokens.values())
    print(
        f"{len(words.tokens)} words: {sizes[1]} map to one token, "
        f"{sizes[2] + sizes[3]} to two or three, {sizes[0]} to none"
    )


def mapped_queries(file: Path, texts: Texts, words: "Words") -> Iterator[Record]:
    """Yield the mapped vectors of the queries."""
    for record in mapped_records(file, texts.queries, words):
        yield with_impacts(record, query_impacts(texts.queries[record["id"]], words.student))


def mapped_passages(
    file: Path, texts: Texts, words: "Words", bm25: Bm25, said: dict[str, list[dict[str, int]]]
) -> Iterator[Record]:
    """Yield the mapped vectors of the passages, with the impacts of their judged queries."""
    for record in mapped_records(file, texts.passages, words):
        enriched = with_impacts(record, bm25.impacts(texts.passages[record["id"]]))
        if record["id"] in said:
            enriched = with_impacts(enriched, said_by(said[record["id"]]))
        yield enriched


def mapped_records(file: Path, texts: dict[str, str], words: "Words") -> Iterator[Record]:
    """Yield the mapped vectors of the texts that the examples have."""
    with file.open(encoding="utf-8") as lines:
        for line in tqdm(lines, desc=f"map {file}", unit="vector", mininterval=5):
            record = json.loads(line)
            if record["id"] in texts:
                yield words.mapped(record, texts[record["id"]])


def read_tokenizer(source: Path) -> PreTrainedTokenizerBase:
    """Load a folder's tokenizer, or the base's that a training configuration names. Raises InputError."""
    if source.suffix == ".toml":
        card = parse_card(read_toml(source, "configuration")["card"], str(source))
        return load_tokenizer(Checkpoint(card, None))
    return load_tokenizer(Checkpoint(EncoderCard(name="tokenizer"), source))


def read_example_texts(examples: Path) -> Texts:
    """Collect the texts of all queries and passages."""
    texts = Texts()
    for record in read_examples(examples):
        texts.queries[record["query_id"]] = record["query"]
        for passage in record["positive_passages"] + record["negative_passages"]:
            texts.passages[passage["docid"]] = passage["text"]
        if is_judged(record):
            for passage in record["positive_passages"]:
                texts.judged.setdefault(passage["docid"], set()).add(record["query_id"])
    return texts


def judged_vectors(file: Path, judged: dict[str, set[str]]) -> dict[str, list[dict[str, int]]]:
    """Return, by docid, the vectors of the queries that it was judged relevant to."""
    vectors = {}
    with file.open(encoding="utf-8") as lines:
        for record in map(json.loads, lines):
            if record["id"].startswith(JUDGED):
                vectors[record["id"]] = record["vector"]
    found = {}
    for docid, queries in judged.items():
        found[docid] = [vectors[query] for query in sorted(queries) if query in vectors]
    return found


def with_impacts(record: Record, added: dict[str, int]) -> Record:
    """Add impacts to a record's vector, and keep its heaviest DOCUMENT_TERMS terms."""
    total: Counter[str] = Counter(record["vector"])
    total.update(added)
    return record | {"vector": dict(total.most_common(DOCUMENT_TERMS))}


def said_by(queries: list[dict[str, int]]) -> dict[str, int]:
    """Return the impacts that a document gets from its queries' vectors.

    They grow with the root of the number of queries: many queries say more, not many times more.
    """
    said: Counter[str] = Counter()
    for vector in queries:
        said.update(vector)
    shares = {}
    for term, impact in said.most_common(DOCUMENT_TERMS):
        share = round(QUERY_SHARE * impact / math.sqrt(len(queries)))
        if share:
            shares[term] = share
    return shares


class Words:
    """A map from wordpieces to another tokenizer's tokens, word by word."""

    def __init__(self, teacher: PreTrainedTokenizerBase, student: PreTrainedTokenizerBase) -> None:
        self.teacher = teacher
        self.student = student
        self.tokens: dict[str, list[str]] = {}
        self._pieces: dict[str, list[str]] = {}

    def mapped(self, record: Record, text: str) -> Record:
        """Return the record over the student's tokens.

        The tokens of a word get its weight, and a token of several words gets the largest.
        """
        mapped: dict[str, int] = {}
        for word, weight in self._word_weights(record["vector"], text).items():
            if word not in self.tokens:
                self.tokens[word] = term_tokens(word, self.student)
            if weight:
                for token in self.tokens[word]:
                    mapped[token] = max(weight, mapped.get(token, 0))
        return record | {"vector": mapped}

    def _word_weights(self, vector: dict[str, int], text: str) -> dict[str, int]:
        """Return the weight of every word in the vector and in the text.

        A wordpiece that is a whole word has its own weight. A word that the teacher cuts has the weight of
        its heaviest piece. Without it the student would learn to switch the word off.
        """
        weights = {term: impact for term, impact in vector.items() if term.isalnum()}  # no ##ing
        words = dict.fromkeys(re.findall(r"[^\W_]+", text.lower()))  # in order: ties never change
        for word in words:
            if word not in self._pieces:
                self._pieces[word] = self.teacher.tokenize(word)
            if len(self._pieces[word]) > 1:
                weights[word] = max(vector.get(piece, 0) for piece in self._pieces[word])
        return weights


def term_tokens(word: str, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Return the one to three tokens of a word after a space.

    A longer word has none: its pieces say too little about it.
    """
    pieces = tokenizer.tokenize(f" {word}", add_special_tokens=False)
    if len(pieces) > 3:
        return []
    return list(dict.fromkeys(pieces))
