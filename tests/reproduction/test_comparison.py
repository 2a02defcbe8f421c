"""comparison.html and ir-metadata.yml: the numbers of the records."""

from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml

from csplade_pyserini.reproduction import catalogue
from csplade_pyserini.reproduction.comparison import query_milliseconds, write_comparison
from csplade_pyserini.reproduction.metadata import FILE, write_metadata
from csplade_pyserini.reproduction.records import Record
from csplade_pyserini.reproduction.steps import Step, System

BAD = "<script>alert(1)</script>"
COLLECTION = catalogue.TestCollection(
    name="set",
    corpus="ir_datasets:set",
    topics=(catalogue.TopicSet(topics="ir_datasets:set/test", metrics=("AP",)),),
)


def record(system: str, *values: float, **more: object) -> Record:
    topics = {f"q{number}": value for number, value in enumerate(values)}
    known = {"index_bytes": 2_000_000, "seconds": {"encode": 9.0, "search set": 4.0}} | more
    return Record(
        system=system,
        collection="set",
        scores={"set": {"AP": sum(values) / len(values)}},
        topics={"set": {"AP": topics}},
        **known,
    )


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.circles: list[dict[str, str | None]] = []
        self.names: set[str] = set()
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.names.add(tag)
        if tag == "circle":
            self.circles.append(dict(attrs))

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture
def records() -> list[Record]:
    return [
        record("BM25", 0.25, 0.5, 0.0, 0.25),
        record(
            BAD, 0.5, 1.0, 0.25, 0.0, index_bytes=4_000_000, seconds={"queries set": 1.0, "search set": 3.0}
        ),
        record("third", 0.5, 0.5, 0.5, 0.5, seconds={}),
    ]


def test_the_page_has_tables_plots_and_pairs(records, tmp_path):
    write_comparison(tmp_path / "page.html", COLLECTION, records, records[0])
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    page = Page(text)
    assert "script" not in page.names
    words = "\n".join(page.words)
    for expected in ("3 systems on set", "0.4375", "4,000,000", "1,000.0", "3 / 1 / 0", BAD, "index, MB"):
        assert expected in words, expected
    # 3 points by size, 2 by time (the third's is unknown), 4 topics of each of two systems.
    assert len(page.circles) == 3 + 2 + 2 * 4
    assert "q3: 0.2500 and 0.0000" in words


def test_points_lie_where_their_values_are(records, tmp_path):
    write_comparison(tmp_path / "page.html", COLLECTION, records, records[0])
    circles = Page((tmp_path / "page.html").read_text(encoding="utf-8")).circles
    bm25, ours, third = (float(circle["cx"]) for circle in circles[:3])
    assert bm25 == third < ours  # index size
    heights = [-float(circle["cy"]) for circle in circles[:3]]
    assert heights[0] < heights[1] < heights[2]  # 0.25, 0.4375, 0.5


def test_query_time_is_that_of_the_topics_steps():
    assert query_milliseconds(record("a", 0.5, 0.5), "set") == 2000.0
    assert query_milliseconds(record("a", 0.5, seconds={}), "set") is None
    assert query_milliseconds(record("a", 0.5), "other") is None


def test_the_metadata_follow_the_schema(tmp_path):
    step = Step("search", ["python", "-m", "pyserini.search.lucene"], tmp_path / "run.txt", reads=())
    system = System("mine", tmp_path, (step,), {"set": (step,)})
    hardware = {"processor": "a CPU", "cores": 2, "memory_gib": 8, "gpus": "a GPU"}
    made = record("mine", 0.5, versions={"pyserini": "2.4.0", "torch": "2.15.0"}, hardware=hardware)
    write_metadata(system, made, COLLECTION, "other")
    table = yaml.safe_load(Path(tmp_path, FILE).read_text(encoding="utf-8"))
    assert set(table) - {"schema version", "tag"} == {
        "platform", "research goal", "implementation", "resources", "method", "data",
    }  # fmt: skip
    assert table["platform"]["hardware"]["cpu"]["number of cores"] == 2
    assert table["platform"]["hardware"]["ram"] == "8 GB"
    assert table["platform"]["software"]["retrieval toolkit"] == ["pyserini==2.4.0"]
    assert table["data"]["test collection"]["ir_datasets"] == "set"
    assert table["research goal"]["evaluation"]["baseline"] == ["other"]
    assert table["research goal"]["evaluation"]["reported measures"] == {"set": {"AP": 0.5}}
    assert table["research goal"]["evaluation"]["significance test"][0]["correction method"] == "Holm"
    assert table["implementation"]["executable"]["cmd"][0] == "python -m pyserini.search.lucene"
    assert table["resources"]["runtime"]["wallclock"] == {"encode": "9.0 s", "search set": "4.0 s"}
