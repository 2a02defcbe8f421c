"""report.html: the numbers of the records, in one file, and nothing of it is run."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from programs import shown_by_browser

from csplade_pyserini.reproduction import catalogue
from csplade_pyserini.reproduction.records import Record
from csplade_pyserini.reproduction.report import write_report
from csplade_pyserini.reproduction.score_tables import ScoreTable
from csplade_pyserini.reproduction.steps import System

VECTOR = '{"id": "d1", "contents": "", "vector": {"a": 3, "b": 250}}\n'


def record(system: str, **scores: float) -> Record:
    return Record(
        system=system, collection="set", topics={"set": {"AP": scores}},
        scores={"set": {"AP": sum(scores.values()) / len(scores)}},
        index_bytes=1_234_567, documents=10, postings=2_000, seconds={"encode": 61.5}, date="2026-11-24",
    )  # fmt: skip


class Page(HTMLParser):
    def __init__(self, text: str):
        super().__init__()
        self.tags, self.words = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture
def page(tmp_path) -> str:
    vectors = tmp_path / "vectors"
    vectors.mkdir()
    (vectors / "shard.jsonl").write_text(VECTOR)
    name = "<script>alert(1)</script>"
    collection = catalogue.TestCollection(
        name="set", corpus="docs.jsonl", topics=(catalogue.TopicSet(topics="t.tsv", metrics=("AP",)),)
    )
    systems = [System("BM25", tmp_path / "bm25", (), {}), System(name, tmp_path, (), {})]
    records = [record("BM25", q1=0.5, q2=0.25), record(name, q1=0.75, q2=0.125)]
    tables = [ScoreTable(encoder="other", origin="paper", source="a & b", scores={"set": {"AP": 0.9}})]
    write_report(tmp_path / "report.html", collection, systems, records, tables)
    return (tmp_path / "report.html").read_text(encoding="utf-8")


def test_the_page_holds_the_records_numbers(page):
    words = "\n".join(Page(page).words)
    for expected in (
        "0.4375",
        "0.3750",
        "0.9000",
        "paper: a & b",
        "1,234,567",
        "200.0",
        "617.28",
        "61.5",
        "1 better, 1 worse, 0 equal",
    ):
        assert expected in words
    assert "q1: +0.2500" in words
    assert "q2: -0.1250" in words


def test_the_page_needs_no_network_and_runs_nothing(page):
    tags = Page(page).tags
    assert not {"script", "link", "iframe", "object", "img"} & {tag for tag, _ in tags}
    assert not any(name.startswith("on") or name in ("src", "href") for _, attrs in tags for name in attrs)
    assert not re.search(r"url\(|@import", page)


def test_a_browser_runs_nothing_of_names_and_qids(tmp_path):
    nasty = "<img/src=x/onerror=document.title='owned'>"
    collection = catalogue.TestCollection(
        name=nasty,
        corpus="docs.jsonl",
        topics=(catalogue.TopicSet(topics=f"{nasty}.tsv", metrics=("AP",)),),
    )
    vectors = tmp_path / "vectors"
    vectors.mkdir()
    (vectors / "shard.jsonl").write_text(json.dumps({"id": nasty, "vector": {nasty: 1}}) + "\n")
    systems = [System("BM25", tmp_path, (), {}), System(nasty, tmp_path, (), {})]
    records = [record("BM25", **{nasty: 0.5}), record(nasty, **{nasty: 0.75})]
    for r in records:
        for by_topics in (r.scores, r.topics):
            by_topics[nasty] = by_topics.pop("set")
    write_report(tmp_path / "report.html", collection, systems, records, [])
    shown = shown_by_browser(tmp_path / "report.html", tmp_path / "profile")
    assert "<title>owned</title>" not in shown
    assert "&lt;img/src=x/onerror=" in shown
    assert "<img" not in shown


def test_the_page_is_whole_html(page, tmp_path):
    assert page.startswith("<!doctype html>")
    assert page.rstrip().endswith("</html>")
    opened = [tag for tag, _ in Page(page).tags if tag in ("table", "svg", "tr")]
    assert all(page.count(f"</{tag}>") == opened.count(tag) for tag in ("table", "svg", "tr"))
    assert not list(Path(tmp_path).glob(".*partial"))
