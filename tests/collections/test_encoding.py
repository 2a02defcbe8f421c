import contextlib
import dataclasses
import gzip
import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from programs import run_python

from csplade_pyserini.cards import EncoderCard
from csplade_pyserini.collections import encoding
from csplade_pyserini.collections.corpus import measure_corpus, open_corpus, shard_range
from csplade_pyserini.collections.encoding import EncodingJob, encode_corpus
from csplade_pyserini.collections.manifests import manifest_path, read_collection_manifest
from csplade_pyserini.collections.shards import merge_shards
from csplade_pyserini.collections.vectors import record_line
from csplade_pyserini.errors import CheckError, InputError
from csplade_pyserini.model.batching import TokenBudget

TEXTS = [
    "one fish",
    "two fish",
    "",
    "red fish red",
    " ",
    "blue fish",
    "fish fish fish",
    "Zürich 日本",
    "a b c d e",
    "last",
    "one fish",
]
RESERVED = "[CSPLADE-EMPTY]"


class WordEncoder:
    """Counts words, and fails once it has counted those of `lasts` documents."""

    empty_term = RESERVED

    def __init__(self, lasts: int | None = None, fail: Callable[[], object] = lambda: 1 / 0):
        self.lasts, self.fail, self.encoded = lasts, fail, []

    def token_budget(self, tokens: object, *, side: str) -> TokenBudget:
        return TokenBudget(1)  # words need no batches

    def tokenize(self, texts: Sequence[str], *, side: str) -> list[list[str]]:
        assert side == "document"
        return [text.split() for text in texts]

    def encode_tokenized(self, rows, *, side, batch_tokens, progress) -> list[dict[str, int]]:
        for row in rows:
            if len(self.encoded) == self.lasts:
                self.fail()
            self.encoded.append(" ".join(row))
            progress(1)
        return [dict(Counter(row).most_common()) for row in rows]


@pytest.fixture(autouse=True)
def _small_windows(monkeypatch):
    monkeypatch.setattr(encoding, "WINDOW", 2)


@pytest.fixture
def corpus(tmp_path) -> Path:
    return write_corpus(tmp_path / "corpus.jsonl", TEXTS)


def write_corpus(file: Path, texts: Sequence[str]) -> Path:
    file.write_text(
        "".join(json.dumps({"id": f"d{i}", "contents": text}) + "\n" for i, text in enumerate(texts))
    )
    return file


def job_of(corpus: Path, output: Path, encoder: WordEncoder | None = None, **changes: object) -> EncodingJob:
    """A job with files of 3 documents; its encoder must not be loaded where none is given."""

    def load():
        assert encoder is not None, "the encoder was loaded"
        return encoder

    job = EncodingJob(
        corpus=open_corpus(str(corpus)),
        output=output,
        identity="words@1",
        card=EncoderCard(name="words"),
        load_encoder=load,
        arguments={"corpus": str(corpus), "max_length": 256},
        documents_per_file=3,
    )
    return dataclasses.replace(job, **changes)


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*"))}


def records_of(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for content in files_of(folder).values() for line in content.splitlines()]


def expected_record(number: int) -> dict[str, object]:
    return {
        "id": f"d{number}",
        "contents": "",
        "vector": dict(Counter(TEXTS[number].split())) or {RESERVED: 1},
    }


def die() -> None:
    os._exit(9)


def encode_and_die(corpus: str, output: str, lasts: str) -> None:
    """Run in the process of `test_a_killed_process...`."""
    encoding.WINDOW = 2
    encode_corpus(job_of(Path(corpus), Path(output), WordEncoder(int(lasts), die)))


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 200))
def test_shards_partition_any_corpus_evenly(total, shard_num):
    ranges = [shard_range(total, shard_id, shard_num) for shard_id in range(shard_num)]
    assert [ranges[0][0], *(last for _, last in ranges)] == [*(first for first, _ in ranges), total]
    assert ranges[0][0] == 0
    sizes = {last - first for first, last in ranges}
    assert min(sizes) >= 0
    assert max(sizes) - min(sizes) <= 1


