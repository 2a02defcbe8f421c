"""The train verb on tiny models: its phases, exact resumption, a dying ReLU, and a folder to search with."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from programs import new_python, run_python
from tiny_models import TEXTS
from tiny_training import configuration, log_of, train

from csplade_pyserini.cards import find_checkpoint
from csplade_pyserini.errors import InputError
from csplade_pyserini.model import load_encoder
from csplade_pyserini.training import runs


def test_the_phases_follow_each_other_and_what_they_leave_is_searched_with(tmp_path, checkpoint_folder):
    file = configuration(tmp_path, checkpoint_folder)
    for python, words in (
        (run_python, ["adapt"]),
        (new_python, ["contrast", "--set", f'contrast.start="{tmp_path}/adapted"']),
        (run_python, ["merge"]),
    ):
        result = python("-m", "csplade_pyserini.train", *words, "--config", file, cwd=tmp_path)
        assert result.returncode == 0, result.stderr[-3000:]
        assert result.stdout == "", "stdout is for data"
        assert "search with: --encoder" in result.stderr
    assert "query_terms" in log_of(tmp_path / "contrasted")[0]
    assert {"adapted", "contrasted", "merged"} == {
        path.name for path in tmp_path.iterdir() if path.is_dir()
    }, "no work in progress stays"
    topics = tmp_path / "topics.tsv"
    topics.write_text("1\tchest pain\n")
    words = ("--encoder", tmp_path / "merged", "--topics", topics, "--output", tmp_path / "queries.jsonl")
    result = run_python("-m", "csplade_pyserini.encode_queries", *words)
    assert result.returncode == 0, result.stderr[-3000:]
    assert json.loads((tmp_path / "queries.jsonl").read_text())["vector"]


@pytest.fixture(scope="module")
def contrasted(tmp_path_factory, checkpoint_folder) -> Path:
    """The folder of a configuration whose contrastive phase is done."""
    folder = tmp_path_factory.mktemp("contrasted")
    assert train("contrast", configuration(folder, checkpoint_folder)) == 0
    return folder


def test_texts_that_were_too_short_are_read_again(tmp_path, checkpoint_folder):
    file = configuration(tmp_path, checkpoint_folder)
    texts = tmp_path / "texts.jsonl"
    enough = texts.read_text()
    texts.write_text('{"id": "1", "text": "short"}\n')
    with pytest.raises(InputError, match="wanted at least one sequence of 16"):
        train("adapt", file)
    texts.write_text(enough)
    assert train("adapt", file) == 0


def test_language_modelling_alone_logs_no_relu_loss(tmp_path, checkpoint_folder):
    assert train("adapt", configuration(tmp_path, checkpoint_folder), "adapt.relu_weight=0.0") == 0
    assert all("clm" in line and "relu" not in line for line in log_of(tmp_path / "adapted"))


def test_training_moves_the_vectors(contrasted, checkpoint_folder):
    before, after = (
        load_encoder(str(place)).weights(TEXTS) for place in (checkpoint_folder, contrasted / "contrasted")
    )
    assert not torch.allclose(before, after, atol=1e-3)


def test_merged_weights_and_the_kept_adapter_give_the_checkpoints_vectors(contrasted):
    assert train("merge", contrasted / "configuration.toml") == 0
    kept = contrasted / "kept"
    assert (
        train("merge", contrasted / "configuration.toml", "merge.keep_adapter=true", f'merge.output="{kept}"')
        == 0
    )
    assert (kept / "adapter_model.safetensors").is_file()
    assert not (contrasted / "merged" / "adapter_model.safetensors").exists()
    config = json.loads((kept / "adapter_config.json").read_text(encoding="utf-8"))
    assert config["base_model_name_or_path"] == find_checkpoint(str(kept)).card.base
    wanted = load_encoder(str(contrasted / "contrasted")).weights(TEXTS)
    for place in ("merged", "kept"):
        torch.testing.assert_close(
            load_encoder(str(contrasted / place)).weights(TEXTS), wanted, rtol=1e-4, atol=1e-5
        )


def test_merging_into_what_is_there_is_refused(contrasted):
    (contrasted / "taken").mkdir(exist_ok=True)
    (contrasted / "taken" / "file").touch()
    with pytest.raises(InputError, match="taken exists: choose another output"):
        train("merge", contrasted / "configuration.toml", f'merge.output="{contrasted / "taken"}"')


@pytest.mark.parametrize("step", [2, 4])
def test_a_run_resumed_from_any_checkpoint_has_the_same_losses_and_weights(
    contrasted, tmp_path, checkpoint_folder, step
):
    file = configuration(
        tmp_path, checkpoint_folder, trainer="logging_steps = 1\nsave_steps = 2\nsave_total_limit = 9"
    )
    interrupted = f'contrast.data=["{contrasted}/examples.jsonl"]'
    _stop_before(tmp_path, file, interrupted, step)
    assert train("contrast", file, interrupted) == 0
    assert log_of(tmp_path / "contrasted") == log_of(contrasted / "contrasted")
    was, now = (load_encoder(str(folder / "contrasted")).weights(TEXTS) for folder in (contrasted, tmp_path))
    torch.testing.assert_close(now, was, rtol=0, atol=0)


def _stop_before(folder: Path, file: Path, change: str, step: int) -> None:
    """Leave a run as it is when it is killed after the checkpoint of `step`."""
    running = folder / "contrasted.training"
    kept = folder / "kept"

    finish = runs.Run.finish
    try:
        runs.Run.finish = lambda run, *rest: (shutil.copytree(running, kept), finish(run, *rest))[1]
        assert train("contrast", file, change) == 0
    finally:
        runs.Run.finish = finish
    shutil.rmtree(folder / "contrasted")
    kept.rename(running)
    checkpoints = {int(path.name.rpartition("-")[2]): path for path in running.glob("checkpoint-*")}
    assert set(checkpoints) == {2, 4, 6}
    for later in (path for at, path in checkpoints.items() if at > step):
        shutil.rmtree(later)


def test_a_run_that_is_done_is_not_done_again(contrasted, capsys):
    before = (contrasted / "contrasted" / "training.json").stat().st_mtime_ns
    assert train("contrast", contrasted / "configuration.toml") == 0
    assert "is done already" in capsys.readouterr().err
    assert (contrasted / "contrasted" / "training.json").stat().st_mtime_ns == before


def test_changed_settings_are_refused_with_both_values(contrasted):
    words = ("contrast", "--config", contrasted / "configuration.toml", "--set", "contrast.learning_rate=0.5")
    result = run_python("-m", "csplade_pyserini.train", *words)
    assert result.returncode == 2
    assert "learning_rate was 0.001, now it is 0.5: choose another output" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_record_older_than_a_setting_was_made_with_its_default(contrasted, capsys):
    record = contrasted / "contrasted" / "training.json"
    before = record.read_text(encoding="utf-8")
    older = json.loads(before)
    del older["settings"]["sampled_terms"]
    record.write_text(json.dumps(older), encoding="utf-8")
    assert train("contrast", contrasted / "configuration.toml") == 0
    assert "is done already" in capsys.readouterr().err
    del older["settings"]["learning_rate"]
    record.write_text(json.dumps(older), encoding="utf-8")
    with pytest.raises(InputError, match="learning_rate was None, now it is 0.001"):
        train("contrast", contrasted / "configuration.toml")
    record.write_text(before, encoding="utf-8")


COLLAPSE = (
    "contrast.learning_rate=1.0",
    "contrast.document_regulariser=1000.0",
    "contrast.ramp_steps=0",
    "contrast.lora_rank=0",
)


def test_a_dying_relu_stops_the_run_with_the_cures_and_exit_code_1(tmp_path, checkpoint_folder):
    file = configuration(tmp_path, checkpoint_folder)
    words = [word for change in (*COLLAPSE, "contrast.steps=30") for word in ("--set", change)]
    result = run_python("-m", "csplade_pyserini.train", "contrast", "--config", file, *words)
    assert result.returncode == 1, result.stderr[-3000:]
    assert "collapsed at step" in result.stderr
    assert "adaptation phase first" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "contrasted").exists()


def test_a_collapsed_run_goes_on_where_told_to(tmp_path, checkpoint_folder):
    file = configuration(tmp_path, checkpoint_folder)
    assert train("contrast", file, *COLLAPSE, "contrast.steps=12", "contrast.stop_when_collapsed=false") == 0
    assert max(line["empty_documents"] for line in log_of(tmp_path / "contrasted")) > 0.5


def test_accumulated_batches_and_checkpointed_gradients_change_no_loss_of_the_adaptation(
    tmp_path, checkpoint_folder
):
    logs = []
    for number, changes in enumerate(
        [(), ("adapt.device_batch_size=2",), ("adapt.gradient_checkpointing=true",)]
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        assert train("adapt", configuration(folder, checkpoint_folder), *changes) == 0
        logs.append([(line["clm"], line["relu"]) for line in log_of(folder / "adapted")])
    assert len(logs[0]) == 4
    for log in logs[1:]:
        torch.testing.assert_close(torch.tensor(log), torch.tensor(logs[0]), rtol=1e-3, atol=1e-3)


def test_adaptation_lowers_both_losses(tmp_path, checkpoint_folder):
    file = configuration(tmp_path, checkpoint_folder)
    assert train("adapt", file, "adapt.steps=60", "adapt.learning_rate=3e-3") == 0
    first, last = log_of(tmp_path / "adapted")[0], log_of(tmp_path / "adapted")[-1]
    assert last["clm"] < first["clm"] - 0.5
    assert last["relu"] < first["relu"]


@pytest.mark.parametrize("echo", [False, True])
@pytest.mark.parametrize("attention", ["causal", "bidirectional"])
def test_every_way_of_seeing_right_context_trains(tmp_path, checkpoint_folder, attention, echo):
    file = configuration(tmp_path, checkpoint_folder)
    changes = (
        f'card.attention="{attention}"',
        f"card.echo={str(echo).lower()}",
        "contrast.steps=2",
        "contrast.gradient_checkpointing=true",
    )
    assert train("contrast", file, *changes) == 0
    card = (tmp_path / "contrasted" / "card.toml").read_text()
    assert ("echo = true" in card) == echo
    assert ('attention = "bidirectional"' in card) == (attention == "bidirectional")


def test_bad_examples_end_the_command_before_any_training(tmp_path, checkpoint_folder):
    file = configuration(tmp_path, checkpoint_folder)
    (tmp_path / "examples.jsonl").write_text('{"query": "a", "positive_passages": []}\n')
    result = run_python("-m", "csplade_pyserini.train", "contrast", "--config", file)
    assert result.returncode == 2
    assert "examples.jsonl:1: positive_passages is []" in result.stderr
    assert "Traceback" not in result.stderr
