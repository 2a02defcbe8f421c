"""Cut a checkpoint's head to the terms that texts are expanded with, for csplade-tiny.

    python run_scripts/train/cut_head.py --config FILE.toml --checkpoint FOLDER --lexical FILE \\
        --passages FILE --queries FILE --output FOLDER

Most terms of a vocabulary are hardly ever expansions. Their weights are those of texts that have them.
Lexical weights do that too, and need no head. So a head of --terms rows is as good, and takes less time.

- Expansions are counted: terms of a vector that its text does not have. The terms with most of them keep
  their rows. The rows of the others become zeros.
- The token ids are put in a new order, so that the zeros come last. The encoder leaves those rows out.
- Terms without a row have no weights but lexical ones, so these are multiplied by --lexical-factor.
"""

import argparse
import dataclasses
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm
from transformers import AutoTokenizer, BertTokenizerFast, PreTrainedModel, PreTrainedTokenizerBase

from csplade_pyserini.cards import CARD_FILE, LEXICAL_FILE, EncoderCard, Side, find_checkpoint, write_card
from csplade_pyserini.collections.corpus import open_corpus
from csplade_pyserini.command_line import run
from csplade_pyserini.errors import InputError
from csplade_pyserini.files.whole import whole_folder
from csplade_pyserini.model import SparseEncoder
from csplade_pyserini.model.backbone import load_model
from csplade_pyserini.model.lexical import read_lexical, write_lexical
from csplade_pyserini.training.settings import read_settings

BATCH = 16
"""Texts that are encoded at once."""


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    if args.output.exists():
        raise InputError(f"{args.output} exists: choose another output, or remove it")
    card, _ = read_settings(args.config, "merge")
    root_idf, mean_length = read_lexical(args.lexical)
    model = load_model(find_checkpoint(str(args.checkpoint)), dtype=torch.float32, device=torch.device("cpu"))
    if model.config.tie_word_embeddings:
        raise InputError(f"the head in {args.checkpoint} is tied to the embeddings; wanted one of its own")
    tokenizer = AutoTokenizer.from_pretrained(args.checkpoint)
    encoder = SparseEncoder(without_lexical(card), model, tokenizer)
    expansions = count_expansions(encoder, drawn_texts(args.passages, args.texts, args.seed), "document")
    expansions += count_expansions(encoder, drawn_texts(args.queries, args.texts, args.seed), "query")
    order, rows = new_order(expansions, tokenizer.all_special_ids, args.terms)
    cut(model, order, rows)
    with whole_folder(args.output) as partial:
        model.save_pretrained(partial)
        reordered(tokenizer, order).save_pretrained(partial)
        write_card(card, partial / CARD_FILE)
        root_idf = cut_lexical(root_idf, order, rows, args.lexical_factor)
        write_lexical(root_idf, mean_length, partial / LEXICAL_FILE)
    kept = float(expansions[order[:rows]].sum() / expansions.sum())
    print(f"{args.output}: {rows:,} rows of the head are left, with {kept:.1%} of the expansions")
    return 0


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--config", type=Path, required=True, help="training configuration with the card")
    parser.add_argument("--checkpoint", type=Path, required=True, help="folder of a model and a WordPiece")
    parser.add_argument("--lexical", type=Path, required=True, help="file that prepare.py lexical makes")
    parser.add_argument("--passages", required=True, help="corpus to count expansions in")
    parser.add_argument("--queries", required=True, help="corpus of queries to count expansions in")
    parser.add_argument("--output", type=Path, required=True, help="checkpoint folder to write")
    parser.add_argument("--terms", type=int, default=12_000, help="terms with a row (default: 12000)")
    parser.add_argument(
        "--lexical-factor", type=float, default=2.0,
        help="factor of the lexical weights of terms without a row, on both sides (default: 2)",
    )  # fmt: skip
    parser.add_argument(
        "--texts",
        type=int,
        default=24_000,
        help="most texts of either file that are counted (default: 24000)",
    )
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args(argv)


def without_lexical(card: EncoderCard) -> EncoderCard:
    return dataclasses.replace(card, query_lexical_weight=0.0, document_lexical_weight=0.0)


def drawn_texts(file: str, count: int, seed: int) -> list[str]:
    """Draw texts at random; return them by length, so that those of a batch are about as long."""
    texts = [document.text for document in open_corpus(file).documents()]
    drawn = random.Random(seed).sample(texts, min(count, len(texts)))
    return sorted(drawn, key=len)


def count_expansions(encoder: SparseEncoder, texts: Sequence[str], side: Side) -> Tensor:
    """(V,) number of texts whose vector has the term, while they themselves do not."""
    counts = torch.zeros(len(encoder.terms))
    for start in tqdm(range(0, len(texts), BATCH), desc=f"encode, {side}", unit="batch", mininterval=5):
        batch = texts[start : start + BATCH]
        is_expansion = encoder.weights(batch, side=side) > 0
        for found, row in zip(is_expansion, encoder.tokenize(batch, side=side), strict=True):
            found[row] = False
        counts += is_expansion.sum(dim=0)
    return counts


def new_order(expansions: Tensor, special: Sequence[int], terms: int) -> tuple[Tensor, int]:
    """Old token id of each new one (V,), and the number of rows to keep.

    First come special tokens, then the terms with rows, then the others, each in their old order. Special
    tokens keep their rows.
    """
    expansions = expansions.clone()
    expansions[list(special)] = -1
    place = torch.full(expansions.shape, 2)
    place[expansions.argsort(descending=True, stable=True)[:terms]] = 1
    place[list(special)] = 0
    return place.argsort(stable=True), int((place < 2).sum())


@torch.no_grad()
def cut(model: PreTrainedModel, order: Tensor, rows: int) -> None:
    """Put embeddings and head (V, H) into a new order, and make zeros of the head's rows from `rows` on."""
    embeddings: Any = model.get_input_embeddings()
    head: Any = model.get_output_embeddings()
    embeddings.weight.copy_(embeddings.weight[order])
    head.weight.copy_(head.weight[order])
    head.weight[rows:] = 0


def cut_lexical(root_idf: Tensor, order: Tensor, rows: int, factor: float) -> Tensor:
    """(V,) sqrt(idf) in the new order, multiplied where the head has no row."""
    root_idf = root_idf[order]
    root_idf[rows:] *= factor
    return root_idf


def reordered(tokenizer: PreTrainedTokenizerBase, order: Tensor) -> PreTrainedTokenizerBase:
    terms = tokenizer.convert_ids_to_tokens(order.tolist())
    return BertTokenizerFast(
        vocab={term: number for number, term in enumerate(terms)},
        do_lower_case=True,
        bos_token=tokenizer.bos_token,
        eos_token=tokenizer.eos_token,
    )


if __name__ == "__main__":
    run(main)