def test_a_corpus_becomes_files_of_so_many_documents(corpus, tmp_path):
    encoder, output = WordEncoder(), tmp_path / "deep" / "out"
    manifest = encode_corpus(job_of(corpus, output, encoder))
    assert records_of(output) == [expected_record(number) for number in range(len(TEXTS))]
    assert list(files_of(output)) == [f"shard-0000-of-0001-{part:05d}.jsonl" for part in range(4)]
    assert [(file.first, file.documents) for file in manifest.files] == [(0, 3), (3, 3), (6, 3), (9, 2)]
    assert encoder.encoded == [" ".join(text.split()) for text in TEXTS]
    assert sorted(path.name for path in output.parent.iterdir()) == ["out", "out.manifest.json"], (
        "nothing is left of the work"
    )


def test_the_manifest_tells_what_the_files_hold(corpus, tmp_path):
    manifest = encode_corpus(job_of(corpus, tmp_path / "out", WordEncoder()))
    for shard in manifest.files:
        content = (tmp_path / "out" / shard.file).read_bytes()
        vectors = [json.loads(line)["vector"] for line in content.splitlines()]
        assert shard.sha256 == hashlib.sha256(content).hexdigest()
        assert shard.documents == len(vectors)
        assert shard.empties == sum(RESERVED in vector for vector in vectors)
        assert shard.terms == sum(map(len, vectors))
        assert shard.impacts == sum(sum(vector.values()) for vector in vectors)
    assert manifest.documents == len(TEXTS)
    assert manifest.encoder == "words@1"
    assert manifest.card["name"] == "words"
    assert manifest.arguments == {
        "corpus": str(corpus), "max_length": 256, "shard_num": 1, "documents_per_file": 3,
        "corpus_size": f"1 files, {corpus.stat().st_size} bytes",
        "digests": [measure_corpus(open_corpus(str(corpus))).digest],
    }  # fmt: skip
    assert read_collection_manifest(tmp_path / "out") == manifest
    table = json.loads((tmp_path / "out.manifest.json").read_text())
    assert (table["documents"], table["empties"], table["terms"]) == (
        manifest.documents,
        manifest.empties,
        manifest.terms,
    )


def test_empty_documents_are_counted_and_carry_exactly_the_reserved_term(corpus, tmp_path):
    manifest = encode_corpus(job_of(corpus, tmp_path / "out", WordEncoder()))
    empty = [f"d{number}" for number, text in enumerate(TEXTS) if not text.strip()]
    assert manifest.empties == len(empty) == 2
    records = records_of(tmp_path / "out")
    assert [record["id"] for record in records if RESERVED in record["vector"]] == empty
    assert all(record["vector"] == {RESERVED: 1} for record in records if record["id"] in empty)


def test_the_text_is_kept_where_it_is_asked_for(corpus, tmp_path):
    encode_corpus(job_of(corpus, tmp_path / "out", WordEncoder(), with_contents=True))
    assert [record["contents"] for record in records_of(tmp_path / "out")] == [text.strip() for text in TEXTS]


def test_a_record_is_one_line_with_terms_as_they_are():
    line = record_line("d1", "a\nb", {"Ġmanhattan": 2, "\\u000a": 1})
    assert line == '{"id":"d1","contents":"a\\nb","vector":{"Ġmanhattan":2,"\\\\u000a":1}}\n'


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [2, 3, 0, 1]])
def test_shards_together_are_the_corpus_in_any_order(corpus, tmp_path, order):
    encode_corpus(job_of(corpus, tmp_path / "one", WordEncoder()))
    encoders = {shard_id: WordEncoder() for shard_id in order}
    jobs = [
        job_of(corpus, tmp_path / "many", encoders[shard_id], shard_id=shard_id, shard_num=4)
        for shard_id in order
    ]
    manifests = [encode_corpus(job) for job in jobs]
    assert manifests[:-1] == [None] * 3
    assert manifests[-1] == read_collection_manifest(tmp_path / "many")
    assert records_of(tmp_path / "many") == records_of(tmp_path / "one")
    assert [shard.file for shard in manifests[-1].files] == list(files_of(tmp_path / "many"))
    assert sum(len(encoder.encoded) for encoder in encoders.values()) == len(TEXTS)
    assert not (tmp_path / "many.partial").exists()


def test_there_may_be_more_shards_than_documents(tmp_path):
    corpus = write_corpus(tmp_path / "corpus.jsonl", ["a", "b"])
    for shard_id in range(5):
        has_any = bool(list(open_corpus(str(corpus)).shard(shard_id, 5).documents()))
        encoder = WordEncoder() if has_any else None
        manifest = encode_corpus(job_of(corpus, tmp_path / "out", encoder, shard_id=shard_id, shard_num=5))
    assert [record["id"] for record in records_of(tmp_path / "out")] == ["d0", "d1"]
    assert manifest.documents == 2


