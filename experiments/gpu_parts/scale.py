"""Sizes of every part: those for a GPU, and toy ones for a CPU."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Training:
    """One run of contrastive training."""

    steps: int
    examples: int
    """Lines of the data. Every epoch sees all of them."""
    batch_size: int
    """Queries per optimiser step, all in one forward pass."""
    negatives: int
    passage_words: int
    lora_rank: int
    options: str = ""
    """More lines of the [contrast] table."""


@dataclass(frozen=True, kw_only=True)
class BackOff:
    """One encoding that runs out of memory on purpose."""

    dtype: str
    texts: int
    budget: int
    """Padded tokens per batch, far beyond the memory."""
    small_budget: int
    extra_bytes: int = 0
    """Memory allowed beside the model's own; 0: all that the device has."""
    fails_above: int = 0
    """Toy only: batches of more tokens raise torch.OutOfMemoryError. 0: the device itself decides."""


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Sizes of all parts."""

    device: str
    dtype: str
    shapes: tuple[str, ...]
    """For encoding and quantization: names in bench.encode.SHAPES."""
    training_shape: str
    """For training and for the back-off."""
    passages: int
    quantized_texts: int
    head: dict[str, int]
    head_dtypes: tuple[str, ...]
    trained_head: dict[str, int]
    training: Training
    equal_runs: Training
    back_off: dict[str, BackOff]

    @property
    def toy(self) -> bool:
        """Whether this is the rehearsal on a CPU."""
        return self.device == "cpu"

    @property
    def patience(self) -> int:
        """Factor of all time limits. A CPU may have other work."""
        return 4 if self.toy else 1


_PAPER = 'dtype = "bfloat16"\ngradient_checkpointing = true\n'
_PAPER_TRAINER = "bf16 = true\ndataloader_num_workers = 2\n"
TRAINER_OPTIONS = {"cuda": _PAPER_TRAINER, "cpu": "use_cpu = true\n"}
"""Lines of [contrast.trainer], by device."""

GPU = Scale(
    device="cuda",
    dtype="bfloat16",
    shapes=("llama-3.1-8b", "llama-3.2-1b"),
    training_shape="llama-3.2-1b",
    passages=4000,
    quantized_texts=128,
    head={"batch": 32, "length": 256, "hidden": 2048, "vocabulary": 128_256},
    head_dtypes=("bfloat16", "float16"),
    trained_head={"batch": 64, "length": 128, "size": 2048, "vocabulary": 128_256},
    # The paper's 1B model: 32 queries of 16 passages per step, LoRA of rank 64 (arXiv 2504.10816, Table 3).
    training=Training(
        steps=200, examples=640, batch_size=32, negatives=15, passage_words=60, lora_rank=64, options=_PAPER
    ),
    equal_runs=Training(
        steps=8, examples=64, batch_size=8, negatives=3, passage_words=60, lora_rank=16, options=_PAPER
    ),
    back_off={
        "whole memory": BackOff(dtype="bfloat16", texts=12_288, budget=2**22, small_budget=2**15),
        "limited memory": BackOff(
            dtype="float32", texts=1024, budget=2**18, small_budget=2**12, extra_bytes=3 * 2**30
        ),
    },
)

TOY = Scale(
    device="cpu",
    dtype="float32",
    shapes=("toy",),
    training_shape="toy",
    passages=40,
    quantized_texts=4,
    head={"batch": 8, "length": 64, "hidden": 64, "vocabulary": 16_384},
    head_dtypes=("float32",),
    trained_head={"batch": 4, "length": 32, "size": 64, "vocabulary": 16_384},
    training=Training(
        steps=12,
        examples=16,
        batch_size=4,
        negatives=2,
        passage_words=12,
        lora_rank=4,
        options='dtype = "float32"\n',
    ),
    equal_runs=Training(
        steps=4,
        examples=8,
        batch_size=2,
        negatives=1,
        passage_words=12,
        lora_rank=4,
        options='dtype = "float32"\n',
    ),
    back_off={
        "injected": BackOff(dtype="float32", texts=24, budget=4096, small_budget=256, fails_above=1500),
    },
)
