"""A search from Python in one call, and its table in Jupyter."""

import json
import shutil
from html.parser import HTMLParser

import pytest
from programs import SAMPLE, run_python

import csplade_pyserini
from csplade_pyserini.cards import find_checkpoint
from csplade_pyserini.collections.vectors import DELIMITER, read_records
from csplade_pyserini.errors import InputError
from csplade_pyserini.explanation.hits import SHOWN_TERMS, SHOWN_TEXT, Hit, Hits, MatchedTerm
from csplade_pyserini.impacts import dot
from csplade_pyserini.lucene.postings import PostingsWriter, store_table

QUERY = "heart attack symptoms"


class Table(HTMLParser):
    """Cells of a table, row by row, and the names of all elements."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.names: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.names.add(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_data(self, data: str) -> None:
        if self.rows and self.rows[-1]:
            self.rows[-1][-1] += data


def term(number: int, name: str = "a") -> MatchedTerm:
    return MatchedTerm(term=name, shown=name, query_impact=number, document_impact=2)


def test_a_table_escapes_everything_and_cuts_what_is_long():
    bad = "<script>alert('x')</script>&amp;\""
    hit = Hit(
        docid=bad, score=12.0, text=bad + "x" * 2 * SHOWN_TEXT, terms=(term(6, bad),) * (SHOWN_TERMS + 2)
    )
    table = Table(Hits([hit], query=bad, encoder=bad)._repr_html_())
    assert table.names == {"table", "caption", "thead", "tbody", "tr", "th", "td"}
    [head, row] = table.rows
    assert head == ["rank", "docid", "score", "matched terms", "text"]
    assert row[:3] == ["1", bad, "12"]
    assert row[3].startswith(f"{bad} 6×2, ")
    assert row[3].endswith(" and 2 more")
    assert row[4].startswith(bad)
    assert len(row[4]) == SHOWN_TEXT + 1


def test_a_table_without_texts_or_hits_has_no_column_or_rows_for_them():
    without = Hits([Hit(docid="1", score=4.0, text="", terms=(term(2),))], query="q", encoder="e")
    assert Table(without._repr_html_()).rows[0] == ["rank", "docid", "score", "matched terms"]
    assert Table(Hits(query="q")._repr_html_()).rows == [["rank", "docid", "score", "matched terms"]]


@pytest.mark.jvm
def test_hits_are_lucenes_with_the_terms_that_make_up_their_scores(sample_index, sample_vectors):
    found = csplade_pyserini.search(sample_index, QUERY, hits=5)
    assert isinstance(found, list)
    assert len(found) == 5
    encoder = csplade_pyserini.load_encoder("csplade-tiny")
    assert (found.query, found.encoder) == (QUERY, encoder.identity)
    [query] = encoder.encode_queries([QUERY])
    vectors = {record.docid: record.vector for record in read_records(sorted(sample_vectors.iterdir()))}
    products = {docid: dot(query, vector) for docid, vector in vectors.items()}
    assert [hit.docid for hit in found] == sorted(products, key=lambda docid: (-products[docid], docid))[:5]
    for hit in found:
        assert hit.score == products[hit.docid] == sum(matched.product for matched in hit.terms)
        assert {matched.term for matched in hit.terms} == query.keys() & vectors[hit.docid].keys()
        assert [matched.product for matched in hit.terms] == sorted(
            (matched.product for matched in hit.terms), reverse=True
        )
        assert hit.text == ""
    assert any(matched.shown == "heart" for matched in found[0].terms)


@pytest.mark.jvm
def test_an_encoder_may_be_named_or_given_and_another_is_refused(sample_index, checkpoint_folder):
    encoder = csplade_pyserini.load_encoder("csplade-tiny")
    wanted = csplade_pyserini.search(str(sample_index), QUERY)
    assert len(wanted) == 10
    assert csplade_pyserini.search(sample_index, QUERY, encoder="CSPLADE-tiny") == wanted
    assert csplade_pyserini.search(sample_index, QUERY, encoder=encoder) == wanted
    fewer = csplade_pyserini.search(sample_index, QUERY, encoder="csplade-tiny:top_terms=3")
    assert all(len(hit.terms) <= 3 for hit in fewer)
    with pytest.raises(InputError, match="the queries by in-memory-llama@"):
        csplade_pyserini.search(sample_index, QUERY, encoder=str(checkpoint_folder))


@pytest.mark.jvm
def test_a_query_without_terms_has_no_hits(sample_index):
    assert csplade_pyserini.search(sample_index, " ") == []


@pytest.mark.jvm
def test_an_index_that_was_built_anew_is_opened_anew_and_its_text_is_given(tmp_path):
    identity = find_checkpoint("csplade-tiny").identity
    for docid, text in (("old", "the first text"), ("new", "<b>another</b>")):
        shutil.rmtree(tmp_path / "index", ignore_errors=True)
        writer = PostingsWriter(tmp_path / "index", store_raw=True)
        writer.add(docid, f"attack{DELIMITER}3", json.dumps({"id": docid, "contents": text}))
        writer.close()
        store_table(tmp_path / "index", {"csplade_pyserini.encoder": identity})
        [hit] = csplade_pyserini.search(tmp_path / "index", QUERY)
        assert (hit.docid, hit.text) == (docid, text)


@pytest.mark.parametrize("hits", [0, -1, 2.0, True, "3", None])
def test_a_wrong_number_of_hits_is_refused(hits, tmp_path):
    with pytest.raises(InputError, match="wanted a whole number above 0"):
        csplade_pyserini.search(tmp_path, QUERY, hits)


def test_a_query_that_is_no_text_is_refused(tmp_path):
    with pytest.raises(InputError, match="wanted a text"):
        csplade_pyserini.search(tmp_path, None)


@pytest.mark.jvm
def test_no_index_and_an_index_of_nobody_are_refused(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        csplade_pyserini.search(tmp_path / "none", QUERY)
    writer = PostingsWriter(tmp_path / "index", store_raw=False)
    writer.add("1", f"a{DELIMITER}3", "")
    writer.close()
    with pytest.raises(InputError, match="names its encoder"):
        csplade_pyserini.search(tmp_path / "index", QUERY)


@pytest.mark.jvm
def test_a_program_searches_in_three_lines(sample_index):
    program = """
import sys
import csplade_pyserini
for hit in csplade_pyserini.search(sys.argv[1], "heart attack", hits=3):
    print(hit.docid)
"""
    done = run_python("-c", program, sample_index)
    assert done.returncode == 0, done.stderr
    known = {json.loads(line)["id"] for line in (SAMPLE / "corpus.jsonl").read_text().splitlines()}
    assert set(done.stdout.split()) <= known
    assert len(done.stdout.split()) == 3
