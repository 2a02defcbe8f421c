"""A step of contrastive training, for test_gather.py: over the whole batch, or over half as one of two.

    python two_processes.py FILE                    torchrun --nproc_per_node 2 two_processes.py FILE

Writes loss and gradients to FILE.
"""

import sys

import torch
import torch.distributed as dist
from tiny_models import VOCABULARY, tiny_model

from csplade_pyserini.cards import EncoderCard
from csplade_pyserini.model.inputs import pad
from csplade_pyserini.training.checkpoints import Student
from csplade_pyserini.training.contrast import ContrastiveModel
from csplade_pyserini.training.settings import ContrastSettings

QUERIES, EACH = 4, 3
SETTINGS = ContrastSettings(
    output="",
    data=("",),
    learning_rate=1.0,
    steps=1,
    query_regulariser=0.05,
    document_regulariser=0.02,
    kl_weight=0.5,
    margin_weight=0.1,
)


def batch(rows: list[list[int]], names: list[int]) -> dict[str, torch.Tensor]:
    padded = pad(rows, echo=False, device=torch.device("cpu"))
    return {
        "ids": padded.ids,
        "attention_mask": padded.attention_mask,
        "pool_mask": padded.pool_mask,
        "keys": torch.tensor(names),
    }


def main() -> None:
    file = sys.argv[1]
    generator = torch.Generator().manual_seed(3)
    lengths = torch.randint(2, 9, (QUERIES * (1 + EACH),), generator=generator).tolist()
    rows = [torch.randint(1, VOCABULARY, (length,), generator=generator).tolist() for length in lengths]
    queries, passages = rows[:QUERIES], rows[QUERIES:]
    query_names = [0, 1, 2, 0]  # the last query is the first again, on the other process
    passage_names = list(range(10, 10 + len(passages)))
    scores = torch.randn(QUERIES, EACH, generator=generator)
    rank, processes = 0, 1
    if dist.is_torchelastic_launched():
        dist.init_process_group("gloo")
        rank, processes = dist.get_rank(), dist.get_world_size()
    mine = slice(rank * QUERIES // processes, (rank + 1) * QUERIES // processes)
    of_mine = slice(mine.start * EACH, mine.stop * EACH)
    # Attention masks of the two halves have widths of their own: padding must not matter.
    student = Student(tiny_model("llama").train(), None, EncoderCard(name="tiny"))
    model = ContrastiveModel(student, SETTINGS)
    wrapped = torch.nn.parallel.DistributedDataParallel(model) if processes > 1 else model
    loss = wrapped(
        queries=batch(queries[mine], query_names[mine]),
        passages=batch(passages[of_mine], passage_names[of_mine]) | {"scores": scores[mine].flatten()},
    )["loss"]
    loss.backward()
    loss = loss.detach()
    if processes > 1:
        dist.all_reduce(loss, dist.ReduceOp.SUM)
        loss /= processes
    if rank == 0:
        gradients = {
            name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None
        }
        torch.save({"loss": loss, "gradients": gradients}, file)
    if processes > 1:
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