@pytest.mark.parametrize("lasts", range(len(TEXTS)))
def test_a_resumed_run_ends_as_an_uninterrupted_one(corpus, tmp_path, lasts):
    whole, output = tmp_path / "whole" / "out", tmp_path / "resumed" / "out"
    encode_corpus(job_of(corpus, whole, WordEncoder()))
    expected = files_of(whole)

    with pytest.raises(ZeroDivisionError):
        encode_corpus(job_of(corpus, output, WordEncoder(lasts)))
    finished = files_of(output)
    assert len(finished) == lasts // 3
    assert finished.items() <= expected.items(), "a final name stands for a whole file"
    assert not manifest_path(output).exists()
    assert list(files_of(output.with_name("out.partial"))) == (
        ["shard-0000-of-0001.json"] if finished else []
    )

    encoder = WordEncoder()
    encode_corpus(job_of(corpus, output, encoder))
    assert files_of(output) == expected
    assert manifest_path(output).read_bytes() == manifest_path(whole).read_bytes()
    assert encoder.encoded == [" ".join(text.split()) for text in TEXTS[3 * len(finished) :]], (
        "finished files are not encoded again"
    )
    assert not output.with_name("out.partial").exists()


def test_a_run_may_be_interrupted_again_and_again(corpus, tmp_path):
    encode_corpus(job_of(corpus, tmp_path / "whole", WordEncoder()))
    for lasts in (2, 3, 4, 1, 5):
        with contextlib.suppress(KeyboardInterrupt):
            encode_corpus(
                job_of(
                    corpus,
                    tmp_path / "out",
                    WordEncoder(lasts, lambda: (_ for _ in ()).throw(KeyboardInterrupt)),
                )
            )
    encode_corpus(job_of(corpus, tmp_path / "out", WordEncoder()))
    assert files_of(tmp_path / "out") == files_of(tmp_path / "whole")


def test_a_killed_process_leaves_whole_files_and_can_be_resumed(corpus, tmp_path):
    encode_corpus(job_of(corpus, tmp_path / "whole", WordEncoder()))
    output = tmp_path / "out"
    program = (
        "import sys; sys.dont_write_bytecode = True; sys.path[:0] = sys.argv[1].split(); "
        "import test_encoding; test_encoding.encode_and_die(*sys.argv[2:])"
    )
    here = Path(__file__).parent
    died = run_python("-c", program, f"{here} {here.parent}", corpus, output, 8)
    assert died.returncode == 9, died.stderr
    assert files_of(output).items() <= files_of(tmp_path / "whole").items()
    assert len(files_of(output)) == 2
    assert any("00002" in name for name in files_of(tmp_path / "out.partial")), (
        "the file in progress is in DIR.partial"
    )

    encoder = WordEncoder()
    encode_corpus(job_of(corpus, output, encoder))
    assert files_of(output) == files_of(tmp_path / "whole")
    assert len(encoder.encoded) == len(TEXTS) - 6
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith("out")) == [
        "out",
        "out.manifest.json",
    ]


def test_files_that_are_missing_or_changed_when_resuming_are_encoded_again(corpus, tmp_path, capsys):
    output = tmp_path / "out"
    encode_corpus(job_of(corpus, tmp_path / "whole", WordEncoder()))
    with pytest.raises(ZeroDivisionError):
        encode_corpus(job_of(corpus, output, WordEncoder(10)))
    first, second, third = (output / name for name in files_of(output))
    first.unlink()
    second.write_bytes(second.read_bytes()[:-5])
    capsys.readouterr()

    encoder = WordEncoder()
    encode_corpus(job_of(corpus, output, encoder))
    assert files_of(output) == files_of(tmp_path / "whole")
    assert len(encoder.encoded) == len(TEXTS) - 3
    out, err = capsys.readouterr()
    assert out == ""
    for file, is_named in ((first, True), (second, True), (third, False)):
        assert (f"{file} is missing or has changed: encoding it again" in err) == is_named


