"""Contrastive training: InfoNCE over hard and in-batch negatives, with FLOPS regularisers.

The objective is that of arXiv 2504.10816, 2.3; distillation goes beyond it.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from csplade_pyserini.cards import EncoderCard, Side
from csplade_pyserini.errors import InputError
from csplade_pyserini.model.attention import set_attention
from csplade_pyserini.model.head import activate, shifted, trainable_peaks
from csplade_pyserini.model.inputs import pad, pooled_tokens, tokenize
from csplade_pyserini.model.lexical import with_lexical
from csplade_pyserini.model.positions import check_lengths
from csplade_pyserini.model.states import last_hidden_states
from csplade_pyserini.model.vocabulary import head_terms
from csplade_pyserini.query_sides.lookup import LookupEncoder
from csplade_pyserini.training import losses
from csplade_pyserini.training.checkpoints import Student, load_student
from csplade_pyserini.training.examples import Example, ExampleDataset, key, plain_file
from csplade_pyserini.training.gather import gather, process_rank
from csplade_pyserini.training.runs import Run, train
from csplade_pyserini.training.settings import ContrastSettings
from csplade_pyserini.training.teachers import TeacherVectors
from csplade_pyserini.training.token_weights import TokenWeights, start_weights
from csplade_pyserini.training.watch import Activity

_IDF_EXAMPLES = 10_000
"""Most examples whose passages a table's idf is counted over."""


