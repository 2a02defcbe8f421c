"""Make an untrained Llama of csplade-tiny's shape for a given tokenizer, to start its training.

python run_scripts/train/new_backbone.py --tokenizer FOLDER --output FOLDER [--seed 1]
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from csplade_pyserini.cards import CARD_FILE, EncoderCard, write_card

SHAPE = {
    "hidden_size": 256, "intermediate_size": 640, "num_hidden_layers": 4, "num_attention_heads": 4,
    "num_key_value_heads": 4, "max_position_embeddings": 512, "tie_word_embeddings": True,
}  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--tokenizer", type=Path, required=True, help="folder of the tokenizer")
    parser.add_argument("--output", type=Path, required=True, help="checkpoint folder to write")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args(argv)
    torch.manual_seed(args.seed)
    tokenizer = AutoTokenizer.from_pretrained(args.tokenizer)
    end = tokenizer.eos_token_id
    config = LlamaConfig(vocab_size=len(tokenizer), bos_token_id=end, eos_token_id=end, **SHAPE)
    model = LlamaForCausalLM(config)
    model.save_pretrained(args.output)
    tokenizer.save_pretrained(args.output)
    write_card(EncoderCard(name="untrained"), args.output / CARD_FILE)
    print(f"{args.output}: {model.num_parameters():,} parameters, {len(tokenizer):,} terms")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