def test_finished_files_that_were_not_noted_down_are_encoded_again(corpus, tmp_path):
    encode_corpus(job_of(corpus, tmp_path / "whole", WordEncoder()))
    with pytest.raises(ZeroDivisionError):
        encode_corpus(job_of(corpus, tmp_path / "out", WordEncoder(7)))
    (tmp_path / "out.partial" / "shard-0000-of-0001.json").unlink()
    encoder = WordEncoder()
    encode_corpus(job_of(corpus, tmp_path / "out", encoder))
    assert files_of(tmp_path / "out") == files_of(tmp_path / "whole")
    assert len(encoder.encoded) == len(TEXTS)


@pytest.mark.parametrize("lasts", [4, None], ids=["interrupted", "whole"])
@pytest.mark.parametrize(
    ("changes", "before", "now"),
    [
        ({"identity": "words@2"}, "encoder 'words@1'", "'words@2'"),
        ({"arguments": {"max_length": 128}}, "max_length 256", "128"),
        ({"arguments": {"fields": ["title"]}}, "fields None", "['title']"),
        ({"shard_num": 2}, "shard_num 1", "2"),
    ],
)
def test_another_command_does_not_resume_and_is_told_both_values(
    corpus, tmp_path, lasts, changes, before, now
):
    with contextlib.suppress(ZeroDivisionError):
        encode_corpus(job_of(corpus, tmp_path / "out", WordEncoder(lasts)))
    there = files_of(tmp_path / "out")
    with pytest.raises(InputError) as error:
        encode_corpus(job_of(corpus, tmp_path / "out", **changes))
    place = tmp_path / ("out.partial/shard-0000-of-0001.json" if lasts else "out.manifest.json")
    assert str(error.value).startswith(f"{place} was made with {before}")
    assert f", this command has {now}: repeat the first command, or choose another --output" in str(
        error.value
    )
    assert files_of(tmp_path / "out") == there


@pytest.mark.parametrize("lasts", [4, None], ids=["interrupted", "whole"])
def test_a_corpus_that_has_grown_is_not_resumed(corpus, tmp_path, lasts):
    with contextlib.suppress(ZeroDivisionError):
        encode_corpus(job_of(corpus, tmp_path / "out", WordEncoder(lasts)))
    before = corpus.stat().st_size
    write_corpus(corpus, [*TEXTS, "new"])
    size = corpus.stat().st_size
    sizes = f"was made with corpus_size '1 files, {before} bytes', this command has '1 files, {size} bytes': "
    with pytest.raises(InputError, match=sizes):
        encode_corpus(job_of(corpus, tmp_path / "out"))


def elsewhere(corpus: Path, form: str) -> Path:
    """The same corpus by another path: moved, spelled another way, linked, compressed, cut into files."""
    folder = corpus.parent / "elsewhere"
    folder.mkdir()
    if form == "moved":
        return corpus.rename(folder / "moved.jsonl")
    if form == "spelled":
        return folder / ".." / corpus.name
    if form == "linked":
        (folder / "link.jsonl").symlink_to(corpus)
        return folder / "link.jsonl"
    if form == "compressed":
        (folder / "corpus.jsonl.gz").write_bytes(gzip.compress(corpus.read_bytes()))
        return folder / "corpus.jsonl.gz"
    lines = corpus.read_bytes().splitlines(keepends=True)
    for number in (0, 1):
        (folder / f"{number}.jsonl").write_bytes(b"".join(lines[number * 5 : number * 5 + 5 + number]))
    return folder


FORMS = ["moved", "spelled", "linked", "compressed", "cut"]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("lasts", [4, None], ids=["interrupted", "whole"])
def test_the_same_corpus_by_another_path_is_resumed(corpus, tmp_path, lasts, form):
    encode_corpus(job_of(corpus, tmp_path / "whole", WordEncoder()))
    with contextlib.suppress(ZeroDivisionError):
        encode_corpus(job_of(corpus, tmp_path / "out", WordEncoder(lasts)))
    encoder = WordEncoder() if lasts else None
    encode_corpus(job_of(elsewhere(corpus, form), tmp_path / "out", encoder))
    assert files_of(tmp_path / "out") == files_of(tmp_path / "whole")
    assert encoder is None or len(encoder.encoded) == len(TEXTS) - 3