class ContrastiveModel(nn.Module):
    """An encoder for queries and passages, whose loss is the contrastive objective."""

    step = 0
    """Optimiser steps done, for ramps and windows. The trainer sets it."""

    def __init__(self, student: Student, settings: ContrastSettings) -> None:
        super().__init__()
        self.student = student
        self.backbone = student.model
        self.settings = settings
        self.lookup = student.lookup
        self._lexical = student.lexical
        self.activity = Activity()
        self._vocabulary = student.decoder.get_output_embeddings().weight.shape[0]
        self._terms = head_terms(student.card, student.tokenizer, self._vocabulary)

    def forward(self, queries: dict[str, Tensor], passages: dict[str, Tensor]) -> dict[str, Tensor]:
        """Loss of one batch of ContrastCollator: {"loss": scalar}.

        Each query has N passages in a row, its positive first.
        """
        if self._terms is not None and self._terms.folds.device != queries["ids"].device:
            self._terms = self._terms.to(queries["ids"].device)
        terms = None
        if self.settings.sampled_terms:
            terms = self._sampled_terms(queries, passages)
        query_peaks = None
        if self.lookup is not None:
            query_weights = self.lookup(queries["ids"], queries["attention_mask"])  # (Q, T)
        else:
            query_peaks = self._peaks(queries, terms)  # (Q, T)
            query_weights = self._weights(query_peaks, self.settings.query_window)
        passage_peaks = self._peaks(passages, terms)  # (Q * N, T)
        passage_weights = self._weights(passage_peaks, self.settings.document_window)
        vector_error = None
        if self.settings.vector_weight:
            vector_error = self._vector_error(passages, passage_peaks, passage_weights)
            if query_peaks is not None:
                vector_error = vector_error + self._vector_error(queries, query_peaks, query_weights)
        if query_peaks is not None:
            query_weights = self._with_lexical(query_weights, queries, "query")
        passage_weights = self._with_lexical(passage_weights, passages, "document")
        all_queries = gather(query_weights)
        all_passages = gather(passage_weights)
        parts = self._retrieval_losses(queries, passages, query_weights, passage_weights, all_passages)
        if vector_error is not None:
            parts["vector"] = vector_error
        parts["query_flops"] = losses.flops(all_queries)
        parts["document_flops"] = losses.flops(all_passages, self._penalties())
        self.activity.add(all_queries, all_passages, parts)
        factors = self._factors()
        weighted = [factors[name] * part for name, part in parts.items() if factors[name]]
        return {"loss": torch.stack(weighted).sum()}

    def take(self) -> dict[str, float]:
        """Mean losses and activity since the last call."""
        return self.activity.take()

    def _penalties(self) -> Tensor | None:
        """(V,) factors of the documents' FLOPS by term; None if all count alike."""
        if self.lookup is None or not self.settings.idf_flops:
            return None
        return self.lookup.penalties()

    def _factors(self) -> dict[str, float]:
        """Factor of each part of the loss at this step."""
        settings = self.settings
        share = losses.ramp(self.step, settings.ramp_steps)
        return {
            "contrast": settings.contrast_weight,
            "kl": settings.kl_weight,
            "margin": settings.margin_weight,
            "vector": settings.vector_weight,
            "query_flops": share * settings.query_regulariser,
            "document_flops": share * settings.document_regulariser,
        }

    def _sampled_terms(self, *batches: dict[str, Tensor]) -> Tensor | None:
        """Sorted numbers of the batches' terms and of random others; None for all terms.

        The batches' terms are those of their texts and of their teacher's vectors.
        """
        count = self._vocabulary
        if self._terms is not None:
            count = self._terms.count
        chance = self.settings.sampled_terms / count
        chosen: Tensor = torch.rand(count, device=batches[0]["ids"].device) < chance
        for batch in batches:
            ids = batch["ids"].flatten()
            if self._terms is not None:
                ids = self._terms.folds[ids]
                ids = ids[ids < count]
            for known in (ids, batch.get("teacher_terms")):
                if known is not None:
                    chosen[known] = True
        if chosen.all():
            return None
        return chosen.nonzero().squeeze(1)

    def _peaks(self, batch: dict[str, Tensor], terms: Tensor | None) -> Tensor:
        """Largest logits (B, T); -inf for terms that are not among `terms`, unless that is None."""
        decoder = self.student.decoder
        states = last_hidden_states(decoder, batch["ids"], batch["attention_mask"])
        head = decoder.get_output_embeddings()
        mask = batch["pool_mask"]
        if terms is None:
            return trainable_peaks(states, mask, head.weight, bias=head.bias, terms=self._terms)
        count = self._vocabulary
        entries = terms
        head_terms = None
        if self._terms is not None:
            count = self._terms.count
            chosen = torch.zeros(count, dtype=torch.bool, device=terms.device)
            chosen[terms] = True
            entries, head_terms = self._terms.only(chosen)
        bias = head.bias
        if bias is not None:
            bias = bias[entries]
        peaks = trainable_peaks(states, mask, head.weight[entries], bias=bias, terms=head_terms)
        return peaks.new_full((len(peaks), count), float("-inf")).index_copy(1, terms, peaks)

    def _weights(self, peaks: Tensor, window: int) -> Tensor:
        """Weights of peaks, (B, T); in the first steps only the `window` heaviest of each row.

        Weights below the card's `least_weight` stay, so that they have a gradient.
        """
        card = self.student.card
        weights = activate(peaks, card.logit_scale, card.logit_shift)
        if self.step < self.settings.window_steps:
            return losses.keep_heaviest(weights, window)
        return weights

    def _with_lexical(self, weights: Tensor, batch: dict[str, Tensor], side: Side) -> Tensor:
        """Add the lexical weights, if the card has any, to the model's own (B, V)."""
        if self._lexical is None:
            return weights
        self._lexical = self._lexical.to(weights.device)
        return with_lexical(weights, self._lexical, self.student.card, batch["ids"], batch["text_mask"], side)

    def _retrieval_losses(
        self,
        queries: dict[str, Tensor],
        passages: dict[str, Tensor],
        query_weights: Tensor,
        passage_weights: Tensor,
        all_passages: Tensor,
    ) -> dict[str, Tensor]:
        """InfoNCE over the passages of all processes, and distillation over each query's own."""
        count = len(query_weights)
        each = len(passage_weights) // count
        scores = query_weights @ all_passages.T  # (Q, all P)
        positives = (process_rank() * count + torch.arange(count, device=scores.device)) * each
        all_queries_keys = gather(queries["keys"])
        ignored = _ignored(queries["keys"], all_queries_keys, gather(passages["keys"]), positives, each)
        temperature = self.settings.temperature
        contrast = losses.info_nce(scores, positives, temperature=temperature, ignored=ignored)
        return {"contrast": contrast} | self._distillation_losses(passages, query_weights, passage_weights)

    def _distillation_losses(
        self, passages: dict[str, Tensor], query_weights: Tensor, passage_weights: Tensor
    ) -> dict[str, Tensor]:
        """Losses against the teacher's scores of each query's own passages, as the settings ask for."""
        settings = self.settings
        if not settings.kl_weight and not settings.margin_weight:
            return {}
        count = len(query_weights)
        own_weights = passage_weights.view(count, -1, passage_weights.shape[1])  # (Q, N, V)
        own = torch.einsum("qv,qnv->qn", query_weights, own_weights) / settings.temperature
        teacher = passages["scores"].view(count, -1) * settings.teacher_scale
        parts = {}
        if settings.kl_weight:
            parts["kl"] = losses.kl_divergence(own, teacher)
        if settings.margin_weight:
            parts["margin"] = losses.margin_mse(own, teacher)
        return parts

    def _vector_error(self, batch: dict[str, Tensor], peaks: Tensor, weights: Tensor) -> Tensor:
        """Error of weights against those of the teacher, a scalar."""
        card = self.student.card
        reached = shifted(peaks, card.logit_scale, card.logit_shift)
        return losses.vector_error(reached, weights, _dense(batch, weights))


