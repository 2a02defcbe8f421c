"""A teacher's rows are the impacts of its collection over its scale, at the student's token ids."""

import dataclasses
import gzip
import json
import math

import pytest
import torch
from tiny_models import TEXTS, VOCABULARY

from csplade_pyserini.cards import EncoderCard, card_table
from csplade_pyserini.collections.manifests import CollectionManifest, write_manifest
from csplade_pyserini.collections.vectors import record_line
from csplade_pyserini.errors import InputError
from csplade_pyserini.training.contrast import _dense
from csplade_pyserini.training.losses import vector_error
from csplade_pyserini.training.teachers import TeacherVectors


def write(folder, vectors, name="vectors.jsonl"):
    """A file of a JsonVectorCollection, written as `encode` writes it."""
    folder.mkdir(exist_ok=True)
    content = "".join(record_line(docid, "", vector) for docid, vector in vectors.items()).encode()
    (folder / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return folder


def to_dense(sparse, count):
    """(count, V) of rows, terms and weights, entry by entry."""
    dense = torch.zeros(count, VOCABULARY)
    for row, term, weight in zip(
        *(sparse[f"teacher_{name}"].tolist() for name in ("rows", "terms", "weights")), strict=True
    ):
        assert dense[row, term] == 0, "an entry stands once"
        dense[row, term] = weight
    return dense


def error_of(folder, tokenizer):
    with pytest.raises(InputError) as error:
        TeacherVectors(folder, tokenizer, VOCABULARY, 100.0)
    return str(error.value)


@pytest.mark.parametrize("scale", [100.0, 37.0])
def test_rows_are_the_collections_impacts_over_the_scale(tmp_path, make_encoder, scale):
    encoder = make_encoder("llama", impact_scale=scale)
    vectors = dict(zip("abcde", encoder.encode_documents(TEXTS), strict=True))
    teacher = TeacherVectors(write(tmp_path / "c", vectors), encoder.tokenizer, VOCABULARY, scale)
    asked = ["d", "a", "a", "e"]
    sparse = teacher.sparse(asked)
    wanted = [[vectors[docid].get(term, 0) / scale for term in encoder.terms] for docid in asked]
    torch.testing.assert_close(to_dense(sparse, 4), torch.tensor(wanted))
    assert {name: tensor.dtype for name, tensor in sparse.items()} == {
        "teacher_rows": torch.int64,
        "teacher_terms": torch.int64,
        "teacher_weights": torch.float32,
    }
    # Where the student is the teacher, it is met to half a rounding step.
    texts = [TEXTS["abcde".index(docid)] for docid in asked]
    torch.testing.assert_close(to_dense(sparse, 4), encoder.weights(texts), rtol=0, atol=0.51 / scale)


def test_the_batch_that_training_makes_of_them_is_the_dense_one(tmp_path, byte_tokenizer):
    terms = byte_tokenizer.convert_ids_to_tokens([70, 80, 90])
    teacher = TeacherVectors(
        write(tmp_path / "c", {"a": dict(zip(terms, [1, 200, 3], strict=True)), "b": {}}),
        byte_tokenizer,
        VOCABULARY,
        100,
    )
    sparse = teacher.sparse(["b", "a", "b"])
    assert torch.equal(_dense(sparse, torch.ones(3, VOCABULARY)), to_dense(sparse, 3))
    assert to_dense(sparse, 3)[1, [70, 80, 90]].tolist() == pytest.approx([0.01, 2.0, 0.03])
    assert to_dense(sparse, 3)[[0, 2]].eq(0).all(), "an empty vector is a row of zeros"


def test_every_file_of_the_folder_counts_plain_or_gzip(tmp_path, byte_tokenizer):
    [term] = byte_tokenizer.convert_ids_to_tokens([70])
    for number, name in enumerate(["1.jsonl", "2.jsonl.gz", "3.json", "4.json.gz"], start=1):
        write(tmp_path, {f"d{number}": {term: number}}, name)
    (tmp_path / "README.md").write_text("not a collection")
    teacher = TeacherVectors(tmp_path, byte_tokenizer, VOCABULARY, 1.0)
    assert teacher.sparse(["d4", "d1", "d3", "d2"])["teacher_weights"].tolist() == [4, 1, 3, 2]


def test_numbers_for_ids_are_found_as_texts(tmp_path, byte_tokenizer):
    [term] = byte_tokenizer.convert_ids_to_tokens([70])
    (tmp_path / "c.jsonl").write_text(json.dumps({"id": 7, "vector": {term: 2}}) + "\n")
    assert TeacherVectors(tmp_path, byte_tokenizer, VOCABULARY, 1.0).sparse(["7"])[
        "teacher_weights"
    ].tolist() == [2]


@pytest.mark.parametrize("asked", [["zzz"], ["a", "zzz", "a"]])
def test_an_id_without_a_vector_is_an_error_that_names_it(tmp_path, byte_tokenizer, asked):
    [term] = byte_tokenizer.convert_ids_to_tokens([70])
    folder = write(tmp_path / "c", {"a": {term: 1}})
    teacher = TeacherVectors(folder, byte_tokenizer, VOCABULARY, 1.0)
    assert teacher.sparse(["a"])["teacher_terms"].tolist() == [70]
    with pytest.raises(InputError) as error:
        teacher.sparse(asked)
    assert str(error.value) == f"the teacher has no vector of 'zzz' in {folder}"


def test_a_term_that_the_student_does_not_have_is_an_error_that_names_it(tmp_path, byte_tokenizer):
    terms = byte_tokenizer.convert_ids_to_tokens([70, 80])
    folder = write(tmp_path / "c", {"a": {terms[0]: 1}, "b": {terms[1]: 2, "no such term": 1, "nor this": 1}})
    assert (
        error_of(folder, byte_tokenizer)
        == f"{folder / 'vectors.jsonl'}:2: the student's vocabulary has no term 'no such term'"
    )
    small = write(tmp_path / "d", {"a": {terms[0]: 1, terms[1]: 1}})
    TeacherVectors(small, byte_tokenizer, 81, 100.0)
    with pytest.raises(InputError, match="the student's vocabulary has no term"):
        TeacherVectors(small, byte_tokenizer, 80, 100.0)


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("{", "not JSON"),
        ("[]", "got list; wanted one JSON object a line"),
        ('{"id": "a"}', "wanted an object with 'id' and 'vector'"),
        ('{"vector": {}}', "wanted an object with 'id' and 'vector'"),
        ('{"id": "a", "vector": [1]}', "wanted an object with 'id' and 'vector'"),
    ],
)
def test_a_bad_record_is_an_error_that_names_file_line_and_what_was_wanted(
    tmp_path, byte_tokenizer, line, wanted
):
    file = write(tmp_path / "c", {"a": {}}) / "vectors.jsonl"
    file.write_text(file.read_text() + line + "\n")
    assert error_of(tmp_path / "c", byte_tokenizer).startswith(f"{file}:2: {wanted}")


