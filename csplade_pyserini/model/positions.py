"""The longest text that a model has positions for.

OPT and GPT-2 learn a vector for each position, so they have a fixed number. Rotary positions have no end.
"""

from torch import nn
from transformers import PreTrainedModel

from csplade_pyserini.cards import EncoderCard, Side
from csplade_pyserini.errors import InputError

_OFFSET = 2
"""Most vectors that a model has beside those of its positions: OPT has two."""
_SIDES: tuple[Side, ...] = ("query", "document")


def learned_positions(model: PreTrainedModel) -> int:
    """Number of positions that the model has learned; 0 if it needs none."""
    count: int = getattr(model.config, "max_position_embeddings", 0)
    tokens = model.get_input_embeddings()
    others = [
        module for module in model.modules() if isinstance(module, nn.Embedding) and module is not tokens
    ]
    if any(count <= module.num_embeddings <= count + _OFFSET for module in others):
        return count
    return 0


def check_lengths(model: PreTrainedModel, card: EncoderCard) -> None:
    """Raise InputError if a text that the card cuts may have more tokens than the model has positions."""
    positions = learned_positions(model)
    if not positions:
        return
    added = card.add_bos + card.add_eos
    for side in _SIDES:
        limit = card.side(side).max_length
        tokens = card.copies * (limit + added)
        if tokens > positions:
            raise InputError(
                f"{side}_max_length of {card.name} is {limit}, so a text has up to {tokens} tokens "
                f"(echo, BOS and EOS included), and the model has {positions} positions: wanted at most "
                f"{positions // card.copies - added}"
            )
