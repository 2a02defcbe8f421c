"""Contrastive training: InfoNCE over hard and in-batch negatives with FLOPS regularisers (arXiv 2504.10816, 2.3)."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from csplade_pyserini.cards import EncoderCard, Side
from csplade_pyserini.model.attention import set_attention
from csplade_pyserini.model.head import activate, trainable_peaks
from csplade_pyserini.model.inputs import pad, tokenize
from csplade_pyserini.training import losses
from csplade_pyserini.training.checkpoints import Student, load_student
from csplade_pyserini.training.examples import Example, ExampleDataset, key, plain_file
from csplade_pyserini.training.gather import gather, process_rank
from csplade_pyserini.training.runs import Run, train
from csplade_pyserini.training.settings import ContrastSettings
from csplade_pyserini.training.teachers import TeacherVectors
from csplade_pyserini.training.watch import Activity


class ContrastiveModel(nn.Module):
    """An encoder, shared by queries and passages, with the whole contrastive objective as its loss."""

    step = 0
    """Optimiser steps done: what ramps and windows go by. Set by the trainer."""

    def __init__(self, student: Student, settings: ContrastSettings) -> None:
        super().__init__()
        self.student, self.backbone, self.settings = student, student.model, settings
        self.activity = Activity()

    def forward(self, queries: dict[str, Tensor], passages: dict[str, Tensor]) -> dict[str, Tensor]:
        """Batches as ContrastCollator makes them, N passages a query, its positive first; {"loss": scalar}."""
        terms = self._sampled_terms(queries, passages) if self.settings.sampled_terms else None
        query_peaks, passage_peaks = (
            self._peaks(queries, terms),
            self._peaks(passages, terms),
        )  # (Q, V), (Q * N, V)
        scale = self.student.card.logit_scale
        query_weights, passage_weights = activate(query_peaks, scale), activate(passage_peaks, scale)
        if self.step < self.settings.window_steps:
            query_weights = losses.keep_heaviest(query_weights, self.settings.query_window)
            passage_weights = losses.keep_heaviest(passage_weights, self.settings.document_window)
        all_queries, all_passages = gather(query_weights), gather(passage_weights)
        parts = self._retrieval_losses(queries, passages, query_weights, passage_weights, all_passages)
        if self.settings.vector_weight:
            parts["vector"] = losses.vector_error(
                query_peaks * scale, query_weights, _dense(queries, query_weights)
            )
            parts["vector"] = parts["vector"] + losses.vector_error(
                passage_peaks * scale, passage_weights, _dense(passages, passage_weights)
            )
        share = losses.ramp(self.step, self.settings.ramp_steps)
        parts["query_flops"], parts["document_flops"] = losses.flops(all_queries), losses.flops(all_passages)
        factors = {
            "contrast": self.settings.contrast_weight,
            "kl": self.settings.kl_weight,
            "margin": self.settings.margin_weight,
            "vector": self.settings.vector_weight,
            "query_flops": share * self.settings.query_regulariser,
            "document_flops": share * self.settings.document_regulariser,
        }
        self.activity.add(all_queries, all_passages, parts)
        return {
            "loss": torch.stack([factors[name] * part for name, part in parts.items() if factors[name]]).sum()
        }

    def take(self) -> dict[str, float]:
        """Mean losses and activity since the last call."""
        return self.activity.take()

    def _sampled_terms(self, *batches: dict[str, Tensor]) -> Tensor | None:
        """Term ids in order: all that the batches' texts and teacher vectors have, and random ones; None where that is all terms."""
        vocabulary = self.student.decoder.get_output_embeddings().weight.shape[0]
        chosen = (
            torch.rand(vocabulary, device=batches[0]["ids"].device) < self.settings.sampled_terms / vocabulary
        )
        for batch in batches:
            for known in (batch["ids"], batch.get("teacher_terms")):
                if known is not None:
                    chosen[known.flatten()] = True
        return None if chosen.all() else chosen.nonzero().squeeze(1)

    def _peaks(self, batch: dict[str, Tensor], terms: Tensor | None) -> Tensor:
        """(B, V), -inf for terms that are not among `terms`, if those are given."""
        decoder = self.student.decoder
        states = decoder.base_model(
            input_ids=batch["ids"], attention_mask=batch["attention_mask"], use_cache=False
        ).last_hidden_state
        head = decoder.get_output_embeddings()
        if terms is None:
            return trainable_peaks(states, batch["pool_mask"], head.weight, bias=head.bias)
        bias = head.bias[terms] if head.bias is not None else None
        peaks = trainable_peaks(states, batch["pool_mask"], head.weight[terms], bias=bias)
        return peaks.new_full((len(peaks), len(head.weight)), float("-inf")).index_copy(1, terms, peaks)

    def _retrieval_losses(
        self,
        queries: dict[str, Tensor],
        passages: dict[str, Tensor],
        query_weights: Tensor,
        passage_weights: Tensor,
        all_passages: Tensor,
    ) -> dict[str, Tensor]:
        """InfoNCE over the passages of all processes, and what is asked of distillation over each query's own."""
        count, each = len(query_weights), len(passage_weights) // len(query_weights)
        scores = query_weights @ all_passages.T  # (Q, all P)
        positives = (process_rank() * count + torch.arange(count, device=scores.device)) * each
        parts = {
            "contrast": losses.info_nce(
                scores,
                positives,
                temperature=self.settings.temperature,
                ignored=_ignored(
                    queries["keys"], gather(queries["keys"]), gather(passages["keys"]), positives, each
                ),
            )
        }
        if self.settings.kl_weight or self.settings.margin_weight:
            own = (
                torch.einsum("qv,qnv->qn", query_weights, passage_weights.view(count, each, -1))
                / self.settings.temperature
            )
            teacher = passages["scores"].view(count, each) * self.settings.teacher_scale
            if self.settings.kl_weight:
                parts["kl"] = losses.kl_divergence(own, teacher)
            if self.settings.margin_weight:
                parts["margin"] = losses.margin_mse(own, teacher)
        return parts


