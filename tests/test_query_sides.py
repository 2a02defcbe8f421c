"""Ways into Pyserini, and our verbs, with queries by lookup and by another encoder, as users run them."""

import json
import re
import shutil
from pathlib import Path

import pytest
from lookup_tables import change_card, table_for
from programs import SAMPLE, new_python, run_python

from csplade_pyserini.cards import find_checkpoint
from csplade_pyserini.collections.manifests import manifest_path
from csplade_pyserini.model.backbone import load_tokenizer
from csplade_pyserini.query_sides.table import read_table, write_table

pytestmark = pytest.mark.jvm
NAME = "csplade-tiny-lookup"
QUERY = "heart attack symptoms"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A $CSPLADE_HOME with a table for csplade-tiny, and no weights."""
    home = tmp_path_factory.mktemp("home-with-table")
    folder = home / "encoders" / "csplade-tiny"
    folder.mkdir(parents=True)
    checkpoint = find_checkpoint("csplade-tiny")
    write_table(table_for("csplade-tiny", load_tokenizer(checkpoint)), folder / "lookup.safetensors")
    return home


def run_of(path: Path) -> dict[str, list[tuple[str, float]]]:
    """Docids and scores of a TREC run, by topic."""
    hits: dict[str, list[tuple[str, float]]] = {}
    for line in path.read_text().splitlines():
        qid, _, docid, _, score, _ = line.split()
        hits.setdefault(qid, []).append((docid, float(score)))
    return hits


MODULES = """
import json, runpy, sys
import pyserini.search.lucene.__main__  # all that stock Pyserini loads
del sys.modules["pyserini.search.lucene.__main__"]
stock = set(sys.modules)
try:
    runpy.run_module("pyserini.search.lucene", run_name="__main__", alter_sys=True)
finally:
    loaded = {name for name in sys.modules if name not in stock or name.startswith("csplade_pyserini.model")}
    print(json.dumps(sorted(loaded)), file=sys.stderr)
"""


def test_a_search_by_lookup_loads_no_model_code_and_no_more_of_torch_than_pyserini(
    home, sample_index, tmp_path
):
    run = tmp_path / "run.txt"
    words = ("--index", sample_index, "--topics", SAMPLE / "topics.tsv", "--output", run, "--encoder", NAME)
    done = new_python("-c", MODULES, *words, CSPLADE_HOME=str(home))
    assert done.returncode == 0, done.stderr
    loaded = json.loads(done.stderr.splitlines()[-1])
    assert loaded
    parts = ("torch", "transformers", "peft", "accelerate", "csplade_pyserini.model")
    assert [name for name in loaded if name.startswith(parts)] == []
    topics = len((SAMPLE / "topics.tsv").read_text().splitlines())
    assert topics - 2 <= len(run_of(run)) <= topics  # a query of stop words has no hit


TAKERS = """
import json, sys
from csplade_pyserini import load_encoder
from pyserini.search.lucene import LuceneImpactSearcher
from pyserini.encode import SpladeQueryEncoder
index, query = sys.argv[1:]
name = "csplade-tiny-lookup"
found = {}
by_name = LuceneImpactSearcher(index, name)
encoder = load_encoder(name)
for label, searcher in {
    "name": by_name,
    "option": LuceneImpactSearcher(index, "csplade-tiny:query=lookup"),
    "object": LuceneImpactSearcher(index, encoder),
    "class": LuceneImpactSearcher(index, SpladeQueryEncoder(name)),
}.items():
    found[label] = [(hit.docid, hit.score) for hit in searcher.search(query, k=5)]
