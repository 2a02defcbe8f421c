"""The adaptation phase: language modelling and its ReLU twin over packed texts (arXiv 2504.10816, 3.2)."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from csplade_pyserini.cards import EncoderCard
from csplade_pyserini.errors import InputError
from csplade_pyserini.model.attention import set_attention
from csplade_pyserini.model.positions import learned_positions
from csplade_pyserini.model.states import last_hidden_states
from csplade_pyserini.training.checkpoints import Student, load_student
from csplade_pyserini.training.losses import adaptation_loss
from csplade_pyserini.training.runs import Run, train
from csplade_pyserini.training.settings import AdaptSettings
from csplade_pyserini.training.texts import PackedDataset, pack


class AdaptationModel(nn.Module):
    """A decoder whose loss is L_CLM + relu_weight * L_ReLU."""

    def __init__(self, student: Student, relu_weight: float) -> None:
        """student: with causal attention, as it predicts the next token."""
        super().__init__()
        self.student = student
        self.backbone = student.model
        self.relu_weight = relu_weight
        self._sums: list[Tensor] = []

    def forward(self, ids: Tensor) -> dict[str, Tensor]:
        """Loss of packed texts, ids (B, L): {"loss": scalar}."""
        decoder = self.student.decoder
        states = last_hidden_states(decoder, ids)[:, :-1]
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
        means = {"clm": round(clm, 4)}
        if self.relu_weight:
            means["relu"] = round(relu, 4)
        return means


def adapt(card: EncoderCard, settings: AdaptSettings) -> Path:
    """Run or resume the phase, and return the checkpoint folder that it wrote. Raises InputError."""
    with Run(card, settings) as run:
        if run.done:
            return run.output
        student = load_student(card, settings)
        positions = learned_positions(student.decoder)
        if positions and settings.sequence_length > positions:
            raise InputError(
                f"sequence_length is {settings.sequence_length}, and the model has {positions} positions: "
                f"wanted at most {positions}"
            )
        set_attention(student.decoder, "causal")
        dataset = _packed(run, student, card, settings)
        train(run, AdaptationModel(student, settings.relu_weight), student, dataset, _stack)
    return run.output


def _packed(run: Run, student: Student, card: EncoderCard, settings: AdaptSettings) -> PackedDataset:
    """Texts of the settings as packed sequences, tokenized once per run."""
    packed = run.folder / "tokens.uint32"
    with run.main_process_first():
        if not packed.is_file():
            pack(settings.data, packed, card=card, tokenizer=student.tokenizer)
    try:
        return PackedDataset(packed, settings.sequence_length)
    except InputError:
        packed.unlink(missing_ok=True)  # else text added to the same files would be ignored
        raise


def _stack(sequences: list[dict[str, Any]]) -> dict[str, Tensor]:
    return {"ids": torch.stack([sequence["ids"] for sequence in sequences])}