@pytest.mark.parametrize("form", ["moved", "spelled", "linked"])
def test_shards_of_one_corpus_by_two_paths_are_one_collection(corpus, tmp_path, form):
    encode_corpus(job_of(corpus, tmp_path / "whole", WordEncoder()))
    encode_corpus(job_of(corpus, tmp_path / "out", WordEncoder(), shard_id=0, shard_num=2))
    other = elsewhere(corpus, form)
    manifest = encode_corpus(job_of(other, tmp_path / "out", WordEncoder(), shard_id=1, shard_num=2))
    assert manifest is not None
    assert records_of(tmp_path / "out") == records_of(tmp_path / "whole")


@pytest.mark.parametrize("form", ["compressed", "cut"])
def test_shards_of_a_corpus_that_was_cut_in_another_way_are_refused(corpus, tmp_path, form):
    encode_corpus(job_of(corpus, tmp_path / "out", WordEncoder(), shard_id=0, shard_num=2))
    with pytest.raises(InputError, match="was made with corpus_size "):
        encode_corpus(job_of(elsewhere(corpus, form), tmp_path / "out", shard_id=1, shard_num=2))


def test_shards_of_two_data_sets_are_not_one_collection(corpus, tmp_path):
    encode_corpus(
        job_of(
            corpus,
            tmp_path / "out",
            WordEncoder(),
            shard_id=0,
            shard_num=2,
            arguments={"corpus": "ir_datasets:a"},
        )
    )
    with pytest.raises(InputError, match="was made with corpus 'ir_datasets:a', .* has 'ir_datasets:b'"):
        encode_corpus(
            job_of(corpus, tmp_path / "out", shard_id=1, shard_num=2, arguments={"corpus": "ir_datasets:b"})
        )


def test_a_shard_of_another_encoder_is_not_joined(corpus, tmp_path):
    encode_corpus(job_of(corpus, tmp_path / "out", WordEncoder(), shard_id=0, shard_num=2))
    with pytest.raises(
        InputError,
        match="shard-0000-of-0002.json was made with encoder 'words@1', this command has 'words@2'",
    ):
        encode_corpus(job_of(corpus, tmp_path / "out", shard_id=1, shard_num=2, identity="words@2"))


def test_a_whole_output_is_left_alone_and_its_encoder_not_loaded(corpus, tmp_path, capsys):
    output = tmp_path / "out"
    manifest = encode_corpus(job_of(corpus, output, WordEncoder()))
    before = (files_of(output), manifest_path(output).read_bytes(), manifest_path(output).stat().st_mtime_ns)
    capsys.readouterr()
    assert encode_corpus(job_of(corpus, output)) == manifest
    assert (
        files_of(output),
        manifest_path(output).read_bytes(),
        manifest_path(output).stat().st_mtime_ns,
    ) == before
    assert not (tmp_path / "out.partial").exists()
    out, err = capsys.readouterr()
    assert out == ""
    assert f"{output} is whole already: {len(TEXTS)} documents" in err


def test_an_output_that_another_process_made_whole_meanwhile_is_left_alone(corpus, tmp_path, monkeypatch):
    output, lock = tmp_path / "out", encoding.sole_writer

    @contextlib.contextmanager
    def held_by_another_until_now(*args):
        monkeypatch.setattr(encoding, "sole_writer", lock)
        made.append(encode_corpus(job_of(corpus, output, WordEncoder())))
        with lock(*args):
            yield

    made = []
    monkeypatch.setattr(encoding, "sole_writer", held_by_another_until_now)
    assert encode_corpus(job_of(corpus, output)) == made[0]
    assert not (tmp_path / "out.partial").exists()


def test_a_finished_shard_is_not_encoded_again_while_others_are_missing(corpus, tmp_path):
    encode_corpus(job_of(corpus, tmp_path / "out", WordEncoder(), shard_id=1, shard_num=2))
    there = files_of(tmp_path / "out")
    assert encode_corpus(job_of(corpus, tmp_path / "out", shard_id=1, shard_num=2)) is None
    assert files_of(tmp_path / "out") == there


def test_a_changed_collection_fails_its_check(corpus, tmp_path):
    encode_corpus(job_of(corpus, tmp_path / "whole", WordEncoder()))

    def damaged(damage: Callable[[Path], object]) -> str:
        output = tmp_path / "out"
        shutil.rmtree(output, ignore_errors=True)
        shutil.copytree(tmp_path / "whole", output)
        shutil.copy(manifest_path(tmp_path / "whole"), manifest_path(output))
        damage(output)
        with pytest.raises(CheckError) as error:
            encode_corpus(job_of(corpus, output))
        return str(error.value)

    name = "shard-0000-of-0001-00001.jsonl"
    changed = damaged(
        lambda output: (output / name).write_bytes((output / name).read_bytes().replace(b"red", b"bed"))
    )
    assert changed == f"{tmp_path / 'out' / name} has changed since it was written; encode again"
    assert f"missing ['{name}'], not of it nothing" in damaged(lambda output: (output / name).unlink())
    assert "missing nothing, not of it ['notes.txt']" in damaged(
        lambda output: (output / "notes.txt").write_text("x")
    )