def test_a_folder_that_is_not_there_is_an_error_that_names_it(tmp_path, byte_tokenizer):
    assert error_of(tmp_path / "none", byte_tokenizer) == (
        f"the teacher's vectors {tmp_path / 'none'} do not exist; wanted a folder that encode wrote"
    )


def test_the_vector_of_an_empty_document_as_encode_writes_it_has_no_terms(tmp_path, make_encoder):
    encoder = make_encoder()
    [vector] = encoder.encode_documents([""])
    folder = write(tmp_path / "c", {"empty": {"[CSPLADE-EMPTY]": 1} | vector})
    found = TeacherVectors(folder, encoder.tokenizer, VOCABULARY, 100.0).sparse(["empty"])
    assert to_dense(found, 1).count_nonzero() == 0


@pytest.mark.parametrize("impact", ["heavy", None, True, -1, 0, math.nan, math.inf])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_an_impact_that_is_no_number_above_zero_is_an_error_that_names_line_and_term(
    tmp_path, make_encoder, impact, place
):
    encoder = make_encoder()
    terms = [term for term in encoder.terms if term is not None][:3]
    term = terms[place]
    vector = dict.fromkeys(terms, 5) | {term: impact}
    (tmp_path / "c.jsonl").write_text(json.dumps({"id": "a", "vector": vector}) + "\n")
    message = error_of(tmp_path, encoder.tokenizer)
    assert f"c.jsonl:1: the impact of {term!r} is {impact!r}" in message


FOLDED = EncoderCard(name="student", fold="case")


def test_a_folded_student_reads_the_vectors_of_a_folded_teacher(tmp_path, make_encoder):
    encoder = make_encoder("llama", fold="case")
    vectors = dict(zip("abcde", encoder.encode_documents(TEXTS), strict=True))
    folder = write(tmp_path / "c", vectors)
    teacher = TeacherVectors(folder, encoder.tokenizer, VOCABULARY, 100.0, card=FOLDED)
    dense = _dense(teacher.sparse(list("abcde")), torch.ones(5, len(encoder.terms)))
    torch.testing.assert_close(dense, encoder.weights(TEXTS), rtol=0, atol=0.0051)


@pytest.mark.parametrize("of_teacher", ["none", "case"])
def test_folds_on_one_side_only_are_an_error_that_names_both(tmp_path, make_encoder, of_teacher):
    encoder = make_encoder("llama", fold=of_teacher)
    folder = write(tmp_path / "c", {"a": encoder.encode_documents(["heart"])[0]})
    manifest = CollectionManifest(
        encoder=encoder.identity, card=card_table(encoder.card), arguments={}, versions={}, files=()
    )
    write_manifest(manifest, folder)
    student = dataclasses.replace(FOLDED, fold="case" if of_teacher == "none" else "none")
    with pytest.raises(InputError) as error:
        TeacherVectors(folder, encoder.tokenizer, VOCABULARY, 100.0, card=student)
    assert f"{folder} have fold = {of_teacher!r}, the student's card has {student.fold!r}" in str(error.value)
    TeacherVectors(folder, encoder.tokenizer, VOCABULARY, 100.0, card=encoder.card)


def test_a_term_that_no_position_keeps_is_not_pulled_up():
    peaks = torch.tensor([[-torch.inf, -3.0, 2.0]], requires_grad=True)
    weights = torch.log1p(peaks.relu())
    error = vector_error(peaks, weights, torch.tensor([[1.0, 1.0, 1.0]]))
    error.backward()
    assert error.isfinite()
    assert peaks.grad.tolist()[0][0] == 0
    assert peaks.grad.tolist()[0][1] < 0
