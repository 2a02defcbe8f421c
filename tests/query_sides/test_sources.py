"""The query side of a name: the model, a table, or another encoder; and both sides fit together."""

import json
import shutil

import pytest
from lookup_tables import change_card, table_for
from tiny_models import TEXTS

from csplade_pyserini import load_encoder
from csplade_pyserini.cards import (
    EncoderCard,
    card_table,
    find_card,
    find_checkpoint,
    parse_card,
    shipped_cards,
    weights_state,
)
from csplade_pyserini.collections.manifests import (
    IndexManifest,
    manifest_path,
    refuse_mismatch,
    write_manifest,
)
from csplade_pyserini.encode import make_job, parse_args
from csplade_pyserini.errors import InputError
from csplade_pyserini.model import SparseEncoder
from csplade_pyserini.model import load_encoder as load_model
from csplade_pyserini.query_sides import AsymmetricEncoder, find_queries
from csplade_pyserini.query_sides.table import write_table

QUERIES = ["chest pain", "potassium in bananas", ""]


def manifest_of(identity, index, query_encoder=""):
    index.mkdir(exist_ok=True)
    built = IndexManifest(
        encoder=identity, collection="", documents=1, postings=1, bytes=1, seconds=0.0,
        query_encoder=query_encoder,
    )  # fmt: skip
    write_manifest(built, index)


def test_a_card_says_how_its_queries_are_made():
    assert EncoderCard(name="a").queries == "model"
    assert EncoderCard(name="a", query="lookup").queries == "lookup"
    assert EncoderCard(name="a", query_encoder="b").queries == "encoder"
    assert find_card("csplade-tiny-lookup").queries == "lookup"
    assert find_card("csplade-tiny:query=model").queries == "model"


@pytest.mark.parametrize(
    ("keys", "complaint"),
    [
        ({"query": "lookup", "query_encoder": "b"}, "query is 'lookup' and query_encoder is 'b'"),
        ({"query": "encoder"}, "wanted the encoder's name as query_encoder"),
        ({"query": "table"}, "query is 'table'; wanted one of 'model', 'lookup', 'encoder'"),
    ],
)
def test_a_card_with_two_query_sides_or_none_is_an_error(keys, complaint):
    with pytest.raises(InputError, match=complaint):
        parse_card({"name": "a"} | keys, "card.toml")


def test_neither_a_table_nor_the_query_side_changes_an_encoders_identity(lookup_folder):
    wanted = find_checkpoint(str(lookup_folder)).identity
    card = shipped_cards()["csplade-tiny"]
    assert find_card("csplade-tiny-lookup").hash() == card.hash()
    (lookup_folder / "lookup.safetensors").unlink()
    assert find_checkpoint(str(lookup_folder)).identity == wanted
    change_card(lookup_folder, query_encoder="csplade-tiny")
    assert find_checkpoint(str(lookup_folder)).identity == wanted


def test_encode_makes_the_same_documents_and_manifest_whichever_side_makes_queries(lookup_folder, tmp_path):
    made = []
    for name in (lookup_folder, f"{lookup_folder}-lookup", f"{lookup_folder}:query=lookup"):
        (tmp_path / "c.jsonl").write_text('{"id": "1", "contents": "a"}\n')
        args = parse_args(["--encoder", str(name), "--corpus", str(tmp_path / "c.jsonl"), "--output", "v"])
        job = make_job(args, find_checkpoint(str(name)), None)
        made.append((job.identity, card_table(job.card), job.arguments))
    assert made[0] == made[1] == made[2]


def test_queries_by_lookup_need_no_model_and_documents_are_the_models(lookup_folder):
    by_model = load_encoder(str(lookup_folder))
    by_lookup = load_encoder(f"{lookup_folder}-lookup")
    assert type(by_model) is SparseEncoder
    assert type(by_lookup) is AsymmetricEncoder
    assert "documents" not in vars(by_lookup)
    assert by_lookup.encode_queries(QUERIES) != by_model.encode_queries(QUERIES)
    assert "documents" not in vars(by_lookup)
    assert by_lookup.identity == by_model.identity
    assert by_lookup.encode_documents(QUERIES) == by_model.encode_documents(QUERIES)
    assert by_lookup.attribute("pain", side="document") == by_model.attribute("pain", side="document")
    assert by_lookup.empty_term == by_model.empty_term
    with pytest.raises(InputError, match="not made by its model"):
        by_lookup.weights(QUERIES, side="query")