def test_another_shard_that_changed_meanwhile_fails_the_check(corpus, tmp_path):
    encode_corpus(job_of(corpus, tmp_path / "out", WordEncoder(), shard_id=0, shard_num=2))
    name = next(iter(files_of(tmp_path / "out")))
    (tmp_path / "out" / name).write_text("{}\n")
    with pytest.raises(CheckError, match=f"{name} has changed since it was written"):
        encode_corpus(job_of(corpus, tmp_path / "out", WordEncoder(), shard_id=1, shard_num=2))
    assert not manifest_path(tmp_path / "out").exists()


def test_an_output_that_holds_something_else_is_an_error(corpus, tmp_path):
    output = tmp_path / "out"
    output.mkdir()
    (output / "thesis.tex").write_text("the only copy")
    with pytest.raises(InputError) as error:
        encode_corpus(job_of(corpus, output))
    assert (
        str(error.value)
        == f"{output} is not empty and has no manifest: choose another --output, or remove it"
    )
    assert files_of(output) == {"thesis.tex": b"the only copy"}
    assert not (tmp_path / "out.partial").exists()


def test_an_empty_folder_is_a_good_output(corpus, tmp_path):
    (tmp_path / "out").mkdir()
    assert encode_corpus(job_of(corpus, tmp_path / "out", WordEncoder())).documents == len(TEXTS)


def test_an_output_that_cannot_be_written_is_an_error(corpus, tmp_path):
    (tmp_path / "file").write_text("a file, not a folder")
    for output in (tmp_path / "file", tmp_path / "file" / "out"):
        with pytest.raises(InputError) as error:
            encode_corpus(job_of(corpus, output))
        assert str(error.value).startswith(f"cannot write {output}: ")


def test_a_bad_corpus_is_an_error_before_anything_is_loaded_or_made(tmp_path):
    corpus = write_corpus(tmp_path / "corpus.jsonl", TEXTS)
    with corpus.open("a") as file:
        file.write('{"id": "d0", "contents": "again"}\n')
    with pytest.raises(InputError, match=f"{corpus}:{len(TEXTS) + 1}: docid 'd0' is also at {corpus}:1"):
        encode_corpus(job_of(corpus, tmp_path / "out"))
    assert [path.name for path in tmp_path.iterdir()] == ["corpus.jsonl"]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("{", "is not JSON"),
        ("[]", "holds list; wanted a JSON object"),
        ('{"format": 1}', "is no manifest of ours"),
        ('{"encoder": "words@1"}', "has the format None; this version reads 1"),
        ('{"encoder": "words@1", "format": 1}', "is no manifest of a collection: wanted a list of shards"),
    ],
)
def test_a_broken_manifest_is_an_error_that_names_it(corpus, tmp_path, content, complaint):
    manifest_path(tmp_path / "out").write_text(content)
    with pytest.raises(InputError) as error:
        encode_corpus(job_of(corpus, tmp_path / "out"))
    assert str(error.value).startswith(f"{tmp_path / 'out.manifest.json'} {complaint}")


@dataclasses.dataclass
class CountedCorpus:
    """A corpus that counts how often it is begun and how many documents were taken."""

    inner: object
    passes: int = 0
    taken: int = 0

    shard_num = 1

    @property
    def name(self):
        return self.inner.name

    @property
    def size(self):
        return self.inner.size

    def shard(self, shard_id, shard_num):
        assert (shard_id, shard_num) == (0, 1)
        return self

    def documents(self):
        self.passes += 1
        for document in self.inner.documents():
            self.taken += 1
            yield document


def test_the_corpus_is_read_twice_however_many_files_it_makes(corpus, tmp_path):
    counted = CountedCorpus(open_corpus(str(corpus)))
    manifest = encode_corpus(
        dataclasses.replace(
            job_of(corpus, tmp_path / "out", WordEncoder()), corpus=counted, documents_per_file=1
        )
    )
    assert len(manifest.files) == len(TEXTS)
    assert counted.passes == 2
    assert counted.taken <= 2 * len(TEXTS)


