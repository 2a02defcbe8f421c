"""The command `tokenizer`: a byte-level BPE over words."""

import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from outputs import absent
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from tqdm import tqdm
from transformers import PreTrainedTokenizerFast

from csplade_pyserini.errors import InputError
from csplade_pyserini.files.whole import whole_folder

END = "<|endoftext|>"


def prepare_tokenizer(texts: Path, output: Path, vocabulary: int) -> None:
    """Train a tokenizer on the contents of a JSON Lines file. Raises InputError if it cannot be read."""
    if not absent(output / "tokenizer.json"):
        return
    if output.exists():
        raise InputError(f"{output} exists and holds no tokenizer: choose another output, or remove it")
    try:
        tokenizer = train_tokenizer(read_contents(texts), vocabulary)
    except OSError as error:
        raise InputError(f"cannot read {texts}: {error.strerror or error}") from error
    with whole_folder(output) as partial:
        tokenizer.save_pretrained(partial)
    print(f"{output}: {len(tokenizer)} entries", file=sys.stderr)


def read_contents(texts: Path) -> Iterator[str]:
    """Yield the contents of a JSON Lines file."""
    with texts.open(encoding="utf-8") as lines:
        for line in tqdm(lines, desc="read", mininterval=5):
            yield json.loads(line)["contents"]


def train_tokenizer(texts: Iterable[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """Train a lower-casing byte-level BPE in which every word begins with a space.

    A word is then one term wherever it stands. Words are runs of letters, of digits, or of neither. They
    get their space even after a bracket or a hyphen, so decoding does not give the text back.
    """
    word = Regex(r"'(?:[sdmt]|ll|ve|re)(?![\p{L}\p{M}])|[\p{L}\p{M}]+|\p{N}+|[^\s\p{L}\p{M}\p{N}]+")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(word, behavior="removed", invert=True),  # drops what is between words
            pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=[END], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=END, eos_token=END, pad_token=END)