class ContrastCollator:
    """Examples to batches: tokenized, padded and, with echo, repeated as the card says."""

    def __init__(
        self,
        card: EncoderCard,
        tokenizer: PreTrainedTokenizerBase,
        teachers: Mapping[Side, TeacherVectors],
        lookup: LookupEncoder | None = None,
    ) -> None:
        """teachers: one per side, or none. lookup: tokenizes the queries, unless the model makes them."""
        self.card = card
        self.tokenizer = tokenizer
        self.teachers = teachers
        self.lookup = lookup
        self._pooled = pooled_tokens(card, tokenizer, len(tokenizer))

    def __call__(self, examples: Sequence[Example]) -> dict[str, dict[str, Tensor]]:
        """Make the batches {"queries": ..., "passages": ...}.

        Each has ids, attention_mask, pool_mask, keys, and what distillation needs.
        """
        passages = [passage for example in examples for passage in example.passages]
        query_ids = [example.query_id for example in examples]
        docids = [passage.docid for passage in passages]
        queries = self._batch([example.query for example in examples], query_ids, "query")
        documents = self._batch([passage.text for passage in passages], docids, "document")
        if all(passage.score is not None for passage in passages):
            documents["scores"] = torch.tensor([passage.score for passage in passages], dtype=torch.float32)
        return {"queries": queries, "passages": documents}

    def _batch(self, texts: Sequence[str], ids: Sequence[str], side: Side) -> dict[str, Tensor]:
        if side == "query" and self.lookup is not None:
            rows = self.lookup.token_ids(texts)
            batch = pad(rows, echo=False, device=torch.device("cpu"))
        else:
            rows = tokenize(texts, side=side, card=self.card, tokenizer=self.tokenizer)
            batch = pad(rows, echo=self.card.echo, device=torch.device("cpu"), pooled=self._pooled, side=side)
        tensors = {"ids": batch.ids, "attention_mask": batch.attention_mask, "pool_mask": batch.pool_mask}
        tensors["text_mask"] = batch.text_mask
        tensors["keys"] = torch.tensor([key(name) for name in ids])
        if side in self.teachers:
            tensors |= self.teachers[side].sparse(ids)
        return tensors


