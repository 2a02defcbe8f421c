"""An encoder with folded terms, from a card to hits, as a user runs it."""

import json
import re

import pytest
import torch
from byte_tokenizers import byte_level_tokenizer
from engines.clients import EMBEDDED, skip_without
from programs import SAMPLE, run_python
from tiny_models import tiny_model

from csplade_pyserini.cards import find_checkpoint
from csplade_pyserini.model.backbone import load_tokenizer

pytestmark = pytest.mark.jvm
DOCUMENTS = 40
VOCABULARY = 4_000
QUERY = "The heart attack symptoms"
RM3 = """
import sys
from pyserini.search.lucene import LuceneImpactSearcher
searcher = LuceneImpactSearcher(sys.argv[1], sys.argv[2])
searcher.set_rm3(debug=True)
assert searcher.search(sys.argv[3], 5)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An encoder with `fold = "case"` in its card, its twin without; vectors of 40 documents, their index."""
    folder = tmp_path_factory.mktemp("folds")
    write_encoder(folder / "folded", 'fold = "case"\n')
    write_encoder(folder / "plain", "")
    corpus = (SAMPLE / "corpus.jsonl").read_text().splitlines(keepends=True)[:DOCUMENTS]
    (folder / "corpus.jsonl").write_text("".join(corpus))
    encoder = ("--encoder", folder / "folded")
    run("encode", *encoder, "--corpus", folder / "corpus.jsonl", "--output", folder / "vectors")
    run("index", "--input", folder / "vectors", "--index", folder / "index", "--store-raw")
    return folder


def write_encoder(folder, key):
    """A checkpoint over bytes in which every token has the largest logit for itself."""
    model = tiny_model("llama", vocab_size=VOCABULARY, hidden_size=64)
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
    model.save_pretrained(folder)
    byte_level_tokenizer(VOCABULARY).save_pretrained(folder)
    card = f'name = "{folder.name}"\n{key}document_top_terms = 192\n'
    (folder / "card.toml").write_text(card)


def run(verb, *words, code=0):
    done = run_python("-m", f"csplade_pyserini.{verb}", *words)
    assert done.returncode == code, done.stderr
    return done


def test_an_index_holds_folds_and_explain_and_cards_show_them(folder):
    records = [
        json.loads(line)
        for file in (folder / "vectors").glob("*.jsonl")
        for line in file.read_text().splitlines()
    ]
    assert len(records) == DOCUMENTS
    terms = set().union(*(record["vector"] for record in records))
    assert not any(term.startswith("Ġ") for term in terms)
    assert {term.lower() for term in terms} == terms
    manifest = json.loads((folder / "vectors.manifest.json").read_text())
    assert manifest["card"]["fold"] == "case"
    found = run(
        "explain", "--json", "--encoder", folder / "folded", "--index", folder / "index", "--query", QUERY
    )
    explanation = json.loads(found.stdout)
    assert explanation["hits"]
    for hit in explanation["hits"]:
        assert sum(share["product"] for share in hit["matched"]) == hit["score"]
        assert {share["term"] for share in hit["matched"]} <= terms
    shown = run("cards", "--encoder", folder / "folded", "--encode", QUERY).stdout
    assert re.search(r"^ *\d+ +the +the +\d+ The$", shown, re.MULTILINE), shown


def test_queries_of_the_unfolded_encoder_are_refused_by_both_names(folder):
    done = run(
        "explain", "--encoder", folder / "plain", "--index", folder / "index", "--query", QUERY, code=2
    )
    for name in ("folded@", "plain@"):
        assert name in done.stderr


def test_rm3_finds_whole_words(folder):
    done = run_python("-c", RM3, folder / "index", folder / "folded", QUERY)
    assert done.returncode == 0, done.stderr
    found = set(re.findall(r"Feedback term: (\S+) ->", done.stdout))
    vocabulary = load_tokenizer(find_checkpoint(str(folder / "folded"))).get_vocab()
    words = {token.removeprefix("Ġ").lower() for token in vocabulary if token.startswith("Ġ")}
    begun = {word[:1] for word in words}  # pieces with another first letter have no mark
    letters = {term for term in found if term.isalpha() and term[0] in begun}
    assert len(letters) > 10
    assert letters <= words


@pytest.mark.parametrize("engine", EMBEDDED)
def test_folded_vectors_score_in_an_engine_as_in_lucene(folder, engine, tmp_path):
    skip_without(engine)
    target = tmp_path / "target"
    run("export", "--input", folder / "vectors", "--to", engine, "--output", target)
    (tmp_path / "topics.tsv").write_text(f"1\t{QUERY}\n2\tMarket share\n")
    scores = {}
    for name, place in (
        ("engine", ("--engine", engine, "--target", target)),
        ("lucene", ("--index", folder / "index")),
    ):
        words = (*place, "--topics", tmp_path / "topics.tsv", "--encoder", folder / "folded")
        run("retrieve", *words, "--output", tmp_path / name)
        lines = [line.split() for line in (tmp_path / name).read_text().splitlines()]
        scores[name] = sorted((qid, round(float(score))) for qid, _, _, _, score, _ in lines)
    assert len(scores["lucene"]) > DOCUMENTS / 2
    assert scores["engine"] == scores["lucene"]
    plain = run_python(
        *("-m", "csplade_pyserini.retrieve", "--engine", engine, "--target", target),
        *("--topics", tmp_path / "topics.tsv", "--encoder", folder / "plain", "--output", tmp_path / "other"),
    )
    assert plain.returncode == 2
    assert "folded" in plain.stderr
    assert "plain" in plain.stderr
