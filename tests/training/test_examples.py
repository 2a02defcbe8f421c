"""Contrastive examples: Tevatron's JSONL, bad lines named; seed, epoch and line decide the negatives."""

import gzip
import json
import math
import pickle
from collections import Counter
from pathlib import Path

import pytest

from csplade_pyserini.errors import InputError
from csplade_pyserini.training.examples import Example, ExampleDataset, Passage, key, plain_file

TEVATRON = {
    "query_id": "1185869",
    "query": "what was the immediate impact of the success of the manhattan project?",
    "positive_passages": [{"docid": "0", "title": "Introduction", "text": "The presence of communication"}],
    "negative_passages": [{"docid": "2942565", "title": "", "text": "The Manhattan Project"}],
}
"""A line as the files of Tevatron/msmarco-passage-aug have it."""


def write(path: Path, *records: object) -> Path:
    """A JSONL file; bytes among the records are a line as it is."""
    lines = [
        record if isinstance(record, bytes) else json.dumps(record, ensure_ascii=False).encode()
        for record in records
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return path


def example(query: str, *, positives: int = 1, negatives: int = 0) -> dict[str, object]:
    """A record whose passages are called after the query: q+0, q+1, q-0, q-1, ..."""
    return {
        "query_id": query,
        "query": f"text of {query}",
        "positive_passages": [{"docid": f"{query}+{i}", "text": f"positive {i}"} for i in range(positives)],
        "negative_passages": [{"docid": f"{query}-{i}", "text": f"negative {i}"} for i in range(negatives)],
    }


def read(*files: Path, negatives: int = 1, scored: bool = False, seed: int = 0) -> ExampleDataset:
    return ExampleDataset(files, negatives=negatives, scored=scored, seed=seed)


def docids(dataset: ExampleDataset) -> list[list[str]]:
    return [[passage.docid for passage in dataset[index].passages] for index in range(len(dataset))]


def test_a_line_of_tevatron_is_read_as_it_is(tmp_path):
    assert list(map(read(write(tmp_path / "t.jsonl", TEVATRON)).__getitem__, [0])) == [
        Example(
            "1185869",
            "what was the immediate impact of the success of the manhattan project?",
            [
                Passage("0", "Introduction The presence of communication", None),
                Passage("2942565", "The Manhattan Project", None),
            ],
        )
    ]


def test_blank_lines_and_a_byte_order_mark_are_skipped_and_counted(tmp_path, capsys):
    first = "\ufeff".encode() + json.dumps(example("a", negatives=1)).encode()
    file = write(tmp_path / "t.jsonl", first, b"", b" \t", example("b", negatives=1), b"")
    assert docids(read(file)) == [["a+0", "a-0"], ["b+0", "b-0"]]
    assert f"{file}: 3 blank lines are skipped" in capsys.readouterr().err


def test_title_docid_query_id_and_score_may_be_missing(tmp_path):
    record = {
        "query": "q",
        "positive_passages": [{"text": " bare "}],
        "negative_passages": [{"title": None, "text": "n", "score": 2}],
    }
    assert read(write(tmp_path / "t.jsonl", record))[0] == Example(
        "q", "q", [Passage("bare", "bare", None), Passage("n", "n", None)]
    )


def test_numbers_for_ids_become_texts(tmp_path):
    record = {"query_id": 7, "query": "q", "positive_passages": [{"docid": 8, "text": "p"}]}
    [found] = [read(write(tmp_path / "t.jsonl", record), negatives=0)[0]]
    assert (found.query_id, found.passages[0].docid) == ("7", "8")


def test_lines_of_several_files_follow_each_other(tmp_path):
    first = write(tmp_path / "1.jsonl", example("Zürich"), example("日本", negatives=3))
    second = write(tmp_path / "2.jsonl", example("a"))
    third = write(tmp_path / "3.jsonl", example("b"), example("c"))
    dataset = read(second, first, third, negatives=0)
    assert len(dataset) == 5
    assert [dataset[index].query_id for index in range(5)] == ["a", "Zürich", "日本", "b", "c"]
    assert docids(dataset) == [["a+0"], ["Zürich+0"], ["日本+0"], ["b+0"], ["c+0"]]


def test_lines_that_end_as_windows_has_it_or_not_at_all_are_lines(tmp_path):
    file = write(tmp_path / "t.jsonl", json.dumps(example("a")).encode() + b"\r", example("b"))
    file.write_bytes(file.read_bytes().removesuffix(b"\n"))
    assert docids(read(file, negatives=0)) == [["a+0"], ["b+0"]]


def test_a_positive_comes_first_and_negatives_are_other_ones_each(tmp_path):
    dataset = read(
        write(tmp_path / "t.jsonl", *(example(f"q{i}", positives=2, negatives=6) for i in range(20))),
        negatives=4,
    )
    for index, (positive, *negatives) in enumerate(docids(dataset)):
        assert positive in (f"q{index}+0", f"q{index}+1")
        assert len(set(negatives)) == 4
        assert set(negatives) <= {f"q{index}-{i}" for i in range(6)}


def test_too_few_negatives_stand_more_than_once(tmp_path):
    [[_, *negatives]] = docids(read(write(tmp_path / "t.jsonl", example("q", negatives=2)), negatives=7))
    assert len(negatives) == 7
    assert set(negatives) <= {"q-0", "q-1"}


def test_without_negatives_a_query_has_its_positive_alone(tmp_path):
    file = write(
        tmp_path / "t.jsonl", example("q", negatives=9), {"query": "r", "positive_passages": [{"text": "p"}]}
    )
    assert docids(read(file, negatives=0)) == [["q+0"], ["p"]]


def test_over_many_epochs_every_passage_has_its_turn(tmp_path):
    dataset = read(write(tmp_path / "t.jsonl", example("q", positives=3, negatives=5)), negatives=2)
    counts: Counter[str] = Counter()
    for epoch in range(300):
        dataset.set_epoch(epoch)
        counts.update(docids(dataset)[0])
    # 300 draws of one of 3 and of two of 5: 100 and 120 each; five standard deviations are 41 and 43.
    assert all(60 < counts[f"q+{i}"] < 140 for i in range(3))
    assert all(78 < counts[f"q-{i}"] < 162 for i in range(5))


def test_choices_depend_on_seed_epoch_and_line_alone(tmp_path):
    file = write(tmp_path / "t.jsonl", *(example(f"q{i}", positives=3, negatives=9) for i in range(8)))
    dataset = read(file, negatives=3)
    first = docids(dataset)
    assert docids(dataset) == first, "reading changes nothing"
    assert [docid.removeprefix("q0") for docid in first[0]] != [
        docid.removeprefix("q1") for docid in first[1]
    ]
    dataset.set_epoch(1)
    second = docids(dataset)
    assert second != first
    dataset.set_epoch(0)
    assert (
        docids(dataset)[::-1]
        == [docids(read(file, negatives=3))[index] for index in range(7, -1, -1)]
        == first[::-1]
    )
    assert docids(read(file, negatives=3, seed=1)) not in (first, second)


def test_a_worker_process_reads_what_this_process_reads(tmp_path):
    dataset = read(
        write(tmp_path / "t.jsonl", *(example(f"q{i}", negatives=9) for i in range(5))), negatives=3, seed=4
    )
    dataset.set_epoch(2)
    sent = pickle.dumps(dataset)
    assert docids(pickle.loads(sent)) == docids(dataset)
    assert len(sent) < 2000, "the lines stay in their file"


BAD_LINES = {
    "not JSON": (b'{"query": "q"', "not JSON (Expecting ',' delimiter); wanted one object a line"),
    "a list": ([1], "got list; wanted one JSON object a line"),
    "not UTF-8": (b'{"query": "\xff"}', "not UTF-8: "),
    "no query": ({"positive_passages": [{"text": "p"}]}, "query is None; wanted a text"),
    "a blank query": (example("q") | {"query": " \n"}, "query is ' \\n'; wanted a text"),
    "a number for a query": (example("q") | {"query": 5}, "query is 5; wanted a text"),
    "no positives": (
        {"query": "q", "negative_passages": [{"text": "n"}]},
        "positive_passages is None; wanted a list of at least 1",
    ),
    "an empty list of positives": (
        example("q", positives=0, negatives=1),
        "positive_passages is []; wanted a list of at least 1",
    ),
    "positives as a table": (
        example("q") | {"positive_passages": {"text": "p"}},
        "positive_passages is {'text': 'p'}; wanted a list",
    ),
    "no negatives": (example("q"), "negative_passages is []; wanted a list of at least 1 (or negatives = 0)"),
    "a text for a passage": (
        example("q") | {"positive_passages": ["p"]},
        "a passage of positive_passages is p; wanted an object",
    ),
    "a passage without text": (
        example("q", negatives=1) | {"negative_passages": [{"text": "n"}, {"docid": "x"}]},
        "a passage of negative_passages is {'docid': 'x'}; wanted an object with 'text'",
    ),
    "a number for a text": (
        example("q") | {"positive_passages": [{"text": 5}]},
        "a passage of positive_passages is {'text': 5}; wanted an object with 'text'",
    ),
}


@pytest.mark.parametrize(("line", "wanted"), BAD_LINES.values(), ids=BAD_LINES)
def test_a_bad_line_is_an_error_that_names_file_line_and_what_was_wanted(tmp_path, line, wanted):
    good = write(tmp_path / "good.jsonl", example("a", negatives=1))
    file = write(
        tmp_path / "bad.jsonl",
        example("a", negatives=1),
        example("b", negatives=1),
        line,
        example("c", negatives=1),
    )
    with pytest.raises(InputError) as error:
        read(good, file)
    assert str(error.value).startswith(f"{file}:3: {wanted}")


@pytest.mark.parametrize("score", ["missing", None, "0.5", True])
@pytest.mark.parametrize("side", ["positive_passages", "negative_passages"])
def test_distillation_wants_a_score_for_every_passage(tmp_path, side, score):
    record = {
        "query": "q",
        **{
            name: [{"text": "p", "score": 1.5}, {"text": "n", "score": -2}]
            for name in ("positive_passages", side)
        },
    }
    record.setdefault("negative_passages", [{"text": "n", "score": 0}])
    scores = {
        passage.score for passage in read(write(tmp_path / "good.jsonl", record), scored=True)[0].passages
    }
    assert scores <= {1.5, -2, 0}
    del record[side][1]["score"]
    if score != "missing":
        record[side][1]["score"] = score
    file = write(tmp_path / "t.jsonl", record)
    with pytest.raises(InputError) as error:
        read(file, scored=True)
    shown = None if score == "missing" else score
    assert (
        str(error.value)
        == f"{file}:1: a passage of {side} has the score {shown!r}; distillation wants a number"
    )
    assert len(read(file, scored=False)) == 1


def test_files_without_a_single_example_are_an_error(tmp_path):
    first, second = write(tmp_path / "1.jsonl"), write(tmp_path / "2.jsonl")
    with pytest.raises(InputError) as error:
        read(first, second)
    assert str(error.value) == f"no example in {first}, {second}"
    assert docids(read(first, write(tmp_path / "3.jsonl", example("q")), second, negatives=0)) == [["q+0"]]


def test_a_file_that_is_not_there_is_an_error_that_names_it(tmp_path):
    with pytest.raises(InputError) as error:
        read(tmp_path / "none.jsonl")
    assert str(error.value) == f"the examples {tmp_path / 'none.jsonl'} do not exist"


def test_a_gzip_file_is_expanded_once_into_the_folder(tmp_path):
    plain = write(tmp_path / "plain.jsonl", example("a"), example("b"))
    packed = tmp_path / "data" / "train.jsonl.gz"
    packed.parent.mkdir()
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    folder = tmp_path / "runs" / "x"
    expanded = plain_file(packed, folder)
    assert expanded.read_bytes() == plain.read_bytes()
    assert list(folder.iterdir()) == [expanded], "nothing partial stays"
    assert docids(read(expanded, negatives=0)) == [["a+0"], ["b+0"]]
    before = expanded.stat().st_mtime_ns
    assert plain_file(packed, folder) == expanded
    assert expanded.stat().st_mtime_ns == before
    assert list(packed.parent.iterdir()) == [packed], "nothing is written beside the data"


def test_a_plain_file_is_its_own(tmp_path):
    file = write(tmp_path / "plain.jsonl", example("a"))
    assert plain_file(file, tmp_path / "runs") == file
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("content", [b"no gzip at all", None])
def test_a_gzip_file_that_is_none_or_is_not_there_is_an_error_and_leaves_no_file(tmp_path, content):
    packed = tmp_path / "train.jsonl.gz"
    if content is not None:
        packed.write_bytes(content)
    with pytest.raises(InputError) as error:
        plain_file(packed, tmp_path / "runs")
    assert str(error.value).startswith(f"{packed} cannot be expanded into {tmp_path / 'runs'}: ")
    assert not (tmp_path / "runs" / "train.jsonl").exists()


def test_keys_of_texts_are_equal_where_the_texts_are_and_fit_63_bits():
    texts = [f"{i}" for i in range(2000)] + ["", "ü", "日本", "a" * 10_000]
    keys = [key(text) for text in texts]
    assert len(set(keys)) == len(texts)
    assert [key(text) for text in texts] == keys
    assert all(0 <= number < 2**63 for number in keys)
    assert max(keys) >= 2**62, "all 63 bits are used"
    # `printf docid | b2sum -l 64` says 92ea16db458ecb9c: the same in every process and on every machine.
    assert key("docid") == 0x92EA16DB458ECB9C >> 1


def test_two_gzip_files_of_one_name_are_two_files(tmp_path):
    expanded = []
    for name in "ab":
        (tmp_path / name).mkdir()
        packed = tmp_path / name / "train.jsonl.gz"
        packed.write_bytes(gzip.compress(write(tmp_path / "plain.jsonl", example(name)).read_bytes()))
        expanded.append(plain_file(packed, tmp_path / "run"))
    assert [docids(read(file, negatives=0)) for file in expanded] == [[["a+0"]], [["b+0"]]]


@pytest.mark.parametrize(
    "broken", [gzip.compress(b"x" * 1000, mtime=0)[:-12], b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + b"\xff" * 30]
)
def test_a_broken_gzip_file_is_an_error_that_names_it(tmp_path, broken):
    (tmp_path / "t.jsonl.gz").write_bytes(broken)
    with pytest.raises(InputError, match="t.jsonl.gz cannot be expanded"):
        plain_file(tmp_path / "t.jsonl.gz", tmp_path / "run")


def test_null_ids_are_no_ids(tmp_path):
    record = {
        "query_id": None,
        "query": "q",
        "positive_passages": [{"docid": None, "text": "p"}],
        "negative_passages": None,
    }
    found = read(write(tmp_path / "t.jsonl", record), negatives=0)[0]
    assert (found.query_id, found.passages[0].docid) == ("q", "p")


@pytest.mark.parametrize("place", ["query", "query_id"])
def test_a_lone_surrogate_is_an_error(tmp_path, place):
    with pytest.raises(InputError, match=r"t.jsonl:1: a lone surrogate"):
        read(write(tmp_path / "t.jsonl", json.dumps(example("q") | {place: "\ud800"}).encode()), negatives=0)


def test_a_score_is_a_finite_number_where_it_counts_and_anything_elsewhere(tmp_path):
    for score in (math.nan, "0.5"):
        file = write(
            tmp_path / "t.jsonl", {"query": "q", "positive_passages": [{"text": "p", "score": score}]}
        )
        assert read(file, negatives=0)[0].passages[0].score is None
        with pytest.raises(InputError, match="wants a number"):
            read(file, negatives=0, scored=True)
