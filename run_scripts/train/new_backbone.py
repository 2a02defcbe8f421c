"""Make csplade-tiny's backbone: an OPT decoder that computes what the teacher, a small BERT, computes.

    python run_scripts/train/new_backbone.py --tokenizer FOLDER --teacher FOLDER --output FOLDER

OPT has BERT's layers if its norms come after the residuals (`do_layer_norm_before = False`). So the teacher's
weights fit as they are. One layer more at either end takes the rest: the norm of the embeddings, and the
transform of the head. With bidirectional attention the logits are the teacher's.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    AutoModelForMaskedLM,
    AutoTokenizer,
    BertForMaskedLM,
    OPTConfig,
    OPTForCausalLM,
    PreTrainedTokenizerBase,
)
from transformers.models.bert.modeling_bert import BertLayer
from transformers.models.opt.modeling_opt import OPTDecoderLayer

from csplade_pyserini.cards import CARD_FILE, EncoderCard, write_card
from csplade_pyserini.command_line import run
from csplade_pyserini.errors import InputError
from csplade_pyserini.files.whole import whole_folder

OFFSET = 2
"""OPT keeps the embedding of position 0 in this row."""
LEAST_CONSTANT = 0.01
SPREAD = 0.02
"""Standard deviation of weights that have no effect yet, so that training can give them one."""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--tokenizer", type=Path, required=True, help="folder of the tokenizer")
    parser.add_argument("--teacher", type=Path, required=True, help="folder of a BERT that has its terms")
    parser.add_argument("--output", type=Path, required=True, help="checkpoint folder to write")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args(argv)
    torch.manual_seed(args.seed)
    tokenizer = AutoTokenizer.from_pretrained(args.tokenizer)
    tokenizer.bos_token, tokenizer.eos_token = tokenizer.cls_token, tokenizer.sep_token
    teacher = AutoModelForMaskedLM.from_pretrained(args.teacher)
    if not isinstance(teacher, BertForMaskedLM) or teacher.config.hidden_act != "gelu":
        raise InputError(f"{args.teacher} is no BERT with GELU; its layers do not fit into OPT's")
    rows = rows_of(tokenizer, args.teacher)
    model = OPTForCausalLM(configuration(teacher, tokenizer))
    copy_teacher(model, teacher, rows)
    with whole_folder(args.output) as partial:
        model.save_pretrained(partial)
        tokenizer.save_pretrained(partial)
        card = EncoderCard(name="backbone", attention="bidirectional", add_bos=True, add_eos=True)
        write_card(card, partial / CARD_FILE)
    print(f"{args.output}: {model.num_parameters():,} parameters, {len(tokenizer):,} terms")
    return 0


def rows_of(tokenizer: PreTrainedTokenizerBase, teacher: Path) -> list[int]:
    """Return the teacher's token id of each token. Raises InputError if it lacks one."""
    vocabulary = AutoTokenizer.from_pretrained(teacher).get_vocab()
    terms = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    missing = [term for term in terms if term not in vocabulary]
    if missing:
        raise InputError(f"{teacher} has no term {missing[0]!r}: cut the tokenizer from the teacher's")
    return [vocabulary[term] for term in terms]


