"""Folders that Tevatron's `train_splade` wrote are encoders, with the vectors of Tevatron's own code.

docs/own_encoder.md takes such folders to a run; test_docs.py runs it.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from tevatron_checkpoints import trained, write_output
from tiny_models import TEXTS, tiny_model
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from csplade_pyserini import load_encoder
from csplade_pyserini.cards import EncoderCard, Side, write_card
from csplade_pyserini.errors import InputError
from csplade_pyserini.model.conversion import convert_folder


@dataclass(frozen=True)
class Flags:
    """Flags of `train_splade`, with its defaults, except for the lengths."""

    is_bidirectional: bool = False
    add_special_tokens: bool = True
    append_eos_token: bool = False
    query_prefix: str = ""
    passage_prefix: str = ""
    query_max_len: int = 10
    passage_max_len: int = 16


FLAGS = {
    "defaults": Flags(),
    "LACONIC": Flags(
        is_bidirectional=True,
        add_special_tokens=False,
        query_prefix="query: ",
        passage_prefix="passage: ",
    ),
    "EOS": Flags(is_bidirectional=True, append_eos_token=True, passage_prefix="passage: "),
}


def card_of(flags: Flags, base: str) -> EncoderCard:
    """The card that the table in docs/own_encoder.md gives."""
    added = flags.add_special_tokens + flags.append_eos_token
    return EncoderCard(
        name="of-tevatron",
        base=base,
        attention="bidirectional" if flags.is_bidirectional else "causal",
        add_bos=flags.add_special_tokens,
        add_eos=flags.append_eos_token,
        query_prefix=flags.query_prefix,
        document_prefix=flags.passage_prefix,
        query_max_length=flags.query_max_len - added,
        document_max_length=flags.passage_max_len - added,
    )


@torch.inference_mode()
def tevatron_weights(model, tokenizer: PreTrainedTokenizerFast, flags: Flags, side: Side) -> torch.Tensor:
    """(B, V) weights as TrainCollator and SpladeModelForCausalLM make them, one text at a time."""
    prefix, length = flags.passage_prefix, flags.passage_max_len
    if side == "query":
        prefix, length = flags.query_prefix, flags.query_max_len
    weights = []
    for text in TEXTS:
        ids = tokenizer(
            prefix + text,
            truncation=True,
            max_length=length - flags.append_eos_token,
            add_special_tokens=flags.add_special_tokens,
        )["input_ids"]
        ids = torch.tensor([ids + [tokenizer.eos_token_id] * flags.append_eos_token])
        mask = torch.ones_like(ids)
        if flags.is_bidirectional:
            mask = torch.zeros(1, 1, ids.shape[1], ids.shape[1])
        logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
        weights.append(torch.log1p(torch.relu(logits.amax(dim=1)[0])))
    return torch.stack(weights)


@pytest.fixture
def tokenizer(byte_tokenizer, tmp_path) -> PreTrainedTokenizerFast:
    """A tokenizer that puts BOS before each text by itself, as Llama 3's does."""
    byte_tokenizer.save_pretrained(tmp_path / "tokenizer")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "tokenizer")
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.bos_token_id)]
    )
    return tokenizer


@pytest.fixture
def base(tokenizer, tmp_path) -> Path:
    """The backbone of the adapters."""
    tiny_model("llama").save_pretrained(tmp_path / "base")
    return tmp_path / "base"


@pytest.mark.parametrize("flags", FLAGS.values(), ids=FLAGS)
@pytest.mark.parametrize("kind", ["full", "LoRA", "LoRA, pickled"])
def test_its_vectors_are_tevatrons(tokenizer, base, tmp_path, kind, flags):
    model = trained(lora=kind != "full", seed=3)
    folder = write_output(model, tokenizer, tmp_path / "out", safetensors=kind != "LoRA, pickled")
    wanted = {side: tevatron_weights(model, tokenizer, flags, side) for side in ("query", "document")}
    write_card(card_of(flags, "" if kind == "full" else str(base)), folder / "card.toml")
    if kind == "LoRA, pickled":
        with pytest.raises(InputError, match=r"adapter_model\.bin.*cards --convert"):
            load_encoder(str(folder))
        convert_folder(folder)
    encoder = load_encoder(str(folder))
    known = len(tokenizer)
    for side, weights in wanted.items():
        found = encoder.weights(TEXTS, side=side)
        assert torch.allclose(found[:, :known], weights[:, :known], atol=1e-4)
    assert not (tmp_path / "out-unpickled").exists(), "training_args.bin was unpickled"


@pytest.mark.parametrize("change", ["attention", "add_bos", "query_prefix"])
def test_a_card_that_says_otherwise_gives_other_vectors(tokenizer, base, tmp_path, change):
    """So the comparison above can fail."""
    flags = FLAGS["LACONIC"]
    model = trained(lora=True, seed=3)
    folder = write_output(model, tokenizer, tmp_path / "out")
    wrong = {"attention": "causal", "add_bos": True, "query_prefix": ""}
    card = vars(card_of(flags, str(base))) | {change: wrong[change]}
    write_card(EncoderCard(**card), folder / "card.toml")
    found = load_encoder(str(folder)).weights(TEXTS, side="query")
    known = len(tokenizer)
    weights = tevatron_weights(model, tokenizer, flags, "query")
    assert not torch.allclose(found[:, :known], weights[:, :known], atol=1e-2)


def test_an_adapters_folder_without_its_adapter_is_not_the_bare_base(tokenizer, base, tmp_path):
    """Also not the adapter of an earlier checkpoint."""
    folder = write_output(trained(lora=True, seed=3), tokenizer, tmp_path / "out")
    write_card(card_of(FLAGS["LACONIC"], str(base)), folder / "card.toml")
    (folder / "adapter_model.safetensors").unlink()
    with pytest.raises(InputError, match="would not be loaded"):
        load_encoder(str(folder))
    shutil.copy(folder / "card.toml", folder / "checkpoint-2" / "card.toml")
    shutil.copy(folder / "tokenizer.json", folder / "checkpoint-2")
    assert load_encoder(str(folder / "checkpoint-2")).encode_queries(["pain"])
