"""A collection file of any content is indexed with all impacts, or the build stops and names the line."""

import json
from pathlib import Path

import pytest
from broken_inputs import UNICODE, WRONG_VALUES, as_json, broken_gzip, broken_json, broken_values
from programs import run_python

pytestmark = pytest.mark.jvm
SPACES = {
    f"U+{ord(space):04X}": space
    for space in "\t\n\x0b\x0c\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u2000\u2007\u2028\u202f\u3000"
}
GOOD = {"id": "good", "contents": "", "vector": {"a": 3, "Ġb": 2}}
LINES = (
    [(f"JSON: {name}", line) for name, line in broken_json()]
    + [
        (f"record: {name}", as_json(record))
        for name, record in broken_values({"id": "x", "vector": {"a": 1}})
    ]
    + [
        (f"impact: {name}", as_json({"id": "x", "vector": {"b": 2, "a": value}}))
        for name, value in WRONG_VALUES.items()
    ]
    + [
        (f"impact: {impact}", as_json({"id": "x", "vector": {"a": impact}}))
        for impact in (1, 255, 2**31 - 1, 2**31, 2**63, "7.9", "7", 2.0)
    ]
    + [(f"term: {name}", as_json({"id": "x", "vector": {"b": 2, term: 1}})) for name, term in UNICODE.items()]
    + [
        (f"term behind {name}", as_json({"id": "x", "vector": {"b": 2, f"{space}b": 1}}))
        for name, space in SPACES.items()
    ]
    + [
        (f"term of {size} characters", as_json({"id": "x", "vector": {"é" * size: 1}}))
        for size in (254, 255, 256, 32_766, 32_767)
    ]
    + [(f"docid: {name}", as_json({"id": docid, "vector": {"a": 1}})) for name, docid in UNICODE.items()]
    + [
        (f"docid of {size} bytes", as_json({"id": "x" * size, "vector": {"a": 1}}))
        for size in (255, 256, 32_766, 32_767)
    ]
    + [
        (f"{size} terms", as_json({"id": "x", "vector": {f"t{n}": 1 + n % 9 for n in range(size)}}))
        for size in (0, 1, 1025, 130_000)
    ]
)
INDEX_EACH = """
import json, sys
from pathlib import Path
import pyserini.search.lucene
from csplade_pyserini.files.spans import Span
from csplade_pyserini.errors import CheckError, InputError
from csplade_pyserini.lucene.postings import count_index
from csplade_pyserini.lucene.workers import counts_of, index_part
for file in sorted(Path(sys.argv[1]).iterdir()):
    folder = Path(sys.argv[2]) / file.name
    found = {"file": str(file)}
    try:
        index_part(Span(file, 0, file.stat().st_size), folder, store_raw=True, checked=False, shards=1)
    except (InputError, CheckError) as error:
        found["error"] = str(error)
    except Exception as error:
        found["crash"] = repr(error)
    else:
        read, there = counts_of(folder), count_index(folder)
        same = (read.postings, read.impacts) == (there.postings, there.impacts)
        found |= {"documents": there.documents, "impacts": there.impacts, "same": same}
    print("FOUND", json.dumps(found))
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> dict[str, dict]:
    """Outcome of each file, by its name."""
    folder = tmp_path_factory.mktemp("vectors")
    (folder / "files").mkdir()
    (folder / "indexes").mkdir()
    for number, (_, line) in enumerate(LINES):
        (folder / "files" / f"{number}-first.jsonl").write_bytes(line + b"\n" + as_json(GOOD) + b"\n")
        (folder / "files" / f"{number}-last.jsonl").write_bytes(as_json(GOOD) + b"\n" + line + b"\n")
    for number, (_, content) in enumerate(
        broken_gzip(as_json(GOOD) + b"\n" + as_json(GOOD | {"id": "other"}) + b"\n")
    ):
        (folder / "files" / f"gzip-{number}.jsonl.gz").write_bytes(content)
    done = run_python("-c", INDEX_EACH, folder / "files", folder / "indexes")
    assert done.returncode == 0, done.stderr[-2000:]
    results = [
        json.loads(line.removeprefix("FOUND "))
        for line in done.stdout.splitlines()
        if line.startswith("FOUND ")
    ]
    return {Path(result["file"]).name: result for result in results}


@pytest.mark.parametrize("place", ["first", "last"])
@pytest.mark.parametrize("number", range(len(LINES)), ids=[name for name, _ in LINES])
def test_a_record_is_indexed_with_all_its_impacts_or_an_error_with_its_place(found, number, place):
    line, result = LINES[number][1], found[f"{number}-{place}.jsonl"]
    assert "crash" not in result, result
    if "error" in result:
        assert f"{result['file']}:{1 if place == 'first' else 2}" in result["error"] or b"\n" in line
        return
    vectors = [GOOD["vector"]]
    if line.strip():  # a blank line is skipped
        vectors.append(json.loads(line)["vector"])
    assert result["same"]
    assert result["documents"] == len(vectors)
    assert result["impacts"] == sum(sum(vector.values()) for vector in vectors)


def test_a_broken_gzip_is_an_error(found):
    for name, result in found.items():
        if name.startswith("gzip"):
            assert result["file"] in result.get("error", ""), result


def test_what_is_good_was_not_refused(found):
    """The rules above are not all refused for a reason that has nothing to do with them."""
    indexed = {name for number, (name, _) in enumerate(LINES) if "documents" in found[f"{number}-last.jsonl"]}
    assert {
        "impact: 255",
        "term: nbsp",
        "term: cjk",
        "term behind U+00A0",
        "term of 255 characters",
        "docid of 255 bytes",
        "1025 terms",
    } <= indexed
