"""Topics that are vectors already, told from texts."""

import pytest
from programs import SAMPLE

from csplade_pyserini.impacts import Vector
from csplade_pyserini.registration.encoded_topics import are_terms


def as_words(vector: Vector) -> str:
    return " ".join(" ".join([term] * impact) for term, impact in vector.items())


def test_the_vectors_of_all_topics_are_terms_and_their_texts_are_not(make_encoder, tmp_path):
    lines = (SAMPLE / "topics.tsv").read_text(encoding="utf-8").splitlines()
    qids, texts = zip(*(line.split("\t") for line in lines), strict=True)
    vectors = make_encoder(query_top_terms=32).encode_queries(texts)
    encoded = tmp_path / "encoded.tsv"
    rows = [f"{qid}\t{as_words(vector)}\n" for qid, vector in zip(qids, vectors, strict=True)]
    encoded.write_text("".join(rows), encoding="utf-8")
    assert are_terms(str(encoded))
    assert not are_terms(str(SAMPLE / "topics.tsv"))


@pytest.mark.parametrize("text", ["", "that that is is that that is not is not", "to be or not to be"])
def test_texts_that_repeat_words_are_texts(text, tmp_path):
    (tmp_path / "topics.tsv").write_text(f"1\t{text}\n")
    assert not are_terms(str(tmp_path / "topics.tsv"))


def test_names_are_of_texts_and_topics_named_elsewhere_are_left_alone():
    assert not are_terms("msmarco-passage-dev-subset")
    assert are_terms(None)
