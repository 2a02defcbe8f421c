"""A record's vector as text for Lucene: nothing that it would cut or lose gets there."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from csplade_pyserini.collections.vectors import (
    DELIMITER,
    JAVA_SPACE,
    postings_of_line,
    read_record,
    record_line,
    to_postings,
)
from csplade_pyserini.errors import InputError
from csplade_pyserini.lucene.postings import raw_text

CHARACTERS = st.sampled_from(',:"\\{}0aĠ[é😀') | st.characters(
    exclude_categories=["Cs", "Cc", "Zs", "Zl", "Zp"]
)
TERMS = st.text(CHARACTERS, min_size=1, max_size=9)


def test_each_term_comes_once_with_its_impact():
    assert to_postings({"Ġa|b": 3, "é": 12}, "here") == f"Ġa|b{DELIMITER}3 é{DELIMITER}12"
    assert to_postings({}, "here") == ""


@given(
    vector=st.dictionaries(TERMS, st.integers(1, 10**6), max_size=6),
    contents=TERMS | st.just('"vector":{'),
    docid=TERMS,
)
def test_our_own_records_read_as_text_are_as_read_as_json(vector, contents, docid):
    line = record_line(docid, contents, vector)
    read = postings_of_line(line)
    if read is not None:
        assert read == (docid, to_postings(vector, "here"))
    assert read_record(line, "here") == (docid, vector, "here")


def test_only_escapes_and_few_terms_have_to_be_read_as_json():
    def refused(vector):
        return postings_of_line(record_line("docid", "", vector)) is None

    assert [term for term in map(chr, range(33, 127)) if refused({"a": 1, term: 2})] == ['"', ":", "\\"]
    assert refused({":a": 1})
    assert not refused({"a:": 1, "b,": 2, ",c": 3})


def test_terms_that_only_python_takes_for_white_space_are_kept():
    assert to_postings({"a\u00a0b": 1, "a\u0085b": 2, "😀" * 60: 3}, "here").count(DELIMITER) == 3


@pytest.mark.parametrize(
    ("vector", "problem"),
    [
        ({"a": 1, "b": 2.5}, "here: the impact of 'b' is 2.5; wanted a whole number from 1 to 2147483647"),
        ({"a": 0}, "here: the impact of 'a' is 0; wanted"),
        ({"a": -3}, "here: the impact of 'a' is -3; wanted"),
        ({"a": True}, "here: the impact of 'a' is True; wanted"),
        ({"a": "7"}, "here: the impact of 'a' is '7'; wanted"),
        ({"a": None}, "here: the impact of 'a' is None; wanted"),
        ({"a b": 1}, "here: the term 'a b' is not one word"),
        ({"a\u3000b": 1}, "is not one word"),
        ({"": 1}, "here: the term '' is not one word"),
        ({f"a{DELIMITER}b": 1}, "is not one word"),
        ({"x" * 256: 1}, "has more than 255 characters"),
        ({"😀" * 128: 1}, "has more than 255 characters"),
        ([0.5, 0.2], "here: the vector is list; wanted an object of terms and impacts"),
        (None, "here: the vector is NoneType; wanted an object"),
    ],
)
def test_what_lucene_would_lose_is_refused_with_its_place(vector, problem):
    with pytest.raises(InputError) as error:
        to_postings(vector, "here")
    assert problem in str(error.value)


def test_java_has_its_own_white_space():
    """Character.isWhitespace by its documentation: Unicode spaces that break, and these controls."""
    java = set("\t\n\x0b\f\r\x1c\x1d\x1e\x1f \u1680\u2028\u2029\u205f\u3000") | {
        chr(c) for c in range(0x2000, 0x200B)
    } - {"\u2007"}
    assert {chr(c) for c in range(0x110000) if JAVA_SPACE.search(chr(c))} == java


def test_raw_records_are_printed_as_jackson_does():
    assert raw_text('{"id":"a","contents":"","vector":{"é":3}}\n') == (
        '{\n  "id" : "a",\n  "contents" : "",\n  "vector" : {\n    "é" : 3\n  }\n}'
    )