def test_a_resumed_run_reads_the_corpus_twice_as_well(corpus, tmp_path):
    with pytest.raises(ZeroDivisionError):
        encode_corpus(job_of(corpus, tmp_path / "out", WordEncoder(7), documents_per_file=1))
    counted = CountedCorpus(open_corpus(str(corpus)))
    job = dataclasses.replace(
        job_of(corpus, tmp_path / "out", WordEncoder(), documents_per_file=1), corpus=counted
    )
    assert encode_corpus(job).documents == len(TEXTS)
    assert counted.passes == 2
    assert counted.taken <= 2 * len(TEXTS)


def test_a_whole_output_costs_one_pass_over_the_corpus(corpus, tmp_path):
    encode_corpus(job_of(corpus, tmp_path / "out", WordEncoder()))
    counted = CountedCorpus(open_corpus(str(corpus)))
    encode_corpus(dataclasses.replace(job_of(corpus, tmp_path / "out"), corpus=counted))
    assert (counted.passes, counted.taken) == (1, len(TEXTS))


def test_an_encoder_that_does_not_load_leaves_nothing_behind(corpus, tmp_path):
    def load():
        raise InputError("no weights")

    with pytest.raises(InputError, match="no weights"):
        encode_corpus(job_of(corpus, tmp_path / "out", load_encoder=load))
    assert [path.name for path in tmp_path.iterdir()] == [corpus.name]


@pytest.mark.parametrize(("lasts", "there"), [(0, []), (2, []), (3, ["out", "out.partial"])])
def test_the_output_appears_with_its_first_whole_file(corpus, tmp_path, lasts, there):
    with pytest.raises(ZeroDivisionError):
        encode_corpus(job_of(corpus, tmp_path / "out", WordEncoder(lasts)))
    assert sorted(path.name for path in tmp_path.iterdir() if path != corpus) == there


def test_changed_text_is_noticed_though_the_size_is_the_same(corpus, tmp_path):
    before = measure_corpus(open_corpus(str(corpus))).digest
    with pytest.raises(ZeroDivisionError):
        encode_corpus(job_of(corpus, tmp_path / "resumed", WordEncoder(4)))
    encode_corpus(job_of(corpus, tmp_path / "whole", WordEncoder()))
    write_corpus(corpus, [*TEXTS[:-1], TEXTS[-1].upper()])
    after = measure_corpus(open_corpus(str(corpus))).digest
    for output in ("resumed", "whole"):
        with pytest.raises(
            InputError, match=f"made with corpus digest '{before}', this command has '{after}'"
        ):
            encode_corpus(job_of(corpus, tmp_path / output))


def test_what_a_stop_after_the_manifest_left_is_removed(corpus, tmp_path):
    encode_corpus(job_of(corpus, tmp_path / "out", WordEncoder()))
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial" / "shard-0000-of-0001.json").write_text("{}")
    encode_corpus(job_of(corpus, tmp_path / "out"))
    assert not (tmp_path / "out.partial").exists()


def test_a_foreign_file_is_refused_before_anything_is_encoded(corpus, tmp_path):
    with pytest.raises(ZeroDivisionError):
        encode_corpus(job_of(corpus, tmp_path / "out", WordEncoder(4)))
    (tmp_path / "out" / "notes.txt").write_text("Anserini would index this")
    with pytest.raises(InputError, match="holds notes.txt, which is not ours"):
        encode_corpus(job_of(corpus, tmp_path / "out"))


def encoded_shards(
    corpus: Path, output: Path, *shard_ids: int, shard_num: int = 3, **changes: object
) -> None:
    for shard_id in shard_ids:
        encode_corpus(
            job_of(corpus, output, WordEncoder(), shard_id=shard_id, shard_num=shard_num, **changes)
        )


def gather(target: Path, *sources: Path) -> Path:
    """Copy what several machines made into one place, as a user would."""
    for source in sources:
        for ending in ("", ".partial"):
            shutil.copytree(
                source.with_name(source.name + ending),
                target.with_name(target.name + ending),
                dirs_exist_ok=True,
            )
    return target


