"""Places that the verbs write to: a link, an empty folder, the working directory."""

import json
from pathlib import Path

import pytest
from programs import run_python

from csplade_pyserini.collections.manifests import encoder_of, manifest_path
from csplade_pyserini.collections.vectors import collection_files, read_records

TEXTS = ("heart attack", "chest pain", "bananas")


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    file = tmp_path / "corpus.jsonl"
    lines = [json.dumps({"id": str(number), "contents": text}) for number, text in enumerate(TEXTS)]
    file.write_text("\n".join(lines))
    return file


def run_verb(verb: str, *words: object, cwd: Path) -> None:
    done = run_python("-m", f"csplade_pyserini.{verb}", *words, cwd=cwd)
    assert done.returncode == 0, done.stderr


@pytest.mark.jvm
def test_a_link_to_an_empty_folder_and_an_empty_folder_are_good_outputs(corpus, tmp_path):
    places = {}
    for name in ("vectors", "index"):
        places[name] = tmp_path / "elsewhere" / name
        places[name].mkdir(parents=True)
        (tmp_path / name).symlink_to(places[name])
    run_verb("encode", "--encoder", "csplade-tiny", "--corpus", corpus, "--output", "vectors", cwd=tmp_path)
    run_verb("index", "--input", "vectors", "--index", "index", cwd=tmp_path)
    (tmp_path / "empty").mkdir()
    run_verb("index", "--input", places["vectors"], "--index", "empty", cwd=tmp_path)
    for name, place in places.items():
        assert (tmp_path / name).is_symlink()
        assert encoder_of(tmp_path / name) == encoder_of(place) != ""
    counts = [json.loads(manifest_path(tmp_path / name).read_text()) for name in ("index", "empty")]
    assert [count["documents"] for count in counts] == [len(TEXTS)] * 2
    assert counts[0]["postings"] == counts[1]["postings"] > 0


def test_the_working_directory_is_a_good_output(corpus, tmp_path):
    here = tmp_path / "here"
    here.mkdir()
    run_verb("encode", "--encoder", "csplade-tiny", "--corpus", corpus, "--output", ".", cwd=here)
    assert encoder_of(here)
    records = list(read_records(collection_files(here)))
    assert [record.docid for record in records] == ["0", "1", "2"]
