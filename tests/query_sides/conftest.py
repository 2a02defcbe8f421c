"""Checkpoint folders whose queries are not made by their model."""

import shutil
from pathlib import Path

import pytest
from lookup_tables import table_for
from tiny_models import tiny_model

from csplade_pyserini.cards import EncoderCard, write_card
from csplade_pyserini.query_sides.table import write_table


@pytest.fixture
def documents_folder(checkpoint_folder, tmp_path) -> Path:
    """A checkpoint folder that the test may change."""
    return Path(shutil.copytree(checkpoint_folder, tmp_path / "documents"))


@pytest.fixture
def lookup_folder(documents_folder, byte_tokenizer) -> Path:
    """The same with a table beside its weights."""
    write_table(table_for(documents_folder, byte_tokenizer), documents_folder / "lookup.safetensors")
    return documents_folder


@pytest.fixture
def small_folder(tmp_path, byte_tokenizer) -> Path:
    """A smaller encoder over the same vocabulary."""
    folder = tmp_path / "small"
    tiny_model("llama", num_hidden_layers=1).save_pretrained(folder)
    byte_tokenizer.save_pretrained(folder)
    write_card(EncoderCard(name="small", attention="bidirectional", query_top_terms=9), folder / "card.toml")
    return folder