def test_the_card_decides_unless_the_name_does(lookup_folder):
    change_card(lookup_folder, query="lookup")
    assert type(load_encoder(str(lookup_folder))) is AsymmetricEncoder
    assert type(load_encoder(f"{lookup_folder}:query=model")) is SparseEncoder


def test_options_of_the_name_hold_for_a_lookup(lookup_folder):
    short = load_encoder(f"{lookup_folder}:query=lookup,max_length=2,top_terms=1")
    whole = load_encoder(f"{lookup_folder}:query=lookup")
    vectors = short.encode_queries(["potassium in bananas and spinach"])
    assert [len(vector) for vector in vectors] == [1]
    assert vectors != whole.encode_queries(["potassium in bananas and spinach"])


@pytest.mark.parametrize("name", ["csplade-tiny-lookup", "csplade-tiny:query=lookup", "csplade-8b-lookup"])
def test_without_a_table_the_error_says_how_to_make_it(name, monkeypatch, tmp_path):
    monkeypatch.setenv("CSPLADE_HOME", str(tmp_path))
    monkeypatch.setattr("csplade_pyserini.cards.checkpoints.cards_folder", lambda: tmp_path / "package")
    card = find_card(name).name
    with pytest.raises(InputError) as error:
        find_queries(name)
    assert f"train lookup --encoder {card} --texts" in str(error.value)
    assert str(tmp_path / "encoders" / card) in str(error.value)


def test_a_machine_that_only_searches_needs_the_table_alone(
    lookup_folder, documents_folder, byte_tokenizer, monkeypatch, tmp_path
):
    """csplade-8b's weights are not here; its table is, and names the encoder that it was made for."""
    monkeypatch.setenv("CSPLADE_HOME", str(tmp_path / "home"))
    folder = tmp_path / "home" / "encoders" / "csplade-8b"
    folder.mkdir(parents=True)
    table = table_for(documents_folder, byte_tokenizer, encoder="csplade-8b@1-2-3")
    write_table(table, folder / "lookup.safetensors")
    assert weights_state("csplade-8b") == "not here"
    assert find_queries("csplade-8b-lookup").identity == "csplade-8b@1-2-3"
    encoder = load_encoder("csplade-8b-lookup")
    assert any(encoder.encode_queries(QUERIES))
    with pytest.raises(InputError, match="no weights here"):
        encoder.encode_documents(["a"])
    with pytest.raises(InputError, match="no weights here"):
        find_queries("csplade-8b")


def test_a_table_for_other_weights_does_not_search_the_index(lookup_folder, byte_tokenizer, tmp_path):
    manifest_of(find_checkpoint(str(lookup_folder)).identity, tmp_path / "index")
    source = find_queries(f"{lookup_folder}-lookup")
    refuse_mismatch(tmp_path / "index", source.identity)
    write_table(
        table_for(lookup_folder, byte_tokenizer, encoder="in-memory-llama@older"),
        lookup_folder / "lookup.safetensors",
    )
    stale = find_queries(f"{lookup_folder}-lookup")
    with pytest.raises(
        InputError, match=r"encoded by in-memory-llama@\w+.*the queries by in-memory-llama@ol"
    ):
        refuse_mismatch(tmp_path / "index", stale.identity)


def other_tokenizer(folder):
    """Change one token of a folder's tokenizer."""
    file = folder / "tokenizer.json"
    table = json.loads(file.read_text())
    vocabulary = table["model"]["vocab"]
    last = max(vocabulary, key=vocabulary.get)
    vocabulary["unheard"] = vocabulary.pop(last)
    table["model"]["merges"] = [merge for merge in table["model"]["merges"] if "".join(merge) in vocabulary]
    file.write_text(json.dumps(table))


def test_a_table_of_another_vocabulary_is_an_error_that_names_both(lookup_folder):
    other_tokenizer(lookup_folder)
    with pytest.raises(InputError) as error:
        load_encoder(f"{lookup_folder}-lookup")
    for part in ("lookup.safetensors", "in-memory-llama@", "vocabulary is not that of in-memory-llama"):
        assert part in str(error.value)