def test_shards_of_several_machines_merge_to_what_one_makes(corpus, tmp_path):
    machines = [tmp_path / f"machine{number}" for number in range(3)]
    for number, output in enumerate(machines):
        encoded_shards(corpus, output, number)
    together = gather(tmp_path / "together", *machines)
    manifest = merge_shards(together)
    encoded_shards(corpus, tmp_path / "one", 0, 1, 2)
    assert (
        manifest
        == read_collection_manifest(tmp_path / "one")
        == read_collection_manifest(together)
        == merge_shards(together)
    )
    assert files_of(together) == files_of(tmp_path / "one")
    assert not (tmp_path / "together.partial").exists()


def test_merging_without_all_shards_names_the_missing_and_leaves_all_as_it_is(corpus, tmp_path):
    encoded_shards(corpus, tmp_path / "out", 0, 2)
    there = files_of(tmp_path / "out.partial")
    with pytest.raises(
        CheckError, match=f"1 of 3 shards of {tmp_path}/out are missing or not whole: shard-0001-of-0003"
    ):
        merge_shards(tmp_path / "out")
    assert files_of(tmp_path / "out.partial") == there
    assert not manifest_path(tmp_path / "out").exists()


def test_merging_shards_that_were_cut_in_different_ways_is_refused(corpus, tmp_path):
    encoded_shards(corpus, tmp_path / "a", 0)
    encoded_shards(corpus, tmp_path / "b", 1, shard_num=2)
    with pytest.raises(
        CheckError,
        match=r"shard-0001-of-0002.json was made with shard_num 2, .*shard-0000-of-0003.json with 3",
    ):
        merge_shards(gather(tmp_path / "together", tmp_path / "a", tmp_path / "b"))


def test_merging_shards_of_two_encoders_is_refused(corpus, tmp_path):
    encoded_shards(corpus, tmp_path / "a", 0, 1)
    encoded_shards(corpus, tmp_path / "b", 2, identity="words@2")
    with pytest.raises(CheckError, match="was made with encoder 'words@2', .* with 'words@1'"):
        merge_shards(gather(tmp_path / "together", tmp_path / "a", tmp_path / "b"))


def test_merging_what_was_damaged_on_its_way_is_refused(corpus, tmp_path):
    encoded_shards(corpus, tmp_path / "a", 0, 1)
    encoded_shards(corpus, tmp_path / "b", 2)
    together = gather(tmp_path / "together", tmp_path / "a", tmp_path / "b")
    damaged = together / "shard-0002-of-0003-00000.jsonl"
    damaged.write_bytes(damaged.read_bytes()[:-9])
    with pytest.raises(CheckError, match=f"{damaged} has changed since it was written"):
        merge_shards(together)


def test_a_docid_in_two_shards_is_refused_when_they_come_together(tmp_path):
    file = tmp_path / "corpus.jsonl"
    file.write_text(
        "".join(json.dumps({"id": docid, "contents": "text"}) + "\n" for docid in ("a", "b", "c", "a"))
    )
    encoded_shards(file, tmp_path / "out", 0, shard_num=2)
    with pytest.raises(InputError, match="docid 'a' is also at "):
        encoded_shards(file, tmp_path / "out", 1, shard_num=2)


def test_merging_nothing_is_an_error(tmp_path):
    with pytest.raises(
        InputError, match="has no manifest, and .*out.partial no shard: wanted the output of encode"
    ):
        merge_shards(tmp_path / "out")


def test_a_corpus_of_many_empty_shards_is_empty(tmp_path):
    file = write_corpus(tmp_path / "corpus.jsonl", [])
    encode_corpus(job_of(file, tmp_path / "out", shard_id=0, shard_num=2))
    with pytest.raises(InputError, match="is empty"):
        encode_corpus(job_of(file, tmp_path / "out", shard_id=1, shard_num=2))


def test_a_corpus_that_changes_while_it_is_read_makes_no_collection(corpus, tmp_path):
    class Changing(CountedCorpus):
        def documents(self):
            for document in super().documents():
                yield (
                    document._replace(text=document.text + " more")
                    if self.passes == 2 and document.docid == "d9"
                    else document
                )

    changing = dataclasses.replace(
        job_of(corpus, tmp_path / "out", WordEncoder()), corpus=Changing(open_corpus(str(corpus)))
    )
    with pytest.raises(
        CheckError, match="changed while it was read: remove .*out and .*out.partial, and encode again"
    ):
        encode_corpus(changing)
    assert not manifest_path(tmp_path / "out").exists()