class ContrastCollator:
    """Examples to batches: tokenized, padded and, with echo, repeated as the card says."""

    def __init__(
        self,
        card: EncoderCard,
        tokenizer: PreTrainedTokenizerBase,
        teachers: tuple[TeacherVectors, TeacherVectors] | None,
    ) -> None:
        """teachers: those of queries and of documents."""
        self.card, self.tokenizer, self.teachers = card, tokenizer, teachers

    def __call__(self, examples: Sequence[Example]) -> dict[str, dict[str, Tensor]]:
        """{"queries": ..., "passages": ...}, each with ids, attention_mask, pool_mask, keys, and what distillation needs."""
        passages = [passage for example in examples for passage in example.passages]
        queries = self._batch(
            [example.query for example in examples], [example.query_id for example in examples], "query"
        )
        documents = self._batch(
            [passage.text for passage in passages], [passage.docid for passage in passages], "document"
        )
        if all(passage.score is not None for passage in passages):
            documents["scores"] = torch.tensor([passage.score for passage in passages], dtype=torch.float32)
        return {"queries": queries, "passages": documents}

    def _batch(self, texts: Sequence[str], ids: Sequence[str], side: Side) -> dict[str, Tensor]:
        rows = tokenize(texts, side=side, card=self.card, tokenizer=self.tokenizer)
        batch = pad(rows, echo=self.card.echo, device=torch.device("cpu"))
        tensors = {"ids": batch.ids, "attention_mask": batch.attention_mask, "pool_mask": batch.pool_mask}
        tensors["keys"] = torch.tensor([key(name) for name in ids])
        if self.teachers is not None:
            tensors |= self.teachers[side == "document"].sparse(ids)
        return tensors


def contrast(card: EncoderCard, settings: ContrastSettings) -> Path:
    """Run the phase, or resume it, and return the checkpoint folder that it leaves.

    Raises InputError on bad input, CheckError where the ReLU dies.
    """
    with Run(card, settings) as run:
        if run.done:
            return run.output
        with run.main_process_first():
            files = [plain_file(Path(name), run.folder) for name in settings.data]
        scored = bool(settings.kl_weight or settings.margin_weight)
        examples = ExampleDataset(files, negatives=settings.negatives, scored=scored, seed=settings.seed)
        student = load_student(card, settings)
        set_attention(student.decoder, card.attention)
        teachers = None
        if settings.vector_weight:
            vocabulary = student.decoder.get_output_embeddings().weight.shape[0]
            teachers = (
                TeacherVectors(
                    Path(settings.teacher_queries), student.tokenizer, vocabulary, card.impact_scale
                ),
                TeacherVectors(
                    Path(settings.teacher_documents), student.tokenizer, vocabulary, card.impact_scale
                ),
            )
        lengths = {
            key: getattr(settings, key) or getattr(card, key)
            for key in ("query_max_length", "document_max_length")
        }
        collate = ContrastCollator(dataclasses.replace(card, **lengths), student.tokenizer, teachers)
        train(run, ContrastiveModel(student, settings), student, examples, collate)
    return run.output


def _ignored(
    queries: Tensor, all_queries: Tensor, all_passages: Tensor, positives: Tensor, each: int
) -> Tensor:
    """(Q, P) True where an in-batch passage is no negative: the query's own positive, or another line of the same query's.

    In MS MARCO that hardly happens; where queries have dozens of relevant documents it does in every batch.
    """
    known = all_passages[::each]  # (all Q) the positive of each query
    same_query = queries[:, None] == all_queries[None]  # (Q, all Q)
    ignored = (same_query[:, :, None] & (known[None, :, None] == all_passages[None, None])).any(dim=1)
    ignored[torch.arange(len(queries), device=queries.device), positives] = False
    return ignored


def _dense(batch: dict[str, Tensor], like: Tensor) -> Tensor:
    """A teacher's weights (B, V) of a batch that holds them as places and values."""
    dense = torch.zeros_like(like)
    dense[batch["teacher_rows"], batch["teacher_terms"]] = batch["teacher_weights"].to(dense.dtype)
    return dense