batch = by_name.batch_search([query, "solar panels"], ["1", "2"], k=5, threads=2)
found["batch"] = [(hit.docid, hit.score) for hit in batch["1"]]
print(json.dumps({"found": found, "vector": encoder.encode(query), "model": "documents" in vars(encoder)}))
"""


def test_searchers_by_name_option_object_and_class_agree(home, sample_index):
    done = run_python("-c", TAKERS, sample_index, QUERY, CSPLADE_HOME=str(home))
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout.splitlines()[-1])
    found = answer["found"]
    assert found["name"]
    assert all(hits == found["name"] for hits in found.values())
    assert answer["model"] is False
    table = read_table(home / "encoders" / "csplade-tiny" / "lookup.safetensors")
    impacts = {term: round(float(w) * 100) for term, w in zip(table.terms, table.weights, strict=True)}
    assert all(impacts[term] == impact for term, impact in answer["vector"].items())


def test_a_query_file_gives_the_run_of_the_name_and_says_what_made_it(home, sample_index, tmp_path):
    queries = tmp_path / "queries.jsonl"
    topics = SAMPLE / "topics.tsv"
    made = run_python(
        "-m", "csplade_pyserini.encode_queries", "--encoder", NAME, "--topics", topics, "--output", queries,
        CSPLADE_HOME=str(home),
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    manifest = json.loads(manifest_path(queries).read_text())
    assert manifest["encoder"] == find_checkpoint("csplade-tiny").identity
    assert manifest["made_by"].startswith("lookup ")
    runs = {}
    for label, encoder in {"file": queries, "name": NAME}.items():
        runs[label] = tmp_path / f"{label}.txt"
        done = run_python(
            "-m", "pyserini.search.lucene", "--index", sample_index, "--topics", topics,
            "--output", runs[label], "--encoder", encoder, "--batch-size", "8", "--threads", "1",
            CSPLADE_HOME=str(home),
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    assert run_of(runs["file"]) == run_of(runs["name"])


def test_explain_and_cards_show_the_querys_own_tokens_alone(home, sample_index):
    words = ("-m", "csplade_pyserini.explain", "--index", sample_index, "--query", QUERY, "--encoder", NAME)
    done = run_python(*words, "--json", CSPLADE_HOME=str(home))
    assert done.returncode == 0, done.stderr
    explained = json.loads(done.stdout)
    shares = [share for hit in explained["hits"] for share in hit["matched"]]
    assert shares
    assert not any(share["expands_query"] for share in shares)
    assert {share["query_position"] for share in shares} <= set(range(len(explained["query"]["tokens"])))
    corpus = ("--corpus", SAMPLE / "corpus.jsonl")
    done = run_python(*words, *corpus, "--json", CSPLADE_HOME=str(home))
    assert done.returncode == 0, done.stderr
    hits = json.loads(done.stdout)["hits"]
    assert all(hit["document"] and not hit["text_has_changed"] for hit in hits)  # by the model
    done = run_python(
        "-m", "csplade_pyserini.cards", "--encoder", NAME, "--encode", QUERY, CSPLADE_HOME=str(home)
    )
    assert done.returncode == 0, done.stderr
    assert "+" not in done.stdout


@pytest.mark.parametrize(
    "words",
    [
        ("-m", "pyserini.search.lucene", "--topics", SAMPLE / "topics.tsv", "--output", "run.txt", "--index"),
        ("-m", "csplade_pyserini.explain", "--query", QUERY, "--index"),
    ],
)
def test_without_a_table_each_command_says_how_to_make_it(words, sample_index, tmp_path):
    done = run_python(
        *words, sample_index, "--encoder", "csplade-8b-lookup", cwd=tmp_path, CSPLADE_HOME=str(tmp_path)
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "train lookup --encoder csplade-8b --texts" in done.stderr.splitlines()[-1]


def test_a_table_of_another_encoder_does_not_search_the_index(home, sample_index, tmp_path):
    other = shutil.copytree(home, tmp_path / "home")
    table = other / "encoders" / "csplade-tiny" / "lookup.safetensors"
    write_table(
        table_for(
            "csplade-tiny", load_tokenizer(find_checkpoint("csplade-tiny")), encoder="csplade-tiny@other"
        ),
        table,
    )
    done = run_python(
        "-m", "pyserini.search.lucene", "--index", sample_index, "--topics", SAMPLE / "topics.tsv",
        "--output", tmp_path / "run.txt", "--encoder", NAME, CSPLADE_HOME=str(other),
    )  # fmt: skip
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert find_checkpoint("csplade-tiny").identity in last
    assert "csplade-tiny@other" in last


def test_train_lookup_makes_a_table_that_fits_better_than_idf(sample_vectors, sample_index, tmp_path):
    """The command that users run, on the sample; its folder is an encoder's name at once."""
    folder = tmp_path / "table"
    done = run_python(
        "-m", "csplade_pyserini.train", "lookup", "--encoder", "csplade-tiny",
        "--texts", SAMPLE / "corpus.jsonl", "--vectors", sample_vectors,
        "--most-queries", "200", "--output", folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    facts = read_table(folder / "lookup.safetensors").facts
    before, after = map(float, re.findall(r"\d+\.\d+", facts["loss"]))
    assert 0 < after < before
    for side in ("idf", "lookup"):
        assert float(facts[f"same best 10 by {side}"].split()[0]) > 0.3
    searched = run_python(
        "-m", "pyserini.search.lucene", "--index", sample_index, "--topics", SAMPLE / "topics.tsv",
        "--output", tmp_path / "run.txt", "--encoder", folder,
    )  # fmt: skip
    assert searched.returncode == 0, searched.stderr
    assert run_of(tmp_path / "run.txt")
    refused = run_python(
        "-m", "csplade_pyserini.encode", "--encoder", folder, "--corpus", SAMPLE / "corpus.jsonl",
        "--output", tmp_path / "vectors",
    )  # fmt: skip
    assert refused.returncode == 2
    assert "no weights in" in refused.stderr


def test_train_lookup_takes_topics_and_the_squared_objective(sample_vectors, tmp_path):
    topics = SAMPLE / "topics.tsv"
    done = run_python(
        "-m", "csplade_pyserini.train", "lookup", "--encoder", "csplade-tiny", "--vectors", sample_vectors,
        "--queries", topics, "--objective", "squared", "--output", tmp_path / "table",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    facts = read_table(tmp_path / "table" / "lookup.safetensors").facts
    before, after = map(float, re.findall(r"\d+\.\d+", facts["loss"]))
    assert 0 < after < before
    unseen = [facts[f"same best 10 by {side}"] for side in ("idf", "lookup")]
    assert all(fact.endswith(" of 5 unseen queries") for fact in unseen)  # a tenth of 50 topics


def test_a_card_may_give_the_queries_to_a_smaller_encoder(home, sample_index, tmp_path):
    """csplade-tiny's documents, searched by a copy of it that keeps fewer terms of a query."""
    package = find_checkpoint("csplade-tiny").folder
    small = shutil.copytree(package, tmp_path / "small")
    (small / "card.toml").write_text(
        'name = "small"\nattention = "bidirectional"\nquery_max_length = 32\nquery_top_terms = 8\n'
    )
    own = tmp_path / "home" / "encoders" / "csplade-tiny"
    shutil.copytree(package, own)
    shutil.copy(package.with_suffix(".toml"), own / "card.toml")
    change_card(own, query_encoder=str(small))
    runs = []
    for name in ("csplade-tiny", small):
        runs.append(tmp_path / f"{len(runs)}.txt")
        done = run_python(
            "-m", "pyserini.search.lucene", "--index", sample_index, "--topics", SAMPLE / "topics.tsv",
            "--output", runs[-1], "--encoder", name, CSPLADE_HOME=str(tmp_path / "home"),
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    assert run_of(runs[0]) == run_of(runs[1])
    assert run_of(runs[0])
