"""A query of any content gets right scores and an explanation that adds up, or is an error."""

import json

import pytest
from broken_inputs import UNICODE
from programs import run_python

pytestmark = pytest.mark.jvm
SEARCH = """
import json, sys
from pathlib import Path
from pyserini.search.lucene import LuceneImpactSearcher
from csplade_pyserini import explain
from csplade_pyserini.errors import InputError
from csplade_pyserini.impacts import dot
collection, index, queries, page = map(Path, sys.argv[1:])
searcher = LuceneImpactSearcher(str(index), "csplade-tiny")
[file] = collection.iterdir()
records = map(json.loads, file.read_text(encoding="utf-8").splitlines())
vectors = {record["id"]: record["vector"] for record in records}
for name, query in json.loads(queries.read_text()).items():
    found = {"name": name}
    try:
        hits = searcher.search(query, 5)
        vector = searcher.query_encoder.encode(query)
        found["hits"] = len(hits)
        found["right"] = all(round(hit.score) == dot(vector, vectors[hit.docid]) for hit in hits)
        words = ["--index", str(index), "--query", query, "--hits", "1", "--html", str(page)]
        found["explained"] = explain.main(words)
    except InputError as error:
        found["error"] = str(error)
    except Exception as error:
        found["crash"] = repr(error)
    print("\\nFOUND", json.dumps(found))
"""


@pytest.fixture(scope="module")
def found(sample_vectors, sample_index, tmp_path_factory) -> dict[str, dict]:
    """Outcome of each query, by its name."""
    folder = tmp_path_factory.mktemp("queries")
    (folder / "queries.json").write_text(json.dumps(UNICODE))
    done = run_python(
        "-c", SEARCH, sample_vectors, sample_index, folder / "queries.json", folder / "why.html"
    )
    assert done.returncode == 0, done.stderr[-2000:]
    results = [
        json.loads(line.removeprefix("FOUND "))
        for line in done.stdout.splitlines()
        if line.startswith("FOUND ")
    ]
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
