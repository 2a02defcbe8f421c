"""Make an untrained Llama of csplade-tiny's shape for a tokenizer, with the teacher's embeddings.

python run_scripts/train/new_backbone.py --tokenizer FOLDER --teacher FOLDER --output FOLDER [--seed 1]
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import AutoModelForMaskedLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from csplade_pyserini.cards import CARD_FILE, EncoderCard, write_card
from csplade_pyserini.command_line import run
from csplade_pyserini.errors import InputError
from csplade_pyserini.files.whole import whole_folder

SHAPE = {
    "hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 4, "num_attention_heads": 4,
    "num_key_value_heads": 4, "max_position_embeddings": 512, "tie_word_embeddings": True,
}  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--tokenizer", type=Path, required=True, help="folder of the tokenizer")
    parser.add_argument("--teacher", type=Path, required=True, help="folder of a BERT that has its terms")
    parser.add_argument("--output", type=Path, required=True, help="checkpoint folder to write")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args(argv)
    torch.manual_seed(args.seed)
    tokenizer = AutoTokenizer.from_pretrained(args.tokenizer)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        bos_token_id=None,
        eos_token_id=tokenizer.sep_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **SHAPE,
    )
    model = LlamaForCausalLM(config)
    copy_embeddings(model, tokenizer.convert_ids_to_tokens(list(range(len(tokenizer)))), args.teacher)
    with whole_folder(args.output) as partial:
        model.save_pretrained(partial)
        tokenizer.save_pretrained(partial)
        write_card(EncoderCard(name="untrained"), partial / CARD_FILE)
    print(f"{args.output}: {model.num_parameters():,} parameters, {len(tokenizer):,} terms")
    return 0


@torch.no_grad()
def copy_embeddings(model: LlamaForCausalLM, terms: list[str], teacher: Path) -> None:
    """Take the terms' embeddings from the teacher. Raises InputError if it lacks one, or by its size."""
    vocabulary = AutoTokenizer.from_pretrained(teacher).get_vocab()
    missing = [term for term in terms if term not in vocabulary]
    if missing:
        raise InputError(f"{teacher} has no term {missing[0]!r}: cut the tokenizer from the teacher's")
    weight = AutoModelForMaskedLM.from_pretrained(teacher).get_output_embeddings().weight
    own = model.get_input_embeddings().weight
    if weight.shape[1] != own.shape[1]:
        raise InputError(f"{teacher} has hidden size {weight.shape[1]}; wanted {own.shape[1]}")
    own.copy_(weight[[vocabulary[term] for term in terms]])


if __name__ == "__main__":
    run(main)
