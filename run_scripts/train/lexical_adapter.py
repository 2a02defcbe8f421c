"""Make a LoRA adapter under which a backbone's first layers return their input tokens, for csplade-bi-smol.

python run_scripts/train/lexical_adapter.py --config FILE.toml --texts TEXTS.jsonl --output FOLDER

Read by the LM head, the first layers of a language model give thousands of frequent terms, but hardly the
tokens they have read. Contrastive training from there kills most of the vocabulary before it finds those
tokens. This adapter starts training from a lexical retriever instead. It is made in closed form:

- The layers' additions to their input are damped, so that little but the input embeddings is left.
- Each token gets a wanted state, by least squares. Its logits should be -THRESHOLD for every other term.
  The token's own weight should be WEIGHT_PER_IDF times its inverse document frequency. The final norm would
  undo a short state, so the missing length goes into the direction that the head reads least.
- Ridge regression from the input of the last layer's down projection gives the change of its weights.

The damped projections get LoRA layers of full rank, as a lower rank cannot hold such a change. The others
keep --rank and a larger alpha: damping hides them from the loss, and the full-rank layers need a low learning
rate.
"""

import argparse
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from csplade_pyserini.cards import CARD_FILE, Checkpoint, EncoderCard, write_card
from csplade_pyserini.collections.corpus import open_corpus
from csplade_pyserini.command_line import run
from csplade_pyserini.errors import InputError
from csplade_pyserini.files.whole import whole_folder
from csplade_pyserini.model.backbone import load_base, load_tokenizer
from csplade_pyserini.model.inputs import tokenize
from csplade_pyserini.training.settings import read_settings

FULL_RANK = ("o_proj", "down_proj")
"""Projections by which a layer adds to its input."""
ALPHA_PER_RANK = 32
DAMPING = 0.02
"""Share that is left of a layer's addition to its input."""
THRESHOLD = 10.0
"""Distance below zero of the logits that should be off."""
WEIGHT_PER_IDF = 0.25
"""Weight of a token per unit of inverse document frequency."""
LEAST_CHARACTERS = 200
"""Shorter texts are left out."""
COUNTED = 12_000
"""Texts that document frequencies are counted over."""
FITTED = 1_500
"""Texts that the change is fitted on."""
HEAD_RIDGE = 1e-2
"""Ridge of the head's regression, as a share of the mean squared input."""
RIDGE = 1e-3
"""Ridge of the down projection's regression, as the same share."""


@torch.no_grad()
def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    if args.output.exists():
        raise InputError(f"{args.output} exists: choose another output, or remove it")
    card, _ = read_settings(args.config, "contrast")
    checkpoint = Checkpoint(card, None)
    model = load_base(checkpoint, dtype=torch.float32)
    tokenizer = load_tokenizer(checkpoint)
    rows = read_rows(args.texts, card, tokenizer)
    adapted = damped(model, args.rank)
    last = model.base_model.layers[-1].mlp.down_proj
    inputs, states = module_inputs(model, rows[:FITTED], last, model.base_model.norm)
    tokens = torch.cat(rows[:FITTED])
    rarity = inverse_frequencies(rows, len(model.lm_head.weight))
    wanted = token_states(model, rarity, card.logit_scale, card.logit_shift)[tokens]
    change = regress(inputs, wanted - states, RIDGE)
    add_change(last, change.T)
    error = (states + inputs @ change - wanted).norm() / wanted.norm()
    with whole_folder(args.output) as partial:
        adapted.save_pretrained(partial)
        (partial / "README.md").unlink(missing_ok=True)  # peft's empty model card
        write_card(card, partial / CARD_FILE)
    print(
        f"{args.output}: {adapted.num_parameters(only_trainable=True):,} parameters; "
        f"{len(tokens):,} tokens, relative error {error:.2f}"
    )
    return 0


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--config", type=Path, required=True, help="training configuration; its [card] names base and layers"
    )
    parser.add_argument("--texts", required=True, help="corpus in random order")
    parser.add_argument("--output", type=Path, required=True, help="adapter folder to write")
    parser.add_argument(
        "--rank", type=int, default=64, help="LoRA rank of all but the full-rank projections (default: 64)"
    )
    return parser.parse_args(argv)


def read_rows(texts: str, card: EncoderCard, tokenizer: PreTrainedTokenizerBase) -> list[Tensor]:
    """Return the token ids (L) of COUNTED texts, as the encoder makes them."""
    rows: list[Tensor] = []
    for document in tqdm(open_corpus(texts).documents(), desc="tokenize", unit="text", mininterval=5):
        if len(document.text) >= LEAST_CHARACTERS:
            [row] = tokenize([document.text], side="document", card=card, tokenizer=tokenizer)
            rows.append(torch.tensor(row))
        if len(rows) == COUNTED:
            break
    return rows


