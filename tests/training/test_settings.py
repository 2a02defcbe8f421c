"""Training configurations: what is shipped parses and says what the paper says; what is wrong is named."""

import dataclasses
import json
import tomllib
from pathlib import Path

import pytest

from csplade_pyserini.cards import EncoderCard
from csplade_pyserini.errors import InputError
from csplade_pyserini.training.settings import (
    PHASES,
    AdaptSettings,
    ContrastSettings,
    MergeSettings,
    as_table,
    read_settings,
)

PRESETS = sorted((Path(__file__).parents[2] / "run_scripts" / "train").glob("*.toml"))
SECTIONS = [
    (preset, section)
    for preset in PRESETS
    for section in tomllib.loads(preset.read_text())
    if section != "card"
]

LLAMA_1B, LLAMA_8B = "meta-llama/Llama-3.2-1B", "meta-llama/Llama-3.1-8B"
TABLE_3 = {
    LLAMA_1B: {
        "learning_rate": 5e-5,
        "scheduler": "cosine",
        "epochs": 3,
        "batch_size": 32,
        "lora_rank": 64,
        "query_regulariser": 0.003,
        "document_regulariser": 0.003,
    },
    LLAMA_8B: {
        "learning_rate": 1e-4,
        "scheduler": "cosine",
        "epochs": 1,
        "batch_size": 32,
        "lora_rank": 16,
        "query_regulariser": 0.03,
        "document_regulariser": 0.03,
    },
}
"""Hyper-parameters of contrastive training by backbone, the same for CSPLADE, Echo and Bi (Table 3)."""
SECTION_4_3 = {"negatives": 15, "warmup_ratio": 0.05}
"""arXiv 2504.10816, 4.3 and Table 3's caption: hard negatives of a query; 5 % of the steps are warm-up."""
ADAPTATION = {
    "steps": 10_000,
    "warmup_steps": 1_000,
    "batch_size": 32,
    "sequence_length": 2048,
    "scheduler": "cosine",
    "relu_weight": 1.0,
}
"""arXiv 2504.10816, 3.2 (lambda_ReLU) and 4.3."""
ENCODERS = {
    "csplade-1b": (LLAMA_1B, "causal", False),
    "csplade-echo-1b": (LLAMA_1B, "causal", True),
    "csplade-bi-1b": (LLAMA_1B, "bidirectional", False),
    "csplade-8b": (LLAMA_8B, "causal", False),
    "csplade-echo-8b": (LLAMA_8B, "causal", True),
    "csplade-bi-8b": (LLAMA_8B, "bidirectional", False),
}
"""arXiv 2504.10816, 3.2 and 4.3: backbone, attention of the contrastive phase, echo."""

SMALL = {
    "card": {"name": "a"},
    "adapt": {"output": "o", "data": ["texts.jsonl"], "steps": 1, "learning_rate": 1e-4},
    "contrast": {
        "output": "o", "data": ["examples.jsonl"], "steps": 1, "learning_rate": 1e-4,
        "query_regulariser": 0.0, "document_regulariser": 0.0,
        "trainer": {"save_steps": 10, "logging_steps": 5},
    },
    "merge": {"start": "s", "output": "o"},
}  # fmt: skip
"""The least that each phase takes."""


def preset(name):
    [file] = [file for file in PRESETS if file.stem == name]
    return file


def to_toml(tables):
    """Tables of plain values and one level of tables among them: JSON's values are TOML's."""
    lines = []
    for name, table in tables.items():
        inner = {key: value for key, value in table.items() if isinstance(value, dict)}
        lines += [
            f"[{name}]",
            *(f"{key} = {json.dumps(value)}" for key, value in table.items() if key not in inner),
        ]
        for key, values in inner.items():
            lines += [f"[{name}.{key}]", *(f"{k} = {json.dumps(v)}" for k, v in values.items())]
    return "\n".join(lines) + "\n"


def write(folder, *, without=(), **sections):
    """SMALL as a file, with changes by section, without those of `without`."""
    tables = {
        name: SMALL.get(name, {}) | sections.get(name, {}) for name in SMALL | sections if name not in without
    }
    file = folder / "encoder.toml"
    file.write_text(to_toml(tables), encoding="utf-8")
    return file


