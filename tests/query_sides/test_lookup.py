"""A lookup gives each token of a query its weight, and loads nothing but the table."""

import dataclasses

import numpy as np
import pytest
from lookup_tables import table_for
from programs import new_python
from tiny_models import TEXTS

from csplade_pyserini.cards import EncoderCard
from csplade_pyserini.errors import InputError
from csplade_pyserini.model.inputs import tokenize
from csplade_pyserini.query_sides.lookup import LookupEncoder
from csplade_pyserini.query_sides.table import read_table, table_encoder, write_table

CARDS = [
    EncoderCard(name="plain"),
    EncoderCard(name="cut", query_max_length=3, query_top_terms=2),
    EncoderCard(name="prefixed", query_prefix="query: ", lowercase=True, impact_scale=7.0),
    EncoderCard(name="spaced", query_prefix=" ", add_bos=True, add_eos=True, echo=True),
]


@pytest.fixture
def table(checkpoint_folder, byte_tokenizer):
    return table_for(checkpoint_folder, byte_tokenizer)


def slow_twin(text, card, table, tokenizer):
    """The vector of a query, from the model's own tokenization."""
    bare = dataclasses.replace(card, add_bos=False, add_eos=False)
    [row] = tokenize([text], side="query", card=bare, tokenizer=tokenizer)
    head = len(tokenizer(card.query_prefix.rstrip(), add_special_tokens=False)["input_ids"])
    weights = {table.terms[i]: float(table.weights[i]) for i in row[head:]}
    heaviest = sorted(weights, key=lambda term: (-weights[term], table.terms.index(term)))
    kept = heaviest[: card.query_top_terms or None]
    impacts = {term: int(np.rint(weights[term] * card.impact_scale)) for term in kept}
    return {term: impact for term, impact in impacts.items() if impact >= 1}


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
def test_vectors_are_those_of_the_models_tokens_with_the_tables_weights(card, table, byte_tokenizer):
    encoder = LookupEncoder(card, table)
    texts = [*TEXTS, "  padded  ", "pain pain pain", "naïve ﬁne 漢字 🙂"]
    wanted = [slow_twin(text, card, table, byte_tokenizer) for text in texts]
    assert encoder.encode_queries(texts) == wanted
    assert [encoder.encode(text, max_length=1) for text in texts] == wanted
    assert any(wanted)
    assert all(list(vector.values()) == sorted(vector.values(), reverse=True) for vector in wanted)


def test_a_blank_query_has_no_terms_not_even_those_of_the_prefix(table):
    encoder = LookupEncoder(EncoderCard(name="a", query_prefix="query: "), table)
    assert encoder.encode_queries(["", "  \n"]) == [{}, {}]
    assert encoder.encode_queries([]) == []


def test_tokens_that_share_a_term_count_once_with_the_heavier_weight(table):
    ids = LookupEncoder(EncoderCard(name="a"), table).token_ids(["pain"])[0]
    terms = list(table.terms)
    for token_id in ids:
        terms[token_id] = "shared"
    weights = table.weights.copy()
    weights[ids] = np.linspace(0.5, 1.0, len(ids))
    folded = dataclasses.replace(table, terms=tuple(terms), weights=weights)
    text = LookupEncoder(EncoderCard(name="a"), folded).attribute("pain", side="query")
    assert text.vector == {"shared": 100}
    assert text.positions == {"shared": len(ids) - 1}


def test_attribution_names_the_token_of_each_term(table):
    encoder = LookupEncoder(EncoderCard(name="a", query_prefix="query: "), table)
    text = encoder.attribute("chest pain", side="query")
    assert text.vector == encoder.encode("chest pain")
    assert text.text == "query: chest pain"
    assert {text.tokens[position] for position in text.positions.values()} == set(text.vector)
    assert "".join(text.text[begin:end] for begin, end in text.spans) == " chest pain"
    assert {encoder.readable(term) for term in text.vector} <= {encoder.readable(t) for t in text.tokens}
    with pytest.raises(InputError, match="makes queries only, no documents"):
        encoder.attribute("chest pain", side="document")


def test_a_lone_surrogate_is_an_error(table):
    with pytest.raises(InputError, match="lone surrogate"):
        LookupEncoder(EncoderCard(name="a"), table).encode_queries(["\ud800"])


def test_a_table_survives_its_file(table, tmp_path):
    file = tmp_path / "lookup.safetensors"
    write_table(dataclasses.replace(table, facts={"queries": "12"}), file)
    found = read_table(file)
    assert found.facts == {"queries": "12"}
    assert (found.encoder, found.terms, found.tokenizer) == (table.encoder, table.terms, table.tokenizer)
    assert np.array_equal(found.weights, table.weights)
    assert table_encoder(file) == table.encoder


@pytest.mark.parametrize("bad", [-0.1, float("nan"), float("inf")])
def test_weights_that_are_no_weights_are_neither_written_nor_read(table, tmp_path, bad):
    weights = table.weights.copy()
    weights[3] = bad
    with pytest.raises(InputError, match="not all finite numbers of at least 0"):
        write_table(dataclasses.replace(table, weights=weights), tmp_path / "lookup.safetensors")
    assert not (tmp_path / "lookup.safetensors").exists()


@pytest.mark.parametrize(
    "damage",
    [
        lambda file: file.write_bytes(file.read_bytes()[:-9]),
        lambda file: file.write_bytes(b"no table"),
        lambda file: file.write_bytes(b""),
        lambda file: file.write_bytes(file.read_bytes().replace(b'"format":"1"', b'"format":"9"')),
        lambda file: file.write_bytes(file.read_bytes().replace(b'"terms"', b'"names"')),
    ],
)
def test_a_damaged_table_is_one_sentence_that_names_it(table, tmp_path, damage):
    file = tmp_path / "lookup.safetensors"
    write_table(table, file)
    damage(file)
    with pytest.raises(InputError, match=r"lookup\.safetensors is no table of query weights"):
        read_table(file)


def test_a_table_with_too_few_weights_for_its_tokenizer_is_an_error(table):
    short = dataclasses.replace(table, weights=table.weights[:-1], terms=table.terms[:-1])
    with pytest.raises(InputError, match="weights for .* tokens"):
        LookupEncoder(EncoderCard(name="a"), short)


def test_a_tokenizer_that_is_none_is_an_error(table):
    with pytest.raises(InputError, match="cannot read the tokenizer"):
        LookupEncoder(EncoderCard(name="a"), dataclasses.replace(table, tokenizer="{}"))


VERB = """
import sys
from csplade_pyserini.encode_queries import main
assert main(["--encoder", sys.argv[1] + "-lookup", "--topics", sys.argv[2], "--output", sys.argv[3]]) == 0
heavy = {"torch", "transformers", "peft", "pyserini", "jnius", "scipy", "csplade_pyserini.model"}
print(sorted(heavy & set(sys.modules)))
"""


def test_encode_queries_by_lookup_loads_no_torch(lookup_folder, tmp_path):
    topics = tmp_path / "topics.tsv"
    topics.write_text("1\tchest pain\n", encoding="utf-8")
    done = new_python("-c", VERB, lookup_folder, topics, tmp_path / "queries.jsonl")
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr
    assert "chest pain" in (tmp_path / "queries.jsonl").read_text()