def configuration(teacher: BertForMaskedLM, tokenizer: PreTrainedTokenizerBase) -> OPTConfig:
    """Return the decoder's shape: the teacher's, with two layers more. No dropout."""
    bert = teacher.config
    return OPTConfig(
        vocab_size=len(tokenizer),
        hidden_size=bert.hidden_size,
        word_embed_proj_dim=bert.hidden_size,
        ffn_dim=max(bert.intermediate_size, 3 * bert.hidden_size),
        num_hidden_layers=bert.num_hidden_layers + 2,
        num_attention_heads=bert.num_attention_heads,
        max_position_embeddings=bert.max_position_embeddings,
        do_layer_norm_before=False,
        activation_function="gelu",
        dropout=0.0,
        tie_word_embeddings=False,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


@torch.no_grad()
def copy_teacher(model: OPTForCausalLM, teacher: BertForMaskedLM, rows: list[int]) -> None:
    """Write the teacher's weights into the decoder. rows: the teacher's token id of each token."""
    decoder, embeddings = model.model.decoder, teacher.bert.embeddings
    decoder.embed_tokens.weight.copy_(embeddings.word_embeddings.weight[rows])
    positions = embeddings.position_embeddings.weight + embeddings.token_type_embeddings.weight[0]
    decoder.embed_positions.weight[OFFSET:].copy_(positions)
    first, *inner, last = decoder.layers
    empty_layer(first)
    copy_module(first.final_layer_norm, embeddings.LayerNorm)
    for layer, source in zip(inner, teacher.bert.encoder.layer, strict=True):
        copy_layer(layer, source)
    transform = teacher.cls.predictions.transform
    empty_layer(last)
    # A norm of normed states changes nothing, so the teacher's scale moves behind the second one.
    copy_module(last.self_attn_layer_norm, inner[-1].final_layer_norm)
    inner[-1].final_layer_norm.reset_parameters()
    copy_transform(last, transform.dense)
    copy_module(last.final_layer_norm, transform.LayerNorm)
    head = teacher.cls.predictions.decoder
    model.lm_head.weight.copy_(with_bias(head.weight[rows], head.bias[rows], transform.LayerNorm))


def empty_layer(layer: OPTDecoderLayer) -> None:
    """Make a layer add nothing to its states, which both of its norms then norm."""
    for module in layer.modules():
        if isinstance(module, nn.LayerNorm):
            module.reset_parameters()
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=SPREAD)
            nn.init.zeros_(module.bias)
    nn.init.zeros_(layer.self_attn.out_proj.weight)
    nn.init.zeros_(layer.fc2.weight)


def copy_layer(layer: OPTDecoderLayer, source: BertLayer) -> None:
    """Copy a layer of BERT."""
    attention = source.attention
    for name in ("query", "key", "value"):
        copy_module(getattr(layer.self_attn, f"{name[0]}_proj"), getattr(attention.self, name))
    copy_module(layer.self_attn.out_proj, attention.output.dense)
    copy_module(layer.self_attn_layer_norm, attention.output.LayerNorm)
    size = source.intermediate.dense.out_features
    nn.init.normal_(layer.fc1.weight, std=SPREAD)
    nn.init.zeros_(layer.fc1.bias)
    nn.init.zeros_(layer.fc2.weight)
    layer.fc1.weight[:size].copy_(source.intermediate.dense.weight)
    layer.fc1.bias[:size].copy_(source.intermediate.dense.bias)
    layer.fc2.weight[:, :size].copy_(source.output.dense.weight)
    layer.fc2.bias.copy_(source.output.dense.bias)
    copy_module(layer.final_layer_norm, source.output.LayerNorm)


def copy_transform(layer: OPTDecoderLayer, dense: nn.Linear) -> None:
    """Make a layer replace its states x by gelu(dense(x)): as gelu(x) - gelu(-x) = x, it can take x away."""
    size = dense.in_features
    one = torch.eye(size)
    layer.fc1.weight[: 3 * size].copy_(torch.cat([dense.weight, one, -one]))
    layer.fc1.bias[:size].copy_(dense.bias)
    layer.fc2.weight[:, : 3 * size].copy_(torch.cat([one, -one, one], dim=1))


def copy_module(target: Any, source: Any) -> None:
    """Copy weight and bias."""
    target.weight.copy_(source.weight)
    target.bias.copy_(source.bias)


def with_bias(weight: Tensor, bias: Tensor, norm: nn.LayerNorm) -> Tensor:
    """Return the head (V, H) that adds the bias (V) without having one.

    States h are normed, so the sum of h / norm.weight is the same for all: that of norm.bias / norm.weight.
    Raises InputError if it is 0.
    """
    constant = (norm.bias / norm.weight).sum()
    if not constant.abs() > LEAST_CONSTANT:
        raise InputError(
            f"the norm of the teacher's head has a bias that sums to {constant:.4f} over its weight; "
            f"wanted more than {LEAST_CONSTANT}, as it carries the bias of the terms"
        )
    return weight + bias[:, None] / (constant * norm.weight)


if __name__ == "__main__":
    run(main)