def error_of(file, phase, **options):
    with pytest.raises(InputError) as error:
        read_settings(file, phase, **options)
    return str(error.value)


@pytest.mark.parametrize(
    ("file", "section"), SECTIONS, ids=[f"{file.stem} {section}" for file, section in SECTIONS]
)
def test_every_section_of_every_preset_parses(file, section):
    phase = section.partition("-")[0]
    card, settings = read_settings(file, phase, section=section)
    assert card.name == file.stem
    assert type(settings) is PHASES[phase]


@pytest.mark.parametrize("file", PRESETS, ids=lambda file: file.stem)
def test_every_phase_of_a_preset_but_the_first_starts_from_what_one_before_it_wrote(file):
    tables = tomllib.loads(file.read_text())
    del tables["card"]
    outputs = []
    for number, table in enumerate(tables.values()):
        assert number == 0 or table["start"] in outputs
        outputs.append(table["output"])
    assert len(set(outputs)) == len(outputs)
    assert list(tables)[-1] == "merge"


def test_every_encoder_of_the_paper_has_a_preset():
    assert ENCODERS.keys() <= {file.stem for file in PRESETS}


@pytest.mark.parametrize("name", ENCODERS)
def test_presets_have_the_papers_numbers(name):
    base, attention, echo = ENCODERS[name]
    card, contrast = read_settings(preset(name), "contrast")
    _, adapt = read_settings(preset(name), "adapt")
    _, merge = read_settings(preset(name), "merge")
    assert (card.base, card.attention, card.echo) == (base, attention, echo)
    assert {key: getattr(contrast, key) for key in TABLE_3[base] | SECTION_4_3} == TABLE_3[base] | SECTION_4_3
    assert {key: getattr(adapt, key) for key in ADAPTATION} == ADAPTATION
    assert contrast.steps == 0, "steps would win over the paper's epochs"
    assert merge.dtype == "bfloat16"


@pytest.mark.parametrize("name", ENCODERS)
def test_presets_of_the_paper_have_nothing_that_is_beyond_it(name):
    _, contrast = read_settings(preset(name), "contrast")
    off = {
        "contrast_weight": 1.0,
        "kl_weight": 0.0,
        "margin_weight": 0.0,
        "vector_weight": 0.0,
        "window_steps": 0,
        "temperature": 1.0,
    }
    assert {key: getattr(contrast, key) for key in off} == off


def test_a_file_gives_the_card_and_the_settings_of_the_phase_asked_for(tmp_path):
    file = write(tmp_path, card={"echo": True})
    assert read_settings(file, "adapt") == (
        EncoderCard(name="a", echo=True),
        AdaptSettings(output="o", data=("texts.jsonl",), steps=1, learning_rate=1e-4),
    )
    assert read_settings(file, "merge")[1] == MergeSettings(start="s", output="o")
    contrast = read_settings(file, "contrast")[1]
    assert type(contrast) is ContrastSettings
    assert contrast.trainer == {"save_steps": 10, "logging_steps": 5}


def test_a_second_section_of_a_phase_is_read_by_its_name(tmp_path):
    file = write(tmp_path, **{"contrast-hard": SMALL["contrast"] | {"steps": 77}})
    assert read_settings(file, "contrast", section="contrast-hard")[1].steps == 77
    assert read_settings(file, "contrast")[1].steps == 1
    assert error_of(file, "contrast", section="contrast-soft").startswith(
        f"{file}: no table [contrast-soft]; "
    )


def test_settings_as_a_table_are_what_json_keeps(tmp_path):
    settings = read_settings(write(tmp_path), "contrast")[1]
    table = as_table(settings)
    assert table.keys() == {field.name for field in dataclasses.fields(ContrastSettings)}
    assert json.loads(json.dumps(table)) == table | {"data": ["examples.jsonl"], "lora_targets": []}


@pytest.mark.parametrize(("phase", "cls"), PHASES.items())
def test_an_unknown_key_is_an_error_that_names_file_table_and_key_and_lists_the_known_ones(
    tmp_path, phase, cls
):
    file = write(tmp_path, **{phase: {"learning_rat": 1e-4}})
    known = ", ".join(sorted(field.name for field in dataclasses.fields(cls)))
    assert error_of(file, phase) == f"{file} [{phase}]: unknown key 'learning_rat'; known: {known}"


