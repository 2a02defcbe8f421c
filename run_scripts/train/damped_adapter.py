"""Make a LoRA adapter under which the first layers of a backbone give their input tokens back: where csplade-smol starts.

python run_scripts/train/damped_adapter.py --config FILE.toml --data TEXTS.jsonl --output FOLDER

Read by the LM head, the first layers of a language model give thousands of frequent terms and hardly the tokens they have
read; contrastive training from there kills the vocabulary. The adapter scales what the layers add to their input by --damping,
so that the input embeddings, which do give the tokens back, reach the head, and has the last layer take out the direction that
all embeddings share and a constant along it (--threshold). Training starts from a lexical retriever then.
"""

import argparse
import itertools
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor

from csplade_pyserini.cards import CARD_FILE, Checkpoint, EncoderCard, write_card
from csplade_pyserini.collections.corpus import open_corpus
from csplade_pyserini.model.backbone import load_base, load_tokenizer
from csplade_pyserini.training.settings import read_settings

DAMPED = ("o_proj", "down_proj")
"""The projections by which a layer adds to its input."""
RIDGE = 1e-3


@torch.no_grad()
def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, required=True, help="TOML whose [card] names base and layers")
    parser.add_argument("--data", required=True, help="corpus whose first texts the last layer is fitted on")
    parser.add_argument("--output", type=Path, required=True, help="adapter folder to write")
    parser.add_argument("--rank", type=int, default=64, help="LoRA rank of the other projections (default: 64)")
    parser.add_argument("--damping", type=float, default=0.02, help="what is left of a layer's output (default: 0.02)")
    parser.add_argument("--gain", type=float, default=20.0, help="times its input that the first layer adds (default: 20)")
    parser.add_argument("--threshold", type=float, default=25.0, help="what is taken off every logit (default: 25)")
    parser.add_argument("--texts", type=int, default=400, help="texts to fit on (default: 400)")
    args = parser.parse_args()
    card, _ = read_settings(args.config, "contrast")
    checkpoint = Checkpoint(card, None)
    model, tokenizer = load_base(checkpoint, dtype=torch.float32), load_tokenizer(checkpoint)
    width = model.config.hidden_size
    config = LoraConfig(
        task_type="CAUSAL_LM", target_modules="all-linear", lora_dropout=0.0, r=args.rank, lora_alpha=2 * args.rank,
        rank_pattern=dict.fromkeys(DAMPED, width), alpha_pattern=dict.fromkeys(DAMPED, 2 * width),
    )  # fmt: skip
    adapted = get_peft_model(model, config)
    layers = model.base_model.layers
    for layer in layers:
        for module in (layer.self_attn.o_proj, layer.mlp.down_proj):
            module.lora_B["default"].weight.copy_(torch.eye(width))
            module.lora_A["default"].weight.zero_()
            add_change(module, (args.damping - 1) * module.base_layer.weight)
    texts = [document.text for document in itertools.islice(open_corpus(args.data).documents(), args.texts)]
    rows = [encode(text, card, tokenizer) for text in texts]
    first, last = layers[0].mlp.down_proj, layers[-1].mlp.down_proj
    inputs, embeddings = run(model, rows, first, layers[0])
    print("a l1", inputs.abs().sum(1).mean(), inputs.norm(dim=1).mean(), embeddings.norm(dim=1).mean())
    copy = ridge(inputs, args.gain * embeddings).T
    left = (args.gain * embeddings - inputs @ copy.T).norm() / (args.gain * embeddings).norm()
    print(f"first layer: {left:.2f} of its input left")
    add_change(first, copy)

    inputs, states = run(model, rows, last, model.base_model.norm)
    norm, head = model.base_model.norm.weight, model.lm_head.weight
    read = head * norm  # logits = read @ state * sqrt(H) / |state|
    shared = torch.nn.functional.normalize(read.mean(dim=0), dim=0)
    same = ridge(read, torch.ones(len(read), 1))[:, 0]  # read @ same: 1 for every term, within a few percent
    wanted = torch.outer(states @ shared, shared) + torch.outer(args.threshold * states.norm(dim=1) / width**0.5, same)
    change = -ridge(inputs, wanted).T
    add_change(last, change)
    adapted.save_pretrained(args.output)
    (args.output / "README.md").unlink(missing_ok=True)
    write_card(card, args.output / CARD_FILE)
    left = (wanted + inputs @ change.T).norm() / wanted.norm()
    print(f"{args.output}: {adapted.num_parameters(only_trainable=True):,} parameters; fitted on {len(states):,} tokens, {left:.2f} left")
    return 0


def ridge(inputs: Tensor, targets: Tensor) -> Tensor:
    """(in, out): the linear map from inputs (N, in) to targets (N, out) of least squared error, slightly regularised."""
    gram = inputs.T @ inputs
    gram.diagonal().add_(RIDGE * gram.diagonal().mean())
    return torch.linalg.solve(gram, inputs.T @ targets)


def encode(text: str, card: EncoderCard, tokenizer: Any) -> Tensor:
    """(1, L): token ids as the encoder makes them, without prompts."""
    text = card.document_prefix + (text.lower() if card.lowercase else text)
    return torch.tensor([tokenizer(text, add_special_tokens=False, truncation=True, max_length=card.document_max_length)["input_ids"]])


def add_change(module: Any, change: Tensor) -> None:
    """Make a LoRA layer of full rank, whose B is the identity, add `change` (out, in) to its weight."""
    module.lora_A["default"].weight.add_(change / module.scaling["default"])


@torch.no_grad()
def run(model: Any, rows: list[Tensor], *modules: Any) -> list[Tensor]:
    """(N, D) for each module: what goes into it."""
    inputs: list[list[Tensor]] = [[] for _ in modules]
    hooks = [
        module.register_forward_pre_hook(lambda _, given, found=found: found.append(given[0][0]))
        for module, found in zip(modules, inputs, strict=True)
    ]
    for row in rows:
        model.base_model(input_ids=row, use_cache=False)
    for hook in hooks:
        hook.remove()
    return [torch.cat(found) for found in inputs]


if __name__ == "__main__":
    raise SystemExit(main())
