"""Hard negatives by BM25, on NFCorpus's dev split."""

import csv
import io
import json
import shutil
import zipfile

import pytest
from programs import run_python

pytestmark = [pytest.mark.jvm, pytest.mark.data]
NAME = "ir_datasets:beir/nfcorpus/dev"


def test_an_ir_datasets_id_trains_with_mined_negatives(data_folder, checkpoint_folder, tmp_path):
    home = tmp_path / "ir_datasets"
    shutil.copytree(data_folder / "ir_datasets", home)
    config = tmp_path / "c.toml"
    config.write_text(
        '[card]\nname = "a"\ndocument_max_length = 16\n[contrast]\n'
        f'start = "{checkpoint_folder}"\noutput = "{tmp_path}/out"\ndata = ["{NAME}"]\n'
        "steps = 1\nlearning_rate = 1e-4\nbatch_size = 4\ndevice_batch_size = 4\nnegatives = 3\n"
        "query_regulariser = 0\ndocument_regulariser = 0\n[contrast.trainer]\nuse_cpu = true\n"
    )
    result = run_python(
        "-m", "csplade_pyserini.train", "contrast", "--config", config, IR_DATASETS_HOME=str(home)
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert (tmp_path / "out" / "card.toml").is_file()

    qrels, topics = read_archive(data_folder / "ir_datasets" / "beir" / "nfcorpus" / "source.zip")
    [file] = (tmp_path / "out.mined").glob("*.jsonl")
    examples = {
        record["query_id"]: record
        for record in map(json.loads, file.read_text(encoding="utf-8").splitlines())
    }
    left_out = len(qrels) - len(examples)
    assert 0 < left_out < len(qrels) / 8, (
        "topics whose words stand in no document: on 2026-11-24 there were 33 of 324"
    )
    assert f"{len(examples)} examples of {len(qrels)} judged topics; {left_out} have no" in result.stderr
    for qid, record in examples.items():
        relevant = {docid for docid, grade in qrels[qid].items() if grade > 0}
        assert record["query"] == topics[qid]
        assert {passage["docid"] for passage in record["positive_passages"]} == relevant
        negatives = [passage["docid"] for passage in record["negative_passages"]]
        assert 0 < len(negatives) <= 50
        assert len(set(negatives)) == len(negatives)
        assert not relevant & set(negatives)


def read_archive(archive) -> tuple[dict[str, dict[str, int]], dict[str, str]]:
    """Qrels of the dev split and topics, out of BEIR's archive."""
    with zipfile.ZipFile(archive) as files:
        topics = {
            record["_id"]: record["text"] for record in map(json.loads, files.open("nfcorpus/queries.jsonl"))
        }
        qrels: dict[str, dict[str, int]] = {}
        for row in csv.DictReader(io.TextIOWrapper(files.open("nfcorpus/qrels/dev.tsv")), delimiter="\t"):
            qrels.setdefault(row["query-id"], {})[row["corpus-id"]] = int(row["score"])
    return qrels, topics