def test_a_key_of_another_phase_is_unknown(tmp_path):
    assert "[adapt]: unknown key 'negatives'" in error_of(write(tmp_path, adapt={"negatives": 3}), "adapt")
    assert "[contrast]: unknown key 'relu_weight'" in error_of(
        write(tmp_path, contrast={"relu_weight": 1.0}), "contrast"
    )


@pytest.mark.parametrize(
    ("phase", "key"),
    [
        ("adapt", "output"),
        ("adapt", "data"),
        ("adapt", "learning_rate"),
        ("contrast", "query_regulariser"),
        ("contrast", "document_regulariser"),
        ("merge", "start"),
        ("merge", "output"),
    ],
)
def test_a_missing_key_is_an_error_that_names_file_table_and_key(tmp_path, phase, key):
    tables = SMALL | {phase: {k: v for k, v in SMALL[phase].items() if k != key}}
    file = tmp_path / "encoder.toml"
    file.write_text(to_toml(tables))
    assert error_of(file, phase) == f"{file} [{phase}]: the key {key!r} is missing"


@pytest.mark.parametrize(
    ("phase", "key", "value", "wanted"),
    [
        ("adapt", "steps", 1.0, "int, got float"),
        ("adapt", "steps", True, "int, got bool"),
        ("adapt", "learning_rate", "1e-4", "float, got str"),
        ("adapt", "learning_rate", True, "float, got bool"),
        ("adapt", "data", "texts.jsonl", "a list of strings"),
        ("adapt", "data", ["texts.jsonl", 1], "a list of strings"),
        ("adapt", "output", 1, "str, got int"),
        ("adapt", "dtype", "bf16", "one of 'float32', 'bfloat16', 'float16'"),
        ("adapt", "gradient_checkpointing", 1, "bool, got int"),
        ("contrast", "trainer", 5, "a table"),
        ("contrast", "trainer", [5], "a table"),
        ("contrast", "lora_targets", "q_proj", "a list of strings"),
        ("contrast", "stop_when_collapsed", "no", "bool, got str"),
        ("merge", "keep_adapter", 1, "bool, got int"),
        ("merge", "dtype", "int8", "one of 'float32', 'bfloat16', 'float16'"),
    ],
)
def test_a_value_of_the_wrong_type_is_an_error_that_names_file_table_key_and_value(
    tmp_path, phase, key, value, wanted
):
    file = write(tmp_path, **{phase: {key: value}})
    assert error_of(file, phase) == f"{file} [{phase}]: {key} is {value!r}; wanted {wanted}"


@pytest.mark.parametrize(
    ("phase", "key", "value", "wanted"),
    [
        *((phase, "learning_rate", 0.0, "a number above 0") for phase in ("adapt", "contrast")),
        ("adapt", "learning_rate", -1e-5, "a number above 0"),
        ("adapt", "batch_size", 0, "at least 1"),
        ("adapt", "device_batch_size", 0, "at least 1"),
        ("adapt", "steps", -1, "at least 0"),
        ("adapt", "warmup_steps", -1, "at least 0"),
        ("adapt", "relu_weight", -0.5, "at least 0"),
        ("adapt", "sequence_length", 1, "at least 2"),
        ("adapt", "lora_rank", -8, "at least 0"),
        ("adapt", "lora_alpha", -8, "at least 0"),
        ("contrast", "temperature", 0.0, "a number above 0"),
        ("contrast", "epochs", -1.0, "at least 0"),
        ("contrast", "warmup_ratio", -0.1, "at least 0"),
        ("contrast", "negatives", -1, "at least 0"),
        ("contrast", "query_max_length", -1, "at least 0"),
        ("contrast", "document_max_length", -1, "at least 0"),
        ("contrast", "query_regulariser", -0.1, "at least 0"),
        ("contrast", "document_regulariser", -0.1, "at least 0"),
        ("contrast", "ramp_steps", -1, "at least 0"),
        ("contrast", "window_steps", -1, "at least 0"),
        ("contrast", "query_window", 0, "at least 1"),
        ("contrast", "document_window", 0, "at least 1"),
    ],
)
def test_a_value_out_of_range_is_an_error_that_names_file_table_and_key(tmp_path, phase, key, value, wanted):
    file = write(tmp_path, **{phase: {key: value}})
    assert error_of(file, phase) == f"{file} [{phase}]: {key} is {value}; wanted {wanted}"
    assert (
        error_of(write(tmp_path), phase, changes=[f"{phase}.{key}={value}"])
        == f"{file} [{phase}]: {key} is {value}; wanted {wanted}"
    )


