"""Topics of every form go through `encode_queries` and Pyserini's search alike, links and all."""

import json
from pathlib import Path

import pytest
from programs import run_python

from csplade_pyserini import encode_queries

pytestmark = pytest.mark.jvm
MADE = Path(__file__).with_name("made_by_0_1_0")
TOPICS = {"007": "heart attack", "12": "solar panels", "q-3": "a long title: with a colon"}
FORMS = {
    "beir.jsonl": "".join(
        json.dumps({"_id": qid, "text": text, "metadata": {}}) + "\n" for qid, text in TOPICS.items()
    ),
    "columns.tsv": "".join(f"{qid}\t{text}\tfrom somewhere\n\n" for qid, text in TOPICS.items()),
    "adhoc.trec": "".join(
        f"<top>\n<num> Number: {qid}\n<title> {text}\n</top>\n" for qid, text in TOPICS.items()
    ).replace("007", "7"),
}
SEARCH = """
import runpy, sys
index, *forms = sys.argv[1:]
for topics, encoder in zip(forms[::2], forms[1::2]):
    output = f"{topics}.{'file' if encoder.endswith('.jsonl') else 'model'}.txt"
    words = ["--index", index, "--topics", topics, "--encoder", encoder, "--output", output, "--hits", "5"]
    sys.argv = ["pyserini.search.lucene", *words]
    runpy.run_module("pyserini.search.lucene", run_name="__main__")
"""


def test_every_form_gives_the_same_run_by_query_file_and_by_name(tmp_path):
    forms = []
    for name, content in FORMS.items():
        file = tmp_path / name
        file.write_text(content, encoding="utf-8-sig")
        queries = tmp_path / f"{name}.queries.jsonl"
        words = ["--encoder", MADE / "encoder", "--topics", file, "--output", queries]
        assert encode_queries.main([*map(str, words)]) == 0
        forms += [file, queries]
    forms += [forms[0], MADE / "encoder"]
    done = run_python("-c", SEARCH, MADE / "index", *forms)
    assert done.returncode == 0, done.stderr
    runs = {path.name: path.read_text().replace("007 ", "7 ") for path in tmp_path.glob("*.txt")}
    assert len(runs) == len(FORMS) + 1
    [run] = set(runs.values())
    assert {line.split()[0] for line in run.splitlines()} == {"7", "12", "q-3"}
    assert "007 Q0 " in (tmp_path / "beir.jsonl.file.txt").read_text()


def test_links_to_index_and_queries_are_checked_as_what_they_link_to(tmp_path):
    for name in ("index", "queries.jsonl"):
        (tmp_path / f"link-{name}").symlink_to(MADE / name)
    words = [
        "--index",
        tmp_path / "link-index",
        "--topics",
        MADE / "topics.tsv",
        "--output",
        tmp_path / "run.txt",
    ]
    refused = run_python("-m", "pyserini.search.lucene", *words, "--encoder", "csplade-tiny")
    assert refused.returncode == 2, refused.stderr
    assert "link-index was encoded by " in refused.stderr
    done = run_python("-m", "pyserini.search.lucene", *words, "--encoder", tmp_path / "link-queries.jsonl")
    assert done.returncode == 0, done.stderr
    assert "implies --impact" in done.stderr
    assert (tmp_path / "run.txt").read_text()
