"""`explain`, as a user runs it, on indexes of ours and of Pyserini's; Lucene confirms every number in it."""

import json
import shutil

import pytest
from programs import SAMPLE, new_python, run_python
from tokenizers import decoders

pytestmark = pytest.mark.jvm
QUERY = "Heart attack symptoms"
CORPUS = SAMPLE / "corpus.jsonl"
STOCK_SEARCH = """
import json, sys
from pyserini.search.lucene import LuceneImpactSearcher
searcher = LuceneImpactSearcher(sys.argv[1], "csplade-tiny")
print(json.dumps([[hit.docid, hit.score] for hit in searcher.search(sys.argv[2], 30)]))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The sample's vectors, an index of ours, and one by Pyserini's own command, which stores records."""
    folder = tmp_path_factory.mktemp("explain")
    commands = [
        (
            "csplade_pyserini.encode", "--encoder", "csplade-tiny", "--corpus", CORPUS,
            "--output", folder / "vectors", "--store-contents",
        ),
        ("csplade_pyserini.index", "--input", folder / "vectors", "--index", folder / "index"),
        (
            "pyserini.index.lucene", "--collection", "JsonVectorCollection", "--input", folder / "vectors",
            "--index", folder / "stock",
            "--generator", "DefaultLuceneDocumentGenerator", "--threads", "1", "--impact", "--pretokenized",
            "--storeRaw",
        ),
    ]  # fmt: skip
    for command in commands:
        done = run_python("-m", *command)
        assert done.returncode == 0, done.stderr
    return folder


def explain(*words, python=run_python):
    return python("-m", "csplade_pyserini.explain", *words)


def explained(*words):
    done = explain("--json", *words)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def vectors(folder):
    files = sorted((folder / "vectors").glob("*.jsonl"))
    return {
        record["id"]: record["vector"]
        for file in files
        for record in map(json.loads, file.read_text().splitlines())
    }


@pytest.mark.parametrize("index", ["index", "stock"])
def test_the_terms_sum_to_the_score_and_are_those_of_the_vectors(folder, index):
    done = explained("--index", folder / index, "--query", QUERY, "--hits", 30, "--corpus", CORPUS)
    documents, query = vectors(folder), done["query"]["vector"]
    searched = run_python("-c", STOCK_SEARCH, folder / index, QUERY)
    assert [[hit["docid"], hit["lucene_score"]] for hit in done["hits"]] == json.loads(
        searched.stdout.splitlines()[-1]
    )
    assert [hit["rank"] for hit in done["hits"]] == list(range(1, 31))
    for hit in done["hits"]:
        document = documents[hit["docid"]]
        products = {term: impact * document[term] for term, impact in query.items() if term in document}
        assert {share["term"]: share["product"] for share in hit["matched"]} == products
        assert {share["term"] for share in hit["unmatched"]} == set(query) - set(document)
        assert hit["score"] == hit["lucene_score"] == sum(products.values())
        assert [share["product"] for share in hit["matched"]] == sorted(products.values(), reverse=True)
        assert sum(share["share"] for share in hit["matched"]) == pytest.approx(1)
        assert hit["document"]["vector"] == document
        assert not hit["text_has_changed"]
        for share in hit["matched"]:
            assert share["document_position"] == hit["document"]["positions"][share["term"]]
            assert share["query_position"] == done["query"]["positions"][share["term"]]


def test_one_document_is_explained_wherever_it_ranks(folder):
    everywhere = explained("--index", folder / "index", "--query", QUERY, "--hits", 30)
    last = everywhere["hits"][-1]
    [alone] = explained("--index", folder / "index", "--query", QUERY, "--docid", last["docid"])["hits"]
    assert alone | {"rank": 30} == last


def test_texts_are_taken_from_the_index_where_it_stores_them(folder):
    [stored] = explained("--index", folder / "stock", "--query", QUERY, "--hits", 1)["hits"]
    [given] = explained("--index", folder / "stock", "--query", QUERY, "--hits", 1, "--corpus", CORPUS)[
        "hits"
    ]
    assert stored == given
    [without] = explained("--index", folder / "index", "--query", QUERY, "--hits", 1)["hits"]
    assert without["document"] is None


def test_expansions_are_terms_that_are_no_words_of_the_text(folder):
    [hit] = explained("--index", folder / "index", "--query", QUERY, "--hits", 1, "--corpus", CORPUS)["hits"]
    by_word = {share["shown"]: share for share in hit["matched"]}
    assert not by_word["heart"]["expands_query"]  # at the beginning of the text the token is another one
    assert not by_word["attack"]["expands_query"]
    words = set(hit["document"]["text"].lower().replace(".", " ").replace(",", " ").split())
    for shown, share in by_word.items():
        if shown.isalpha():
            assert share["expands_query"] == (shown not in QUERY.lower().split()), shown
            assert not (share["expands_document"] and shown in words and len(shown) > 3), shown


def test_another_text_than_the_indexed_one_is_noticed(folder, tmp_path):
    records = [
        json.loads(line) | {"contents": "Bananas are rich in potassium."}
        for line in CORPUS.read_text().splitlines()
    ]
    other = tmp_path / "corpus.jsonl"
    other.write_text("".join(json.dumps(record) + "\n" for record in records))
    done = explain("--index", folder / "index", "--query", QUERY, "--hits", 1, "--corpus", other)
    assert done.returncode == 0, done.stderr
    assert "the text at hand does not have the impacts that the index has" in done.stdout