def test_the_lowest_values_allowed_are_allowed(tmp_path):
    least = {
        "batch_size": 1,
        "device_batch_size": 1,
        "warmup_steps": 0,
        "relu_weight": 0.0,
        "sequence_length": 2,
        "lora_rank": 0,
    }
    settings = read_settings(write(tmp_path, adapt=least), "adapt")[1]
    assert {key: getattr(settings, key) for key in least} == least


@pytest.mark.parametrize(
    ("batch_size", "device_batch_size", "fits"),
    [(32, 8, True), (8, 8, True), (8, 16, False), (32, 12, False)],
)
def test_the_global_batch_is_a_multiple_of_a_devices(tmp_path, batch_size, device_batch_size, fits):
    file = write(tmp_path, adapt={"batch_size": batch_size, "device_batch_size": device_batch_size})
    if fits:
        assert read_settings(file, "adapt")[1].batch_size == batch_size
    else:
        assert error_of(file, "adapt") == (
            f"{file} [adapt]: batch_size is {batch_size}, "
            f"no multiple of device_batch_size {device_batch_size}"
        )


def test_a_phase_without_data_or_an_end_is_an_error(tmp_path):
    file = write(tmp_path, adapt={"data": []})
    assert error_of(file, "adapt") == f"{file} [adapt]: data is empty; wanted files or ir_datasets ids"
    file = write(tmp_path, adapt={"steps": 0}, contrast={"steps": 0})
    assert error_of(file, "adapt") == f"{file} [adapt]: wanted steps above 0"
    assert error_of(file, "contrast") == f"{file} [contrast]: wanted steps or epochs above 0"
    assert read_settings(file, "contrast", changes=["contrast.epochs=0.5"])[1].epochs == 0.5


@pytest.mark.parametrize("known", [{}, {"teacher_queries": "q"}, {"teacher_documents": "d"}])
def test_vector_weight_needs_the_vectors_of_both_sides(tmp_path, known):
    file = write(tmp_path, contrast={"vector_weight": 0.1} | known)
    assert (
        error_of(file, "contrast")
        == f"{file} [contrast]: vector_weight is 0.1, which needs teacher_queries and teacher_documents"
    )
    both = ['contrast.teacher_queries="q"', 'contrast.teacher_documents="d"']
    assert read_settings(file, "contrast", changes=both)[1].vector_weight == 0.1


@pytest.mark.parametrize("missing", ["card", "adapt"])
def test_a_missing_table_is_an_error_that_lists_those_there_are(tmp_path, missing):
    file = write(tmp_path, without=[missing])
    there = ", ".join(f"[{name}]" for name in SMALL if name != missing)
    assert error_of(file, "adapt") == f"{file}: no table [{missing}]; it has {there}"


def test_an_empty_file_has_no_table(tmp_path):
    file = tmp_path / "empty.toml"
    file.write_text("")
    assert error_of(file, "adapt") == f"{file}: no table [card]; it has none"


def test_a_wrong_card_is_an_error_that_names_file_and_table(tmp_path):
    file = write(tmp_path, card={"attention": "full"})
    assert (
        error_of(file, "merge")
        == f"{file} [card]: attention is 'full'; wanted one of 'causal', 'bidirectional'"
    )
    file = write(tmp_path, card={"layers": -1})
    assert error_of(file, "merge") == f"{file} [card]: layers is -1; wanted at least 0"


def test_what_is_no_toml_or_not_there_is_an_error_that_names_the_file(tmp_path):
    file = tmp_path / "encoder.toml"
    assert error_of(file, "adapt").startswith(f"cannot read the configuration {file}: ")
    file.write_text("[card\n")
    assert error_of(file, "adapt").startswith(f"{file} is not TOML: ")