def test_another_encoder_makes_the_queries_that_the_card_gives_it(documents_folder, small_folder):
    change_card(documents_folder, query_encoder=str(small_folder))
    encoder = load_encoder(str(documents_folder))
    small = load_encoder(str(small_folder))
    assert encoder.encode_queries(QUERIES) == small.encode_queries(QUERIES)
    assert encoder.identity == find_checkpoint(str(documents_folder)).identity
    alone = load_encoder(f"{documents_folder}:query=model")
    assert encoder.encode_documents(QUERIES) == alone.encode_documents(QUERIES)
    assert alone.encode_queries(QUERIES) != small.encode_queries(QUERIES)
    cut = load_encoder(f"{documents_folder}:top_terms=2")
    assert max(map(len, cut.encode_queries(QUERIES))) == 2
    source = find_queries(str(documents_folder))
    assert source.maker == f"encoder {small.identity}"


def test_an_encoder_of_another_vocabulary_cannot_make_the_queries(documents_folder, small_folder):
    other_tokenizer(small_folder)
    change_card(documents_folder, query_encoder=str(small_folder))
    with pytest.raises(InputError) as error:
        load_encoder(str(documents_folder))
    assert f"queries of in-memory-llama are to be made by {small_folder}" in str(error.value)
    assert "such as unheard" in str(error.value)


def test_a_circle_of_query_encoders_and_an_unknown_one_are_errors(documents_folder, small_folder):
    change_card(documents_folder, query_encoder=str(small_folder))
    change_card(small_folder, query_encoder=str(documents_folder))
    with pytest.raises(InputError, match="query_encoder goes in a circle"):
        find_queries(str(documents_folder))
    change_card(documents_folder, query_encoder="csplade-tny")
    with pytest.raises(InputError, match="did you mean csplade-tiny"):
        find_queries(str(documents_folder))
    with pytest.raises(InputError, match="names no query_encoder"):
        find_queries("csplade-tiny:query=encoder")


def test_an_index_accepts_the_query_encoder_that_its_card_names_and_no_other(
    documents_folder, small_folder, tmp_path
):
    index = tmp_path / "index"
    small = find_queries(str(small_folder))
    manifest_of(find_checkpoint(str(documents_folder)).identity, index)
    with pytest.raises(InputError, match="their scores would mean nothing"):
        refuse_mismatch(index, small.identity, name=small.name)
    manifest_of(find_checkpoint(str(documents_folder)).identity, index, query_encoder=str(small_folder))
    refuse_mismatch(index, small.identity, name=small.name)
    manifest_of(find_checkpoint(str(documents_folder)).identity, index, query_encoder="another")
    with pytest.raises(InputError, match="queries by another are accepted, too"):
        refuse_mismatch(index, small.identity, name=small.name)


def test_an_index_accepts_the_query_encoder_that_a_shipped_card_was_given_later(
    documents_folder, small_folder, tmp_path, monkeypatch
):
    home = tmp_path / "home"
    monkeypatch.setenv("CSPLADE_HOME", str(home))
    folder = shutil.copytree(documents_folder, home / "encoders" / "csplade-8b")
    change_card(folder, name="csplade-8b")
    manifest_of(find_checkpoint("csplade-8b").identity, tmp_path / "index")
    small = find_queries(str(small_folder))
    with pytest.raises(InputError, match="their scores would mean nothing"):
        refuse_mismatch(tmp_path / "index", small.identity, name=small.name)
    change_card(folder, query_encoder=str(small_folder))
    refuse_mismatch(tmp_path / "index", small.identity, name=small.name)
    assert manifest_path(tmp_path / "index").is_file()


def test_fold_on_one_side_only_is_an_error(documents_folder, small_folder):
    change_card(documents_folder, query_encoder=str(small_folder))
    change_card(small_folder, fold="case")
    with pytest.raises(InputError, match="fold is 'none' for documents and 'case' for queries"):
        load_encoder(str(documents_folder))


def test_a_table_of_folded_tokens_has_the_terms_of_the_documents(documents_folder):
    pytest.importorskip("scipy", reason="needs scipy: pip install 'csplade_pyserini[train]'")
    from csplade_pyserini.training.lookup import LookupSettings, fit_lookup

    change_card(documents_folder, fold="case")
    corpus = documents_folder.parent / "corpus.txt"
    corpus.write_text("".join(f"{text}\n" for text in TEXTS))
    fit_lookup(LookupSettings(encoder=str(documents_folder), texts=(str(corpus),), output=documents_folder))
    queries = load_encoder(f"{documents_folder}:query=lookup")
    documents = load_model(str(documents_folder))
    [upper, lower] = queries.encode_queries(["Chest PAIN", "chest pain"])
    assert set(upper) <= set(documents.terms)
    assert set(lower) <= set(documents.terms)
    assert queries.readable("##ade") == "ade"
