"""Lexical weights: BM25's, of the tokens that a text itself has.

    document: sqrt(idf) * tf * (k1 + 1) / (tf + k1 * (1 - b + b * length / mean length))
    query:    sqrt(idf)

Their inner product is BM25. A maximum over tokens cannot count how often a token occurs, so these weights are
added to those of the model. The idf and the mean length are those of the training texts, so that a vector
depends on no collection.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from csplade_pyserini.cards import LEXICAL_FILE, Checkpoint, EncoderCard, Side
from csplade_pyserini.errors import InputError
from csplade_pyserini.files.whole import whole_file

K1 = 1.2
"""BM25's saturation of term frequency."""
B = 0.75
"""BM25's length normalization."""
_ROOT_IDF = "root_idf"
_MEAN_LENGTH = "mean_length"


@dataclass(frozen=True, eq=False)
class Lexical:
    """idf and mean length behind the lexical weights of a vocabulary of V tokens."""

    root_idf: Tensor
    """(V,) float32, at least 0: sqrt(idf) of each token; 0 for tokens that are not counted at all."""
    mean_length: float
    """Counted tokens of a document, on average; above 0."""
    has_weight: Tensor
    """(V,) float32: 1 for tokens with weights, 0 for those that only count in lengths, such as stop words."""

    def to(self, device: torch.device) -> "Lexical":
        """Return it on a device."""
        return Lexical(self.root_idf.to(device), self.mean_length, self.has_weight.to(device))

    def write(self, path: Path) -> None:
        """Write the file that load_lexical reads."""
        write_lexical(self.root_idf.cpu(), self.mean_length, path)

    def weights(self, ids: Tensor, mask: Tensor, *, side: Side) -> Tensor:
        """(B, V) float32 weights of texts, from ids (B, L) and a mask (B, L) of the tokens that count."""
        counts = torch.zeros(len(ids), len(self.root_idf), device=ids.device)
        counts.scatter_add_(1, ids, mask.to(counts.dtype))
        own = counts.gather(1, ids)
        if side == "document":
            is_counted = mask & (self.root_idf[ids] > 0)
            lengths = is_counted.sum(dim=1, keepdim=True) / self.mean_length
            own = own * (K1 + 1) / (own + K1 * (1 - B + B * lengths))
        else:
            own = own.clamp(max=1)
        own = own * (self.root_idf * self.has_weight)[ids]
        return counts.zero_().scatter_(1, ids, own)  # a token that a text has twice has equal weights


def with_lexical(
    weights: Tensor, lexical: Lexical | None, card: EncoderCard, ids: Tensor, mask: Tensor, side: Side
) -> Tensor:
    """Add the lexical weights of texts, if the card has any, to the model's own (B, V)."""
    factor = card.side(side).lexical_weight
    if lexical is None or not factor:
        return weights
    return weights + factor * lexical.weights(ids, mask, side=side)


def load_lexical(
    checkpoint: Checkpoint, card: EncoderCard, tokenizer: PreTrainedTokenizerBase, vocabulary: int
) -> Lexical | None:
    """Load the idf and mean length beside a checkpoint's weights; None if the card has no lexical weights.

    card: the checkpoint's own, or that of a training which starts from it. vocabulary: V. Raises InputError
    if the file is missing, damaged, or of another vocabulary.
    """
    if not card.is_lexical:
        return None
    path = needed_file(checkpoint, card)
    root_idf, mean_length = read_lexical(path)
    if len(root_idf) > vocabulary:
        raise InputError(f"{path} is for {len(root_idf)} tokens; wanted at most {vocabulary}, the vocabulary")
    filled = torch.zeros(vocabulary)
    filled[: len(root_idf)] = root_idf
    return Lexical(filled, mean_length, _has_weight(card, tokenizer, vocabulary))


def needed_file(checkpoint: Checkpoint, card: EncoderCard) -> Path:
    """Find the file that a card with lexical weights needs. Raises InputError if there is none."""
    if checkpoint.lexical_file is None:
        where = checkpoint.folder or checkpoint.card.name
        raise InputError(
            f"the card of {card.name} has lexical weights, but there is no {LEXICAL_FILE} beside the weights "
            f"of {where}; make it by run_scripts/train/data/prepare.py lexical"
        )
    return checkpoint.lexical_file


def read_lexical(path: Path) -> tuple[Tensor, float]:
    """Read sqrt(idf) of each token, (V,), and the mean length. Raises InputError on a damaged file."""
    from safetensors.torch import load_file

    try:
        tensors = load_file(path)
        root_idf = tensors[_ROOT_IDF].float()
        mean_length = float(tensors[_MEAN_LENGTH])
    except Exception as error:  # a damaged file has many errors of its own
        raise InputError(f"{path} is no file of lexical weights: {error}") from error
    is_sound = root_idf.ndim == 1 and bool((root_idf.isfinite() & (root_idf >= 0)).all())
    if not is_sound or not 0 < mean_length < float("inf"):
        raise InputError(
            f"{path} is no file of lexical weights: wanted finite numbers of at least 0, and a mean length"
        )
    return root_idf, mean_length


def write_lexical(root_idf: Tensor, mean_length: float, path: Path) -> None:
    """Write sqrt(idf) of each token, (V,), and the mean length; read_lexical gives both back."""
    from safetensors.torch import save

    content = save({_ROOT_IDF: root_idf.float().contiguous(), _MEAN_LENGTH: torch.tensor(mean_length)})
    with whole_file(path, "wb") as file:
        file.write(content)


def _has_weight(card: EncoderCard, tokenizer: PreTrainedTokenizerBase, vocabulary: int) -> Tensor:
    """(V,) 0 at the card's unpooled terms and at special tokens, 1 elsewhere."""
    token_ids = tokenizer.get_vocab()
    none = [token_ids[term] for term in card.unpooled_terms if term in token_ids]
    has_weight = torch.ones(vocabulary)
    has_weight[[*none, *(number for number in tokenizer.all_special_ids if number < vocabulary)]] = 0
    return has_weight