def test_the_listing_is_readable_and_raw_on_demand(folder, tmp_path):
    page = tmp_path / "why.html"
    words = (
        "--encoder",
        "csplade-tiny",
        "--index",
        folder / "index",
        "--query",
        QUERY,
        "--corpus",
        CORPUS,
        "--hits",
        2,
        "--terms",
        4,
    )
    plain = explain(*words, "--html", page, python=new_python)
    raw = explain(*words, "--raw")
    assert plain.returncode == raw.returncode == 0, plain.stderr + raw.stderr
    lines = plain.stdout.splitlines()
    assert lines[0] == f"query: {QUERY}"
    assert sum(line.startswith("product") for line in lines) == 2
    assert page.read_text(encoding="utf-8").count("<section>") == 2


def test_terms_of_bytes_are_readable_and_raw_on_demand(checkpoint_folder, tmp_path):
    encoder = shutil.copytree(checkpoint_folder, tmp_path / "encoder")
    tokenizer = json.loads((encoder / "tokenizer.json").read_text())
    tokenizer["decoder"] = json.loads(decoders.ByteLevel().__getstate__())
    (encoder / "tokenizer.json").write_text(json.dumps(tokenizer))
    (tmp_path / "corpus.jsonl").write_text('{"id": "d", "contents": "the heart of the matter"}\n')
    words = ("--encoder", encoder, "--corpus", tmp_path / "corpus.jsonl")
    vectors, index = tmp_path / "vectors", tmp_path / "index"
    for command in (("encode", *words, "--output", vectors), ("index", "--input", vectors, "--index", index)):
        done = run_python("-m", f"csplade_pyserini.{command[0]}", *command[1:])
        assert done.returncode == 0, done.stderr
    found = ("--encoder", encoder, "--index", index, "--query", "the heart", "--terms", 0)
    plain, raw = explain(*found), explain(*found, "--raw")
    assert plain.returncode == raw.returncode == 0, plain.stderr + raw.stderr
    assert "Ġ" not in plain.stdout
    assert "Ġ" in raw.stdout


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (
            ("--index", "{folder}/index", "--query", "x", "--docid", "nope"),
            "has no documents with the docid 'nope'; wanted one",
        ),
        (("--index", "{folder}/vectors", "--query", "x", "--encoder", "csplade-tiny"), "is no Lucene index"),
        (
            ("--index", "{folder}", "--query", "x"),
            "has no manifest that names its encoder: --encoder names it",
        ),
    ],
)
def test_what_cannot_be_explained_ends_with_one_sentence(folder, words, problem):
    done = explain(*(word.format(folder=folder) for word in words))
    assert done.returncode == 2, done.stderr
    assert problem in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_a_query_without_terms_and_one_without_hits(folder):
    empty = explain("--index", folder / "index", "--query", " ")
    assert empty.returncode == 0, empty.stderr
    assert "no document has any of the query's terms" in empty.stdout
    [hit] = explained("--index", folder / "index", "--query", " ", "--docid", "s001")["hits"]
    assert (hit["score"], hit["lucene_score"], hit["matched"]) == (0, 0.0, [])


def test_more_hits_than_documents_are_all_of_them(folder):
    hits = explained("--index", folder / "index", "--query", QUERY, "--hits", 2**31 - 1)["hits"]
    assert [hit["rank"] for hit in hits] == list(range(1, len(hits) + 1))
    assert hits == explained("--index", folder / "index", "--query", QUERY, "--hits", 1_000)["hits"]


def test_an_index_that_stores_something_else_than_json_has_no_texts(tmp_path):
    (tmp_path / "trec").mkdir()
    (tmp_path / "trec" / "docs.txt").write_text(
        "<DOC>\n<DOCNO>d1</DOCNO>\n<TEXT>\nheart attack\n</TEXT>\n</DOC>\n"
    )
    built = run_python(
        "-m", "pyserini.index.lucene", "--collection", "TrecCollection", "--input", tmp_path / "trec",
        "--index", tmp_path / "index",
        "--generator", "DefaultLuceneDocumentGenerator", "--threads", "1", "--impact", "--pretokenized",
        "--storeRaw",
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    [hit] = explained(
        "--encoder", "csplade-tiny", "--index", tmp_path / "index", "--query", "heart", "--docid", "d1"
    )["hits"]
    assert hit["document"] is None


def test_the_terms_of_a_text(tmp_path):
    done = new_python(
        "-m", "csplade_pyserini.cards", "--encoder", "csplade-tiny", "--encode", QUERY, "--terms", 3
    )
    assert done.returncode == 0, done.stderr
    head, *rows = done.stdout.splitlines()
    assert head.split() == ["impact", "term", "raw", "token"]
    assert rows[0].split()[1:] == ["heart", "heart", "1", "Heart"]
    assert len(rows) == 4
    topics = tmp_path / "topics.tsv"
    topics.write_text(f"1\t{QUERY}\n2\tbanana\n")
    words = (
        "--encoder",
        "csplade-tiny",
        "--topics",
        topics,
        "--output",
        tmp_path / "queries.jsonl",
        "--show",
    )
    done = run_python("-m", "csplade_pyserini.encode_queries", *words)
    assert done.returncode == 0, done.stderr
    assert [line.split("\t")[0] for line in done.stdout.splitlines()] == [QUERY, "banana"]
    assert done.stdout.startswith(f"{QUERY}\theart {rows[0].split()[0]}, ")
