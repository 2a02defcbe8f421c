"""Wrong use and bad input, as a user meets them: the verbs as processes, with errors before a model loads."""

import os
import subprocess
from pathlib import Path

import pytest
from programs import run_python

from csplade_pyserini.cards import EncoderCard, find_checkpoint, shipped_cards, write_card
from csplade_pyserini.collections.manifests import CollectionManifest, manifest_path, write_manifest


@pytest.fixture
def checkpoint(tmp_path) -> Path:
    """A checkpoint folder whose weights nobody can load: whoever gets there fails otherwise."""
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    write_card(EncoderCard(name="mine"), folder / "card.toml")
    (folder / "model.safetensors").write_bytes(b"no weights")
    return folder


@pytest.fixture
def corpus(tmp_path) -> Path:
    return write(tmp_path / "corpus.jsonl", '{"id": "1", "contents": "a"}', '{"id": "2", "contents": "b"}')


def write(file: Path, *lines: str) -> Path:
    file.write_text("".join(line + "\n" for line in lines))
    return file


def call(verb: str, *arguments: object, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a verb offline, in `folder`, with no weights in $CSPLADE_HOME."""
    return run_python(
        "-m", f"csplade_pyserini.{verb}", *arguments, cwd=folder, CSPLADE_HOME=str(folder / "home")
    )


def error_of(verb: str, *arguments: object, folder: Path) -> str:
    """The one sentence that a verb ends with on bad input."""
    before = set(folder.iterdir())
    done = call(verb, *arguments, folder=folder)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    *_, last = done.stderr.splitlines()
    assert last.startswith("error: ")
    assert done.stderr.count("error: ") == 1
    assert set(folder.iterdir()) == before, "something was written"
    return last.removeprefix("error: ")


def encode_error(folder: Path, encoder: object, corpus: object, *more: object) -> str:
    return error_of(
        "encode", "--encoder", encoder, "--corpus", corpus, "--output", folder / "out", *more, folder=folder
    )


def test_an_unknown_encoder_is_an_error_of_every_verb_that_lists_the_known_ones(tmp_path, corpus):
    topics = write(tmp_path / "topics.tsv", "1\ta")
    errors = [
        encode_error(tmp_path, "nope", corpus),
        error_of(
            "encode_queries",
            "--encoder",
            "nope",
            "--topics",
            topics,
            "--output",
            tmp_path / "q.jsonl",
            folder=tmp_path,
        ),
        error_of("cards", "--encoder", "nope", folder=tmp_path),
    ]
    known = ", ".join(shipped_cards())
    assert (
        errors
        == [f"unknown encoder 'nope'; known: {known}; or a folder or Hugging Face id that holds a card.toml"]
        * 3
    )


def test_pyserinis_own_encoders_are_unknown_to_our_verbs_and_no_network_is_needed_to_say_so(tmp_path, corpus):
    assert encode_error(tmp_path, "naver/splade-v3", corpus).startswith(
        "unknown encoder 'naver/splade-v3'; known: csplade-1b, "
    )


def test_missing_weights_are_an_error_that_says_how_to_get_them(tmp_path, corpus):
    message = encode_error(tmp_path, "csplade-8b", corpus)
    assert message.startswith(
        f"encoder 'csplade-8b' has no weights here: {shipped_cards()['csplade-8b'].install} Looked in "
    )
    assert str(tmp_path / "home" / "encoders" / "csplade-8b") in message


def test_wrong_options_are_an_error_that_lists_the_right_ones(tmp_path, corpus):
    message = encode_error(tmp_path, "csplade-tiny:devise=cpu", corpus)
    known = (
        "device, dtype, quantization, max_length, top_terms, query_prefix, document_prefix, query, revision"
    )
    assert message.endswith(f"unknown key 'devise'; known: {known}")


def test_a_card_with_an_unknown_key_is_an_error_that_names_file_and_key(tmp_path, checkpoint, corpus):
    card = write(checkpoint / "card.toml", 'name = "mine"', "ecko = true")
    for message in (
        encode_error(tmp_path, checkpoint, corpus),
        error_of("cards", "--encoder", checkpoint, folder=tmp_path),
    ):
        assert message.startswith(f"{card}: unknown key 'ecko'; known: ")


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        (
            ['{"id": "1", "contents": "a"}', '{"id": "2", "contents"'],
            "{file}:2: not JSON (Expecting ':' delimiter); wanted one object a line",
        ),
        (['{"id": "1", "contents": "a"}'] * 2, "{file}:2: docid '1' is also at {file}:1"),
        ([], "the corpus {file} is empty"),
    ],
    ids=["bad line", "repeated docid", "empty"],
)
def test_a_bad_corpus_is_an_error_that_names_its_place(tmp_path, checkpoint, lines, complaint):
    file = write(tmp_path / "corpus.jsonl", *lines)
    assert encode_error(tmp_path, checkpoint, file) == complaint.format(file=file)


def test_a_corpus_that_is_not_there_is_an_error(tmp_path, checkpoint):
    message = encode_error(tmp_path, checkpoint, "nowhere")
    assert (
        message
        == "the corpus nowhere does not exist; wanted a JSONL file, a folder of them, or ir_datasets:ID"
    )


def test_the_output_of_another_encoder_is_an_error_that_names_both(tmp_path, checkpoint, corpus):
    output = tmp_path / "out"
    output.mkdir()
    write(output / "shard.jsonl", '{"id": "1", "contents": "", "vector": {"a": 1}}')
    write_manifest(
        CollectionManifest(encoder="yours@1", card={}, arguments={}, versions={}, files=()), output
    )
    before = manifest_path(output).read_bytes()
    message = encode_error(tmp_path, checkpoint, corpus)
    identity = find_checkpoint(str(checkpoint)).identity
    assert message.startswith(
        f"{manifest_path(output)} was made with encoder 'yours@1', this command has '{identity}': "
    )
    assert manifest_path(output).read_bytes() == before
    assert [path.name for path in output.iterdir()] == ["shard.jsonl"]


def test_an_output_with_something_else_in_it_is_an_error(tmp_path, checkpoint, corpus):
    (tmp_path / "out").mkdir()
    write(tmp_path / "out" / "notes.txt", "mine")
    message = encode_error(tmp_path, checkpoint, corpus)
    assert (
        message
        == f"{tmp_path / 'out'} is not empty and has no manifest: choose another --output, or remove it"
    )


def test_a_shard_that_does_not_exist_is_an_error(tmp_path, checkpoint, corpus):
    for shard_id, shard_num in ((2, 2), (-1, 2), (0, 0)):
        message = encode_error(tmp_path, checkpoint, corpus, "--shard-id", shard_id, "--shard-num", shard_num)
        assert message == f"--shard-id is {shard_id}, --shard-num {shard_num}; wanted 0 <= id < num"


def test_encode_queries_wants_a_name_that_pyserini_reads(tmp_path, checkpoint):
    topics = write(tmp_path / "topics.tsv", "1\ta")
    output = tmp_path / "queries.json"
    message = error_of(
        "encode_queries", "--encoder", checkpoint, "--topics", topics, "--output", output, folder=tmp_path
    )
    assert (
        message == f"--output is {output}; wanted a name that ends in .jsonl, or Pyserini would not read it"
    )


def test_bad_topics_are_an_error_that_names_the_place(tmp_path, checkpoint):
    topics = write(tmp_path / "topics.tsv", "1\ta", "2 b")
    command = (
        "encode_queries",
        "--encoder",
        checkpoint,
        "--topics",
        topics,
        "--output",
        tmp_path / "queries.jsonl",
    )
    assert error_of(*command, folder=tmp_path) == f"{topics}:2: got '2 b'; wanted qid<TAB>text"


def test_what_argparse_refuses_ends_with_the_same_exit_code(tmp_path, checkpoint, corpus):
    for wrong in (["--batch-tokens", "0"], ["--max-length", "many"], ["--no-such-flag"]):
        done = call(
            "encode", "--encoder", checkpoint, "--corpus", corpus, "--output", "out", *wrong, folder=tmp_path
        )
        assert done.returncode == 2
        assert done.stdout == ""
        assert wrong[0] in done.stderr.splitlines()[-1]
        assert not (tmp_path / "out").exists()


def test_weights_that_do_not_load_are_an_error_and_leave_no_output(tmp_path, checkpoint, corpus):
    done = call("encode", "--encoder", checkpoint, "--corpus", corpus, "--output", "out", folder=tmp_path)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: cannot load the weights of ")
    assert not (tmp_path / "out.manifest.json").exists()
    assert list((tmp_path / "out").glob("*")) == []


def test_cards_prints_a_card_on_stdout_and_nothing_else(tmp_path):
    done = call("cards", "--encoder", "csplade-echo-8b:max_length=77", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert {
        'name = "csplade-echo-8b"',
        "echo = true",
        "query_max_length = 77",
        "document_max_length = 77",
    } <= set(lines)


def test_cards_lists_every_card_and_where_its_weights_are(tmp_path):
    done = call("cards", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split()[0] for line in done.stdout.splitlines()] == list(shipped_cards())
    states = {line.split()[0]: line[19:29].strip() for line in done.stdout.splitlines()}
    assert (states["csplade-8b"], states["laconic-1b"]) == ("not here", "on the hub")
    assert all(card.summary in done.stdout for card in shipped_cards().values())


NOT_UTF_8 = os.fsdecode(b"name-\xff\xfe")


@pytest.mark.parametrize(
    ("verb", "words"),
    [
        ("encode", ("--encoder", "csplade-tiny", "--corpus", NOT_UTF_8, "--output", "out")),
        ("encode", ("--encoder", "csplade-tiny", "--corpus", "corpus.jsonl", "--output", NOT_UTF_8)),
        ("encode_queries", ("--encoder", NOT_UTF_8, "--topics", "topics.tsv", "--output", "queries.jsonl")),
        ("index", ("--input", "corpus.jsonl", "--index", NOT_UTF_8)),
        ("cards", ("--encoder", "csplade-tiny", "--encode", NOT_UTF_8)),
        ("explain", ("--index", "index", "--encoder", "csplade-tiny", "--query", NOT_UTF_8)),
        ("reproduce", ("--collection", NOT_UTF_8, "--encoder", "csplade-tiny", "--output", "out")),
        ("train", ("adapt", "--config", NOT_UTF_8, "--output", "out")),
        ("doctor", ("--encoder", NOT_UTF_8)),
    ],
)
def test_an_argument_that_is_not_utf_8_is_an_error_of_every_verb(tmp_path, corpus, verb, words):
    (tmp_path / NOT_UTF_8).write_bytes(corpus.read_bytes())
    assert error_of(verb, *words, folder=tmp_path) == (
        "the argument 'name-\\udcff\\udcfe' is not UTF-8; "
        "give text as UTF-8, and files and folders names that are"
    )
