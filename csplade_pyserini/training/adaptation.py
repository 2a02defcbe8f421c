"""The adaptation phase: causal language modelling and its ReLU twin over packed sequences (arXiv 2504.10816, 3.2)."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from csplade_pyserini.cards import EncoderCard
from csplade_pyserini.errors import InputError
from csplade_pyserini.model.attention import set_attention
from csplade_pyserini.training.checkpoints import Student, load_student
from csplade_pyserini.training.losses import adaptation_loss
from csplade_pyserini.training.runs import Run, train
from csplade_pyserini.training.settings import AdaptSettings
from csplade_pyserini.training.texts import PackedDataset, pack


class AdaptationModel(nn.Module):
    """A decoder with L_CLM + relu_weight * L_ReLU as its loss."""

    def __init__(self, student: Student, relu_weight: float) -> None:
        """The phase is always causal: it predicts the next token."""
        super().__init__()
        self.student, self.backbone, self.relu_weight = student, student.model, relu_weight
        self._sums: list[Tensor] = []

    def forward(self, ids: Tensor) -> dict[str, Tensor]:
        """ids (B, L) of packed texts; {"loss": scalar}."""
        decoder = self.student.decoder
        states = decoder.base_model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1]
        head = decoder.get_output_embeddings()
        loss, clm, relu = adaptation_loss(
            states.flatten(0, 1),
            ids[:, 1:].flatten(),
            head.weight,
            bias=head.bias,
            relu_weight=self.relu_weight,
        )
        self._sums.append(torch.stack([clm, relu]))
        return {"loss": loss}

    def take(self) -> dict[str, float]:
        """Mean losses since the last call."""
        if not self._sums:
            return {}
        clm, relu = torch.stack(self._sums).mean(dim=0).tolist()
        self._sums.clear()
        return {"clm": round(clm, 4)} | ({"relu": round(relu, 4)} if self.relu_weight else {})


def adapt(card: EncoderCard, settings: AdaptSettings) -> Path:
    """Run the phase, or resume it, and return the checkpoint folder that it leaves. Raises InputError."""
    with Run(card, settings) as run:
        if run.done:
            return run.output
        student = load_student(card, settings)
        set_attention(student.decoder, "causal")
        packed = run.folder / "tokens.uint32"
        with run.main_process_first():
            if not packed.is_file():
                pack(settings.data, packed, card=card, tokenizer=student.tokenizer)
        model = AdaptationModel(student, settings.relu_weight)
        try:
            dataset = PackedDataset(packed, settings.sequence_length)
        except InputError:
            packed.unlink(missing_ok=True)  # else more text in the same files would not be looked at
            raise
        train(run, model, student, dataset, _stack)
    return run.output


def _stack(sequences: list[dict[str, Any]]) -> dict[str, Tensor]:
    return {"ids": torch.stack([sequence["ids"] for sequence in sequences])}
