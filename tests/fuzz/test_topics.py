"""Whatever a file of topics holds: every topic is encoded, or the command stops and says at which line."""

import gzip
import json

import pytest
from broken_inputs import UNICODE, as_json, broken_gzip, broken_json, broken_values, holds_surrogates
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from csplade_pyserini import encode_queries
from csplade_pyserini.collections.topics import read_topics
from csplade_pyserini.errors import InputError

pytestmark = pytest.mark.usefixtures("one_encoder")
TSV = (
    [(name, line) for name, line in broken_json()]
    + [(f"text: {name}", b"x\t" + text.encode("utf-8", "surrogatepass")) for name, text in UNICODE.items()]
    + [(f"qid: {name}", text.encode("utf-8", "surrogatepass") + b"\ttext") for name, text in UNICODE.items()]
    + [
        ("no tab", b"x text"),
        ("three columns", b"x\ttext\tmore"),
        ("tab first", b"\ttext"),
        ("tab alone", b"\t"),
        ("no text", b"x\t"),
    ]
    + [("carriage return", b"x\ttext\r"), ("the other's qid", b"good\ttext")]
)
JSONL = (
    [(name, line) for name, line in broken_json()]
    + [(name, as_json(record)) for name, record in broken_values({"_id": "x", "text": "text"})]
    + [(f"text: {name}", json.dumps({"id": "x", "text": text}).encode()) for name, text in UNICODE.items()]
)
CASES = [("topics.tsv", b"good\ta question", name, line) for name, line in TSV] + [
    ("topics.jsonl", b'{"_id": "good", "text": "a question"}', name, line) for name, line in JSONL
]


@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize(
    ("name", "good", "line"), [(n, g, x) for n, g, _, x in CASES], ids=[f"{n}: {i}" for n, _, i, _ in CASES]
)
def test_a_line_is_a_topic_or_an_error_with_its_place(
    call, checkpoint_folder, tmp_path, name, good, line, compressed
):
    content = good + b"\n" + line + b"\n"
    file = tmp_path / (f"{name}.gz" if compressed else name)
    file.write_bytes(gzip.compress(content, 1) if compressed else content)
    output = tmp_path / "queries.jsonl"
    done = call(encode_queries.main, "--encoder", checkpoint_folder, "--topics", file, "--output", output)
    if done.code:
        assert done.code == 2, done
        assert f"{file}:2" in done.error or (b"\n" in line and f"{file}:3" in done.error)
        assert not output.exists()
        return
    texts = {text.strip() for text in read_topics(str(file)).values()}
    assert len(read_topics(str(file))) == sum(bool(row.decode().strip()) for row in content.split(b"\n"))
    assert {json.loads(record)["contents"] for record in output.read_bytes().splitlines()} == texts


@pytest.mark.parametrize(("name", "content"), [*broken_gzip(b"1\tone question\n2\tanother question\n")])
def test_a_broken_gzip_is_an_error(call, checkpoint_folder, tmp_path, name, content):
    file = tmp_path / "topics.tsv.gz"
    file.write_bytes(content)
    done = call(
        encode_queries.main,
        "--encoder",
        checkpoint_folder,
        "--topics",
        file,
        "--output",
        tmp_path / "queries.jsonl",
    )
    assert done.code == 2
    assert str(file) in done.error


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    content=st.one_of(
        st.binary(max_size=80), st.text(max_size=60).map(lambda t: t.encode("utf-8", "surrogatepass"))
    ),
    ending=st.sampled_from(["tsv", "jsonl"]),
)
def test_any_bytes_are_topics_or_an_error_that_names_the_file(tmp_path, content, ending):
    file = tmp_path / f"topics.{ending}"
    file.write_bytes(content)
    try:
        topics = read_topics(str(file))
    except InputError as error:
        assert str(file) in str(error)
        return
    assert len(topics) == sum(bool(line.decode().strip()) for line in content.split(b"\n"))


@pytest.mark.parametrize("text", UNICODE.values(), ids=UNICODE)
def test_a_query_of_any_characters_has_a_vector_or_an_error(make_encoder, text):
    encoder = make_encoder()
    try:
        [query], [document] = encoder.encode_queries([text]), encoder.encode_documents([text])
    except InputError as error:
        assert "surrogate" in str(error)
        assert holds_surrogates(text)
        return
    for vector in (query, document):
        assert all(type(impact) is int and impact >= 1 for impact in vector.values())


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(text=st.text(st.characters(), max_size=60))
def test_any_string_has_a_vector_or_an_error(make_encoder, text):
    try:
        make_encoder().encode_queries([text])
    except InputError as error:
        assert "surrogate" in str(error)