def contrast(card: EncoderCard, settings: ContrastSettings) -> Path:
    """Run or resume the phase, and return the checkpoint folder that it wrote.

    Raises InputError on bad input, CheckError if the ReLU dies.
    """
    if settings.sampled_terms and card.position_top_terms:
        raise InputError(
            f"sampled_terms is {settings.sampled_terms} and position_top_terms of the card is "
            f"{card.position_top_terms}: the heaviest terms of a position are found among all; set one to 0"
        )
    if settings.query_side == "lookup" and card.fold != "none":
        raise InputError(
            f"query_side is 'lookup' and fold of the card is {card.fold!r}: a table is trained for tokens, "
            "not for folds; train without fold, or make the table afterwards with train lookup"
        )
    with Run(card, settings) as run:
        if run.done:
            return run.output
        with run.main_process_first():
            files = [plain_file(Path(name), run.folder) for name in settings.data]
        scored = bool(settings.kl_weight or settings.margin_weight)
        examples = ExampleDataset(files, negatives=settings.negatives, scored=scored, seed=settings.seed)
        student = load_student(card, settings)
        set_attention(student.decoder, card.attention)
        training_card = _training_card(card, settings)
        check_lengths(student.decoder, training_card)
        lookup = None
        if settings.query_side == "lookup":
            weights = _token_weights(student, training_card, settings, examples)
            student = _with_lookup(student, weights)
            lookup = LookupEncoder(training_card, weights.table)
        teachers = _read_teachers(card, settings, student)
        collate = ContrastCollator(training_card, student.tokenizer, teachers, lookup)
        train(run, ContrastiveModel(student, settings), student, examples, collate)
    return run.output


def _with_lookup(student: Student, weights: TokenWeights) -> Student:
    """Give the student token weights that make its queries."""
    card = dataclasses.replace(student.card, query="lookup", query_encoder="")
    return dataclasses.replace(student, card=card, lookup=weights)


def _token_weights(
    student: Student, card: EncoderCard, settings: ContrastSettings, examples: ExampleDataset
) -> TokenWeights:
    """Token weights as the settings say: a table's, or idf over the examples' passages. Raises InputError."""
    seen = (examples[index] for index in range(min(len(examples), _IDF_EXAMPLES)))
    return start_weights(
        settings.lookup_table,
        (passage.text for example in seen for passage in example.passages),
        card,
        student.tokenizer,
        student.decoder.get_output_embeddings().weight.shape[0],
        trained=settings.train_table,
    )


def _read_teachers(
    card: EncoderCard, settings: ContrastSettings, student: Student
) -> dict[Side, TeacherVectors]:
    """Read the teacher's vectors of both sides, if the loss needs them. Raises InputError."""
    if not settings.vector_weight:
        return {}
    vocabulary = student.decoder.get_output_embeddings().weight.shape[0]
    folders: dict[Side, str] = {"document": settings.teacher_documents}
    if student.lookup is None:
        folders["query"] = settings.teacher_queries
    return {
        side: TeacherVectors(Path(folder), student.tokenizer, vocabulary, card.impact_scale, card=card)
        for side, folder in folders.items()
    }


def _training_card(card: EncoderCard, settings: ContrastSettings) -> EncoderCard:
    """Return the card with the lengths of training, if the settings have them."""
    return dataclasses.replace(
        card,
        query_max_length=settings.query_max_length or card.query_max_length,
        document_max_length=settings.document_max_length or card.document_max_length,
    )


def _ignored(
    queries: Tensor, all_queries: Tensor, all_passages: Tensor, positives: Tensor, each: int
) -> Tensor:
    """(Q, P) True for in-batch passages that are no negatives of a query.

    These are copies of its own positive, and the positives of other lines with the same query. Such lines
    hardly ever meet in MS MARCO. They meet in every batch if queries have dozens of relevant documents.
    """
    known = all_passages[::each]  # (all Q): the positive of each query
    same_query = queries[:, None] == all_queries[None]  # (Q, all Q)
    ignored = (same_query[:, :, None] & (known[None, :, None] == all_passages[None, None])).any(dim=1)
    ignored[torch.arange(len(queries), device=queries.device), positives] = False
    return ignored


def _dense(batch: dict[str, Tensor], like: Tensor) -> Tensor:
    """Dense weights (B, V) of a teacher, from a batch that holds them as rows, terms and weights."""
    dense = torch.zeros_like(like)
    dense[batch["teacher_rows"], batch["teacher_terms"]] = batch["teacher_weights"].to(dense.dtype)
    return dense