def inverse_frequencies(rows: list[Tensor], vocabulary: int) -> Tensor:
    """Return Lucene's inverse document frequencies (V)."""
    counts: Counter[int] = Counter()
    for row in rows:
        counts.update(set(row.tolist()))
    frequency = torch.tensor([float(counts[term]) for term in range(vocabulary)])
    return torch.log1p((len(rows) - frequency + 0.5) / (frequency + 0.5))


def damped(model: Any, rank: int) -> Any:
    """Put the model under an adapter that damps its layers' additions to their input."""
    width = model.config.hidden_size
    config = LoraConfig(
        task_type="CAUSAL_LM", target_modules="all-linear", lora_dropout=0.0,
        r=rank, lora_alpha=ALPHA_PER_RANK * rank,
        rank_pattern=dict.fromkeys(FULL_RANK, width), alpha_pattern=dict.fromkeys(FULL_RANK, 2 * width),
    )  # fmt: skip
    adapted = get_peft_model(model, config)
    for layer in model.base_model.layers:
        for module in (layer.self_attn.o_proj, layer.mlp.down_proj):
            module.lora_B["default"].weight.copy_(torch.eye(width))
            module.lora_A["default"].weight.zero_()
            add_change(module, (DAMPING - 1) * module.base_layer.weight)
    return adapted


def add_change(module: Any, change: Tensor) -> None:
    """Add `change` (out, in) to the weight of a full-rank LoRA layer whose B is the identity."""
    module.lora_A["default"].weight.add_(change / module.scaling["default"])


def module_inputs(model: Any, rows: list[Tensor], *modules: Any) -> list[Tensor]:
    """Return the inputs (N, D) of each module, over all tokens in all rows."""
    inputs: list[list[Tensor]] = [[] for _ in modules]
    hooks = []
    for module, found in zip(modules, inputs, strict=True):
        hooks.append(module.register_forward_pre_hook(keep_input(found)))
    for row in tqdm(rows, desc="run", unit="text", mininterval=5):
        model.base_model(input_ids=row[None], use_cache=False)
    for hook in hooks:
        hook.remove()
    return [torch.cat(found) for found in inputs]


def keep_input(found: list[Tensor]) -> Callable[[Any, tuple[Tensor, ...]], None]:
    """Return a hook that keeps the first row of a module's input."""

    def hook(_: Any, given: tuple[Tensor, ...]) -> None:
        found.append(given[0][0])

    return hook


def token_states(model: Any, rarity: Tensor, logit_scale: float, logit_shift: float = 0.0) -> Tensor:
    """Return the states (V, H) that the tokens should have before the final norm.

    All are as long as the norm makes them.
    """
    read = model.lm_head.weight * model.base_model.norm.weight
    length: float = read.shape[1] ** 0.5  # for states of this length, logits = read @ state
    gram = ridged(read, HEAD_RIDGE)
    off = torch.linalg.solve(gram, -THRESHOLD * read.sum(dim=0))
    on = torch.linalg.solve(gram, read.T).T
    own = (torch.expm1(WEIGHT_PER_IDF * rarity) + logit_shift) / logit_scale
    states = off + on * ((own + THRESHOLD) / (on * read).sum(dim=1))[:, None]
    states *= (0.98 * length / states.norm(dim=1)).clamp(max=1)[:, None]
    hidden = torch.linalg.eigh(gram).eigenvectors[:, 0]
    states += (length**2 - states.square().sum(dim=1)).sqrt()[:, None] * hidden
    # The states are not quite at right angles to the hidden direction, so their length is set once more.
    return length * torch.nn.functional.normalize(states, dim=1)


def regress(inputs: Tensor, targets: Tensor, ridge: float) -> Tensor:
    """Return the linear map (in, out) from inputs (N, in) to targets (N, out) of least squared error."""
    solution: Tensor = torch.linalg.solve(ridged(inputs, ridge), inputs.T @ targets)
    return solution


def ridged(inputs: Tensor, ridge: float) -> Tensor:
    """Return the Gram matrix (in, in) of inputs (N, in), its diagonal raised by `ridge` of its mean."""
    gram = inputs.T @ inputs
    gram.diagonal().add_(ridge * gram.diagonal().mean())
    return gram


if __name__ == "__main__":
    run(main)
