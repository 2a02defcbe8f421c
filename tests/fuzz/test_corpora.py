"""Whatever a corpus file holds: every document is written, or the command stops and says at which line."""

import gzip
import json
from pathlib import Path

import pytest
from broken_inputs import UNICODE, as_json, broken_gzip, broken_json, broken_values, holds_surrogates
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from csplade_pyserini import encode, index
from csplade_pyserini.collections.corpus import measure_corpus, open_corpus
from csplade_pyserini.collections.manifests import read_collection_manifest, read_index_manifest
from csplade_pyserini.errors import InputError

pytestmark = pytest.mark.usefixtures("one_encoder")
GOOD = {"id": "good", "contents": "a good document"}
LINES = (
    [(f"JSON: {name}", line) for name, line in broken_json()]
    + [
        (f"record: {name}", as_json(record))
        for name, record in broken_values({"id": "x", "contents": "text"})
    ]
    + [
        (f"title and text: {name}", as_json(record))
        for name, record in broken_values({"_id": "x", "title": "t", "text": "text"})
    ]
    + [(f"text: {name}", as_json({"id": "x", "contents": text})) for name, text in UNICODE.items()]
    + [
        (f"escaped text: {name}", json.dumps({"id": "x", "contents": text}).encode())
        for name, text in UNICODE.items()
    ]
    + [(f"docid: {name}", as_json({"id": text, "contents": "text"})) for name, text in UNICODE.items()]
)


@pytest.mark.parametrize("place", ["first", "last"])
@pytest.mark.parametrize("ending", [".jsonl", ".jsonl.gz"])
@pytest.mark.parametrize("line", [line for _, line in LINES], ids=[name for name, _ in LINES])
def test_a_line_is_a_document_or_an_error_with_its_place(
    call, checkpoint_folder, tmp_path, line, place, ending
):
    good = as_json(GOOD)
    content = b"\n".join([line, good] if place == "first" else [good, line]) + b"\n"
    file = tmp_path / f"corpus{ending}"
    file.write_bytes(gzip.compress(content, 1) if ending.endswith("gz") else content)
    done = call(
        encode.main,
        "--encoder",
        checkpoint_folder,
        "--corpus",
        file,
        "--output",
        tmp_path / "out",
        "--store-contents",
    )
    if done.code:
        assert done.code == 2, done
        assert f"{file}:" in done.error
        number = int(done.error.partition(f"{file}:")[2].partition(":")[0])
        broken = {1} if place == "first" else {2}
        assert number in broken | {n + 1 for n in broken if b"\n" in line}, done.error
        assert not (tmp_path / "out").exists()
        return
    [shard] = (tmp_path / "out").iterdir()
    written = [json.loads(record) for record in shard.read_bytes().splitlines()]
    assert len(written) == read_collection_manifest(tmp_path / "out").documents
    if not line.strip():
        assert [record["id"] for record in written] == ["good"]
        return
    assert len(written) == content.count(b"\n")
    record = json.loads(line)
    docid = str(record.get("id", record.get("_id", record.get("docid"))))
    text = record.get(
        "contents",
        " ".join(part.strip() for part in (record.get("title", ""), record.get("text", "")) if part.strip()),
    )
    assert {w["id"]: w["contents"] for w in written} == {"good": GOOD["contents"], docid: text.strip()}


@pytest.mark.parametrize(
    ("name", "content"), [*broken_gzip(as_json(GOOD) + b"\n" + as_json(GOOD | {"id": "other"}) + b"\n")]
)
def test_a_broken_gzip_is_an_error_or_gives_all(call, checkpoint_folder, tmp_path, name, content):
    file = tmp_path / "corpus.jsonl.gz"
    file.write_bytes(content)
    done = call(encode.main, "--encoder", checkpoint_folder, "--corpus", file, "--output", tmp_path / "out")
    assert done.code == 2
    assert str(file) in done.error
    assert not (tmp_path / "out").exists()


@pytest.mark.jvm
def test_a_corpus_of_nothing_but_rare_texts_is_in_the_index_whole(call, checkpoint_folder, tmp_path):
    texts = [text for text in UNICODE.values() if not holds_surrogates(text)]
    file = tmp_path / "corpus.jsonl"
    file.write_bytes(
        b"".join(as_json({"id": number, "contents": text}) + b"\n" for number, text in enumerate(texts))
    )
    done = call(
        encode.main, "--encoder", checkpoint_folder, "--corpus", file, "--output", tmp_path / "vectors"
    )
    assert (done.code, read_collection_manifest(tmp_path / "vectors").documents) == (0, len(texts))
    assert call(index.main, "--input", tmp_path / "vectors", "--index", tmp_path / "index").code == 0
    assert read_index_manifest(tmp_path / "index").documents == len(texts)


ANY_BYTES = st.one_of(
    st.binary(max_size=60), st.text(max_size=30).map(lambda text: text.encode("utf-8", "surrogatepass"))
)
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["id", "_id", "contents", "text", "title", "x"]), inner, max_size=4)
    ),
    max_leaves=6,
)


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    lines=st.lists(
        st.one_of(ANY_BYTES, ANY_JSON.map(lambda value: json.dumps(value).encode())), min_size=1, max_size=5
    )
)
def test_any_bytes_are_documents_or_an_error_with_file_and_line(tmp_path, lines):
    file = Path(tmp_path) / "corpus.jsonl"
    content = b"\n".join(lines)
    file.write_bytes(content)
    try:
        extent = measure_corpus(open_corpus(str(file)))
    except InputError as error:
        assert str(file) in str(error)
        return
    assert extent.documents == len([line for line in content.split(b"\n") if line.decode().strip()])
