"""Whatever a query holds: a searcher's hits are its documents with their inner products, and an explanation adds up; or it is an error."""

import json

import pytest
from broken_inputs import UNICODE
from programs import SAMPLE, run_python

pytestmark = pytest.mark.jvm
SEARCH = """
import json, sys
from pyserini.search.lucene import LuceneImpactSearcher
from csplade_pyserini import explain
from csplade_pyserini.errors import InputError
from csplade_pyserini.impacts import dot
folder, queries = sys.argv[1], json.loads(open(sys.argv[2]).read())
searcher = LuceneImpactSearcher(f"{folder}/index", "csplade-tiny")
vectors = {}
for line in open(next(__import__("pathlib").Path(folder, "vectors").iterdir()), encoding="utf-8"):
    record = json.loads(line)
    vectors[record["id"]] = record["vector"]
for name, query in queries.items():
    found = {"name": name}
    try:
        hits = searcher.search(query, 5)
        vector = searcher.query_encoder.encode(query)
        found["hits"] = len(hits)
        found["right"] = all(round(hit.score) == dot(vector, vectors[hit.docid]) for hit in hits)
        found["explained"] = explain.main(["--index", f"{folder}/index", "--query", query, "--hits", "1", "--html", f"{folder}/why.html"])
    except InputError as error:
        found["error"] = str(error)
    except Exception as error:
        found["crash"] = repr(error)
    print("\\nFOUND", json.dumps(found))
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> dict[str, dict]:
    """What became of each query, by its name."""
    folder = tmp_path_factory.mktemp("queries")
    for words in (
        ("encode", "--encoder", "csplade-tiny", "--corpus", SAMPLE / "corpus.jsonl", "--output", folder / "vectors"),
        ("index", "--input", folder / "vectors", "--index", folder / "index"),
    ):
        done = run_python("-m", f"csplade_pyserini.{words[0]}", *words[1:])
        assert done.returncode == 0, done.stderr
    (folder / "queries.json").write_text(json.dumps(UNICODE))
    done = run_python("-c", SEARCH, folder, folder / "queries.json")
    assert done.returncode == 0, done.stderr[-2000:]
    results = [json.loads(line.removeprefix("FOUND ")) for line in done.stdout.splitlines() if line.startswith("FOUND ")]
    return {result["name"]: result for result in results}


@pytest.mark.parametrize("name", UNICODE)
def test_a_query_is_answered_rightly_and_explained_or_is_an_error(found, name):
    result = found[name]
    assert "crash" not in result
    if "error" in result:
        assert "surrogate" in result["error"] or UNICODE[name].strip() == "", result
    else:
        assert result["right"]
        assert result["explained"] == 0