def test_a_change_wins_over_the_file_and_leaves_the_rest(tmp_path):
    file = write(tmp_path)
    card, settings = read_settings(
        file,
        "contrast",
        changes=[
            "contrast.steps=7",
            'contrast.data = ["x", "y"]',
            "card.echo=true",
            "adapt.steps=9",
            "contrast.steps=8",
        ],
    )
    before, unchanged = read_settings(file, "contrast")
    assert card == dataclasses.replace(before, echo=True)
    assert settings == dataclasses.replace(unchanged, steps=8, data=("x", "y"))


def test_a_change_inside_a_nested_table_leaves_its_other_keys(tmp_path):
    file = write(tmp_path)
    settings = read_settings(
        file, "contrast", changes=["contrast.trainer.save_steps=3", 'contrast.trainer.report_to="none"']
    )[1]
    assert settings.trainer == {"save_steps": 3, "logging_steps": 5, "report_to": "none"}
    settings = read_settings(file, "contrast", changes=["contrast.trainer={seed = 3}"])[1]
    assert settings.trainer == {"save_steps": 10, "logging_steps": 5, "seed": 3}
    assert read_settings(file, "adapt", changes=["adapt.trainer.bf16=true"])[1].trainer == {"bf16": True}


def test_a_change_may_make_a_section_of_its_own(tmp_path):
    file = write(tmp_path, without=["merge"])
    settings = read_settings(
        file, "merge", changes=['merge.start="s"', 'merge.output="o"', "merge.keep_adapter=true"]
    )[1]
    assert settings == MergeSettings(start="s", output="o", keep_adapter=True)


@pytest.mark.parametrize(
    "change", ["steps=7", "contrast.steps", "contrast.=7", ".steps=7", "=", "", "contrast"]
)
def test_a_change_that_is_no_assignment_is_an_error_that_shows_what_is_wanted(tmp_path, change):
    error = error_of(write(tmp_path), "contrast", changes=["contrast.steps=7", change])
    assert error == f"--set {change!r}; wanted SECTION.KEY=VALUE, such as contrast.learning_rate=1e-4"


@pytest.mark.parametrize(
    "change", ["contrast.start=runs/x", "contrast.steps=", "contrast.data=[", "contrast.two words=1"]
)
def test_a_change_whose_value_is_no_toml_is_an_error_that_shows_it(tmp_path, change):
    error = error_of(write(tmp_path), "contrast", changes=[change])
    assert error.startswith(f"--set {change!r}: the value is not TOML (")
    assert error.endswith("); texts need quotes")


def test_a_change_to_a_key_that_is_not_there_is_an_error_that_names_the_table(tmp_path):
    file = write(tmp_path)
    assert error_of(file, "contrast", changes=["contrast.step=7"]).startswith(
        f"{file} [contrast]: unknown key 'step'; known: "
    )


@pytest.mark.parametrize("change", ["contrst.steps=7", " contrast.steps=7", "cards.name='b'"])
def test_a_change_to_a_table_that_no_configuration_has_is_an_error(tmp_path, change):
    message = error_of(write(tmp_path), "contrast", changes=[change])
    assert "no configuration has a table" in message
    assert "card, adapt, contrast, merge" in message


@pytest.mark.parametrize(
    "table", ["contrast = 5\n[card]\nname = 'a'\n", "[card]\nname = 'a'\n[[contrast]]\nsteps = 1\n"]
)
def test_a_change_inside_what_is_no_table_is_an_error(tmp_path, table):
    (tmp_path / "c.toml").write_text(table)
    assert "contrast is no table" in error_of(tmp_path / "c.toml", "contrast", changes=["contrast.steps=7"])


@pytest.mark.parametrize("key", ["query_regulariser", "temperature", "learning_rate", "kl_weight"])
@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_a_number_that_is_not_finite_is_an_error(tmp_path, key, value):
    assert f"{key} is {value}; wanted a finite number" in error_of(
        write(tmp_path), "contrast", changes=[f"contrast.{key}={value}"]
    )


@pytest.mark.parametrize("key", ["kl_weight", "margin_weight"])
def test_distilling_scores_needs_negatives(tmp_path, key):
    changes = [f"contrast.{key}=1.0", "contrast.negatives=0"]
    assert f"{key} is 1.0, which needs negatives" in error_of(write(tmp_path), "contrast", changes=changes)
