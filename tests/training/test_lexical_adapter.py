"""The adapter that csplade-bi-smol starts from, on a random Llama."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch
from programs import run_python
from tiny_models import TEXTS, tiny_model

from csplade_pyserini.cards import EncoderCard, write_card
from csplade_pyserini.model import load_encoder

SCRIPT = Path(__file__).parents[2] / "run_scripts" / "train" / "lexical_adapter.py"
spec = importlib.util.spec_from_file_location("lexical_adapter", SCRIPT)
script = importlib.util.module_from_spec(spec)
spec.loader.exec_module(script)
WORDS = sorted({word for text in TEXTS for word in text.split()})


@pytest.fixture(scope="module")
def folders(tmp_path_factory, byte_tokenizer) -> tuple[Path, Path]:
    """A whole random model, and the adapter over its first layer."""
    folder = tmp_path_factory.mktemp("lexical")
    base, adapter = folder / "base", folder / "adapter"
    tiny_model("llama", hidden_size=128, intermediate_size=256).save_pretrained(base)
    byte_tokenizer.save_pretrained(base)
    write_card(EncoderCard(name="base", attention="bidirectional"), base / "card.toml")
    generator = torch.Generator().manual_seed(0)
    picks = torch.randint(len(WORDS), (300, 40), generator=generator).tolist()
    texts = folder / "texts.jsonl"
    texts.write_text(
        "".join(
            json.dumps({"id": str(i), "text": " ".join(WORDS[n] for n in pick)}) + "\n"
            for i, pick in enumerate(picks)
        )
    )
    config = folder / "lexical.toml"
    config.write_text(
        f'[card]\nname = "lexical"\nbase = "{base}"\nlayers = 1\nattention = "bidirectional"\n'
        f'[contrast]\noutput = "{folder}/out"\ndata = ["none"]\nsteps = 1\nlearning_rate = 1\n'
        "batch_size = 1\ndevice_batch_size = 1\nnegatives = 0\n"
        "query_regulariser = 0\ndocument_regulariser = 0\n"
    )
    result = run_python(SCRIPT, "--config", config, "--texts", texts, "--output", adapter, "--rank", 4)
    assert result.returncode == 0, result.stderr[-3000:]
    assert "relative error 0." in result.stdout
    return base, adapter


def share_of_own_terms(folder: Path) -> float:
    """Share of a text's tokens among as many of its heaviest terms; mean over TEXTS."""
    encoder = load_encoder(str(folder))
    shares = []
    for row, text in zip(encoder.tokenize(TEXTS, side="document"), TEXTS, strict=True):
        own = set(row)
        heaviest = encoder.weights([text])[0].topk(len(own)).indices.tolist()
        shares.append(len(own.intersection(heaviest)) / len(own))
    return sum(shares) / len(shares)


def test_the_texts_own_terms_come_up(folders):
    base, adapter = folders
    assert share_of_own_terms(adapter) > 3 * share_of_own_terms(base)


def test_most_of_what_was_active_is_off(folders):
    active = [(load_encoder(str(folder)).weights(TEXTS) > 0).float().mean() for folder in folders]
    assert active[1] < active[0] / 2


@torch.no_grad()
def test_a_tokens_state_has_its_weight_and_nothing_else():
    """With fewer terms than dimensions, every state can be met but for the ridge."""
    model = tiny_model("llama", hidden_size=128, vocab_size=40, num_hidden_layers=1)
    model.lm_head.weight.mul_(10)  # else states as short as the norm makes them could not reach the threshold
    rarity = torch.linspace(0.5, 4, 40)
    states = script.token_states(model, rarity, logit_scale=0.5)
    torch.testing.assert_close(states.norm(dim=1), torch.full((40,), 128**0.5))
    logits = states @ (model.lm_head.weight * model.model.norm.weight).T
    weights = torch.log1p(0.5 * logits.relu())
    torch.testing.assert_close(weights, torch.diag(script.WEIGHT_PER_IDF * rarity), atol=0.1, rtol=0)


@torch.no_grad()
def test_layers_add_what_damping_leaves():
    model = tiny_model("llama")
    inputs = torch.randn(5, 32)
    module = model.model.layers[0].self_attn.o_proj
    before = module(inputs)
    adapted = script.damped(model, rank=4).base_model.model.model.layers[0].self_attn.o_proj
    torch.testing.assert_close(adapted(inputs), script.DAMPING * before, rtol=1e-4, atol=1e-5)
