"""An encoder as a live `sentence_transformers.SparseEncoder`: to train, to evaluate, to score on MTEB.

It is built in Python around the loaded encoder, so no code of a checkpoint is run. Prompts are the card's
prefixes; `task` says which side's length and number of terms hold.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from csplade_pyserini.cards import (
    CARD_FILE,
    LEXICAL_FILE,
    EncoderCard,
    Side,
    find_card,
    find_checkpoint,
    with_options,
    write_card,
)
from csplade_pyserini.errors import InputError
from csplade_pyserini.model.encoder import SparseEncoder, _keep_top, build_encoder, load_encoder
from csplade_pyserini.model.head import activate, trainable_peaks
from csplade_pyserini.model.inputs import pad, tokenize

try:
    import sentence_transformers
    from sentence_transformers.base.modules import InputModule
except ImportError as error:
    raise InputError(
        "this needs sentence-transformers 6: pip install 'csplade_pyserini[sentence-transformers]'"
    ) from error

_SIDES: dict[str | None, Side] = {"query": "query"}
"""Side of a task; all other tasks encode documents."""


def to_sparse_encoder(encoder: str | SparseEncoder, **options: Any) -> Any:
    """Make a `sentence_transformers.SparseEncoder` of an encoder, or of a name and load_encoder's options.

    Its embeddings are the weights behind our vectors: the same terms, before the impact scale. In training
    they are not cut to the card's number of terms. Raises InputError as load_encoder does, and if its queries
    are not made by its model.
    """
    if isinstance(encoder, str):
        revision = {"revision": options["revision"]} if options.get("revision") else {}
        _refuse_other_queries(find_card(with_options(encoder, revision)))
        encoder = load_encoder(encoder, **options)
    card = encoder.card
    if not isinstance(encoder, SparseEncoder):
        _refuse_other_queries(card)
    model = sentence_transformers.SparseEncoder(
        modules=[CspladeModule(encoder)],
        prompts={"query": card.query_prefix, "document": card.document_prefix},
        similarity_fn_name="dot",
        device=str(encoder.model.device),
    )
    if card.fold != "none":
        model.decode = functools.partial(_decode_folds, model)
    model.eval()
    return model


def _refuse_other_queries(card: EncoderCard) -> None:
    """Raise InputError if an encoder's queries are not made by its model."""
    if card.queries != "model":
        raise InputError(
            f"queries of {card.name} are made by {card.queries}, which a SparseEncoder of "
            f"sentence-transformers cannot do; {card.name}:query=model takes the model's"
        )


def _decode_folds(model: Any, embeddings: Tensor, top_k: int | None = None) -> Any:
    """Do what SparseEncoder.decode does, whose columns are tokens, for columns that are folds of them."""
    module = model[0]
    module.tokenizer = _Columns(module.encoder.terms)
    try:
        return type(model).decode(model, embeddings, top_k=top_k)
    finally:
        module.tokenizer = module.encoder.tokenizer


class _Columns:
    """Names of columns, where sentence-transformers asks a tokenizer for them."""

    def __init__(self, terms: Sequence[str | None]) -> None:
        self._terms = terms

    def convert_ids_to_tokens(self, ids: Sequence[int]) -> list[str | None]:
        """Term of each column."""
        return [self._terms[column] for column in ids]


class CspladeModule(InputModule):  # type: ignore[misc]
    """The one module of the model: texts to weights (B, V)."""

    forward_kwargs = {"task"}
    save_in_root = True

    def __init__(self, encoder: SparseEncoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.model = encoder.model
        self.tokenizer = encoder.tokenizer

    @property
    def max_seq_length(self) -> int:
        """Tokens of prefix and text of the longer side."""
        return max(self.encoder.card.query_max_length, self.encoder.card.document_max_length)

    def get_embedding_dimension(self) -> int:
        """Size of the vocabulary."""
        return len(self.encoder.terms)

    def preprocess(
        self, inputs: Sequence[str], prompt: str | None = None, task: str | None = None, **_: Any
    ) -> dict[str, Tensor]:
        """Turn texts into padded token ids, as the card says. The prompt stands for the card's prefix."""
        side = _SIDES.get(task, "document")
        prefix: dict[str, Any] = {f"{side}_prefix": prompt or ""}
        card = dataclasses.replace(self.encoder.card, **prefix)
        rows = tokenize(list(inputs), side=side, card=card, tokenizer=self.encoder.tokenizer)
        batch = pad(rows, echo=card.echo, device=torch.device("cpu"))
        return {"input_ids": batch.ids, "attention_mask": batch.attention_mask}

    def forward(self, features: dict[str, Any], task: str | None = None, **_: Any) -> dict[str, Any]:
        """Add `sentence_embedding`: float32 weights (B, V), all >= 0."""
        rows = self._rows(features)
        self.encoder._is_term = self.encoder._is_term.to(self.model.device)
        if self.training:
            weights = self._trainable_weights(rows, _SIDES.get(task, "document"))
        else:
            weights = self._weights(rows, _SIDES.get(task, "document"))
        return {**features, "sentence_embedding": weights}

    def save(self, output_path: str, *_: Any, safe_serialization: bool = True, **__: Any) -> None:
        """Write a checkpoint folder of ours: safetensors, tokenizer, card.toml."""
        self.model.save_pretrained(output_path)
        self.save_tokenizer(output_path)
        write_card(_whole(self.encoder.card), Path(output_path) / CARD_FILE)
        if self.encoder._lexical is not None:
            self.encoder._lexical.write(Path(output_path) / LEXICAL_FILE)

    @classmethod
    def load(cls, model_name_or_path: str, **_: Any) -> Self:
        """Load the folder that `save` wrote."""
        return cls(build_encoder(find_checkpoint(model_name_or_path)))

    def _rows(self, features: Mapping[str, Any]) -> list[list[int]]:
        """Token ids of each text, without padding and echo."""
        rows = []
        for ids, mask in zip(features["input_ids"], features["attention_mask"], strict=True):
            row = ids[mask.bool()].tolist()
            rows.append(row[: len(row) // self.encoder.card.copies])
        return rows

    def _weights(self, rows: list[list[int]], side: Side) -> Tensor:
        """Weights of the terms that our vectors have: the heaviest ones, without those of impact 0."""
        weights = self.encoder._weights(rows, side).clone()
        card = self.encoder.card
        top = card.side(side).top_terms
        if 0 < top < weights.shape[1]:
            weights = _keep_top(weights, top)
        return weights.masked_fill_(torch.round(weights * card.impact_scale) < 1, 0).to(self.model.device)

    def _trainable_weights(self, rows: list[list[int]], side: Side) -> Tensor:
        """Weights with a gradient, of all terms."""
        encoder = self.encoder
        card = encoder.card
        batch = encoder._padded(rows, side)
        head = self.model.get_output_embeddings()
        peaks = trainable_peaks(
            encoder._states(batch), batch.pool_mask, head.weight, bias=head.bias, terms=encoder._head_terms
        )
        weights = activate(peaks, card.logit_scale, card.logit_shift) * encoder._is_term
        return encoder._with_lexical(weights, batch, side)


def _whole(card: EncoderCard) -> EncoderCard:
    """Return a card of whole weights that lie beside it."""
    sources = ("base", "base_file", "adapter", "revision", "tokenizer", "install")
    changes: dict[str, Any] = dict.fromkeys(sources, "")
    return dataclasses.replace(card, weights="folder", layers=0, aliases=(), **changes)
