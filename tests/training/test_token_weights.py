"""Contrastive training of documents whose queries are looked up in a table."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from lookup_tables import table_for
from tiny_training import QUERIES, configuration, log_of, train

from csplade_pyserini import load_encoder
from csplade_pyserini.cards import find_checkpoint, read_card
from csplade_pyserini.errors import InputError
from csplade_pyserini.query_sides import AsymmetricEncoder
from csplade_pyserini.query_sides.table import read_table, write_table
from csplade_pyserini.training import losses
from csplade_pyserini.training.token_weights import TokenWeights

LOOKUP = ('contrast.query_side="lookup"', "contrast.query_regulariser=0")
TABLE = "lookup.safetensors"


@pytest.fixture
def weights(checkpoint_folder, byte_tokenizer) -> TokenWeights:
    return TokenWeights(table_for(checkpoint_folder, byte_tokenizer), 512, trained=True)


def test_weights_of_a_batch_are_those_of_its_tokens_each_once(weights):
    ids = torch.tensor([[7, 8, 7, 0], [9, 0, 0, 0]])
    mask = torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0]])
    found = weights(ids, mask)
    wanted = torch.zeros(2, 512)
    wanted[0, [7, 8]] = weights.start[[7, 8]]
    wanted[1, 9] = weights.start[9]
    torch.testing.assert_close(found, wanted)
    assert found[:, 0].tolist() == [0, 0]


def test_a_trained_table_learns_and_a_fixed_one_does_not(checkpoint_folder, byte_tokenizer):
    table = table_for(checkpoint_folder, byte_tokenizer)
    ids = torch.tensor([[int(np.argmax(table.weights))]])
    for trained in (True, False):
        found = TokenWeights(table, 512, trained=trained)(ids, torch.ones_like(ids))
        assert found.requires_grad == trained


def test_idf_aware_flops_spares_terms_that_queries_weigh_much(weights):
    documents = torch.rand(4, 512)
    penalties = weights.penalties()
    slow = sum(
        float(penalties[term]) * float(documents[:, term].mean()) ** 2 for term in range(documents.shape[1])
    )
    assert float(losses.flops(documents, penalties)) == pytest.approx(slow, rel=1e-4)
    assert float(losses.flops(documents, torch.ones(512))) == pytest.approx(float(losses.flops(documents)))
    order = torch.argsort(weights.weights)
    assert torch.equal(penalties[order], penalties[order].sort(descending=True).values)
    assert float(penalties.max()) == 10


def test_documents_learn_against_a_lookup_and_the_folder_searches_with_it(tmp_path, checkpoint_folder):
    file = configuration(tmp_path, checkpoint_folder)
    assert train("contrast", file, *LOOKUP, "contrast.idf_flops=true") == 0
    folder = tmp_path / "contrasted"
    assert read_card(folder / "card.toml").query == "lookup"
    lines = log_of(folder)
    assert all(line["query_flops"] > 0 and line["document_flops"] > 0 for line in lines)
    table = read_table(folder / TABLE)
    assert table.encoder == find_checkpoint(str(folder)).identity
    assert table.facts == {"start": "idf over 48 passages"}
    encoder = load_encoder(str(folder))
    assert type(encoder) is AsymmetricEncoder
    [vector] = encoder.encode_queries(["chest pain"])
    tokens = encoder.attribute("chest pain", side="query").tokens
    assert set(vector) == {token for token in tokens if token in table.terms}
    assert train("merge", file) == 0
    merged = tmp_path / "merged"
    assert read_table(merged / TABLE).encoder == find_checkpoint(str(merged)).identity
    assert load_encoder(str(merged)).encode_queries(QUERIES) == encoder.encode_queries(QUERIES)


def test_a_table_that_is_trained_along_goes_on_where_it_stopped(tmp_path, checkpoint_folder, byte_tokenizer):
    table = tmp_path / TABLE
    write_table(table_for(checkpoint_folder, byte_tokenizer), table)
    along = (*LOOKUP, "contrast.train_table=true", f'contrast.lookup_table="{table}"')
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    for folder in (straight, stopped):
        folder.mkdir()
    assert train("contrast", configuration(straight, checkpoint_folder), *along) == 0
    file = configuration(stopped, checkpoint_folder)
    _stop_after(4, file, along)
    assert train("contrast", file, *along) == 0
    one, other = (read_table(folder / "contrasted" / TABLE).weights for folder in (straight, stopped))
    np.testing.assert_allclose(one, other, rtol=1e-5)
    start = read_table(table).weights
    assert np.abs(one - start).max() > 1e-4
    assert not one[start == 0].any()


def _stop_after(step: int, file: Path, changes) -> None:
    """Run until that step's checkpoint is written."""
    from csplade_pyserini.training import runs

    class StoppedError(Exception):
        pass

    def log(self, logs, start_time=None):
        if self.state.global_step > step:
            raise StoppedError
        return stock(self, logs, start_time)

    stock = runs.PhaseTrainer.log
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs.PhaseTrainer, "log", log)
        with pytest.raises(StoppedError):
            train("contrast", file, *changes)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        (('contrast.query_side="lookup"',), "query_regulariser is 0.001, but query_side is 'lookup'"),
        (("contrast.train_table=true",), "train_table is True, which needs query_side = 'lookup'"),
        (("contrast.idf_flops=true",), "idf_flops is True, which needs query_side = 'lookup'"),
        (('contrast.query_side="table"',), "query_side is 'table'; wanted one of 'model', 'lookup'"),
        ((*LOOKUP, 'contrast.lookup_table="nowhere"'), "lookup_table is 'nowhere', but there is no nowhere"),
    ],
)
def test_settings_that_do_not_go_together_are_errors(tmp_path, checkpoint_folder, changes, complaint):
    with pytest.raises(InputError, match=complaint):
        train("contrast", configuration(tmp_path, checkpoint_folder), *changes)


def test_a_table_of_another_vocabulary_is_an_error_that_names_both(
    tmp_path, checkpoint_folder, byte_tokenizer
):
    other = json.loads(byte_tokenizer.backend_tokenizer.to_str())
    other["model"]["vocab"]["unheard"] = 511
    table = table_for(checkpoint_folder, byte_tokenizer, encoder="another@1")
    write_table(dataclasses.replace(table, tokenizer=json.dumps(other)), tmp_path / TABLE)
    with pytest.raises(InputError, match=r"is for another@1, whose vocabulary is not that of .*trained"):
        train(
            "contrast",
            configuration(tmp_path, checkpoint_folder),
            *LOOKUP,
            f'contrast.lookup_table="{tmp_path}"',
        )
