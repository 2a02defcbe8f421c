"""Hits of an index as `explain` reads them."""

import pytest

from csplade_pyserini.lucene import classes
from csplade_pyserini.lucene.java import prepare_java
from csplade_pyserini.lucene.matching import ImpactIndex

pytestmark = pytest.mark.jvm
LARGEST_INT = 2**31 - 1
TEXTS = {
    '{"contents": "a text"}': "a text",
    '{"contents": 3}': "",
    '{"text": "another key"}': "",
    '["contents"]': "",
    '"contents"': "",
    "7": "",
    "null": "",
    "<html>": "",
    "[" * 100_000: "",
    None: "",
}
"""The text found in a document, by its stored record."""


@pytest.fixture(scope="module")
def index(tmp_path_factory) -> ImpactIndex:
    """An index with a document for each record of TEXTS, which all match the term `a`."""
    prepare_java()
    folder = tmp_path_factory.mktemp("matching") / "index"
    writer = classes.IndexWriter(classes.open_directory(folder), classes.IndexWriterConfig())
    kept = classes.FieldStore.YES
    for number, record in enumerate(TEXTS):
        document = classes.Document()
        document.add(classes.StringField(classes.DOCID, str(number), kept))
        document.add(classes.StringField(classes.CONTENTS, "a", kept))
        if record is not None:
            document.add(classes.StoredField(classes.RAW, record))
        writer.addDocument(document)
    writer.close()
    return ImpactIndex(folder)


def test_a_document_without_a_text_in_its_record_has_an_empty_one(index):
    found = {match.docid: match.text for match in index.search({"a": 1}, len(TEXTS))}
    assert found == {str(number): text for number, text in enumerate(TEXTS.values())}


@pytest.mark.parametrize("hits", [len(TEXTS) + 1, LARGEST_INT, 2**70])
def test_more_hits_than_there_are_documents_are_all_documents(index, hits):
    assert len(index.search({"a": 1}, hits)) == len(TEXTS)
