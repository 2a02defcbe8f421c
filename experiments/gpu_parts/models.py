"""Random models at real shapes, their tokenizer, and texts: nothing is downloaded."""

import itertools
import json
import math
import random
from pathlib import Path
from typing import Any

import torch
from encode import SHAPES
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedModel, PreTrainedTokenizerBase

from csplade_pyserini.cards import EncoderCard, find_checkpoint
from csplade_pyserini.collections.corpus import open_corpus
from csplade_pyserini.model.backbone import load_tokenizer
from csplade_pyserini.model.encoder import SparseEncoder
from csplade_pyserini.model.head import streamed_peaks
from csplade_pyserini.reproduction.catalogue import SAMPLE

ACTIVE = 0.01
"""Share of the terms that a text activates, about that of trained encoders."""
WORDS = 200
"""Number of words in random texts. Few, so that a short training run meets each of them often."""
OFFSET = 2.0
"""First coordinate of every embedding, times the root of the hidden size. No number of layers moves it much.

The final norm turns it into one bias for all logits.
"""


def random_model(shape: str, device: str, dtype: str) -> PreTrainedModel:
    """A random Llama on the device whose texts activate few terms, as those of a trained encoder do.

    Its head has to be tied to its embeddings. A text's own tokens then have the largest weights, and chance
    gives it some more. Untouched random weights would activate nearly all terms, which real heads and their
    gradients never meet.
    """
    torch.manual_seed(0)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(LlamaConfig(**SHAPES[shape]), dtype=getattr(torch, dtype))
    _make_sparse(model.eval())
    return model


@torch.no_grad()
def _make_sparse(model: PreTrainedModel) -> None:
    """Scale embeddings and logits to 1, then shift the logits until ACTIVE of the terms are above zero."""
    head, norm = model.get_output_embeddings().weight, model.base_model.norm.weight
    if head is not model.get_input_embeddings().weight:
        raise ValueError("the head has to be tied to the embeddings")
    head.div_(model.config.initializer_range)
    head[:, 0] = OFFSET * math.sqrt(head.shape[1])
    ids = torch.randint(len(head), (4, 64), device=head.device)
    norm[0] = 0
    logits = states_of(model, ids)[0] @ head[:10_000].T
    norm.div_(logits.float().std())
    peaks = streamed_peaks(states_of(model, ids), torch.ones_like(ids), head)
    shift = -torch.quantile(peaks.float(), 1 - ACTIVE)
    norm[0] = 1
    norm[0] = shift / (states_of(model, ids)[..., 0].float().mean() * head[0, 0])


def states_of(model: PreTrainedModel, ids: torch.Tensor) -> torch.Tensor:
    """Last hidden states."""
    states: torch.Tensor = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
    return states


def random_encoder(shape: str, device: str, dtype: str) -> SparseEncoder:
    """An encoder over a random model, with the lengths of the paper."""
    card = EncoderCard(
        name="random",
        attention="bidirectional",
        add_bos=False,
        document_max_length=256,
        document_top_terms=192,
    )
    return SparseEncoder(card, random_model(shape, device, dtype), tokenizer())


def tokenizer() -> PreTrainedTokenizerBase:
    """csplade-tiny's, which is in the repository. Its ids are valid in all shapes."""
    return load_tokenizer(find_checkpoint("csplade-tiny"))


def sample_texts(count: int) -> list[str]:
    """Documents of the built-in sample, repeated."""
    texts = [document.text for document in open_corpus(str(SAMPLE / "corpus.jsonl")).documents()]
    return list(itertools.islice(itertools.cycle(texts), count))


def sample_words() -> list[str]:
    """WORDS different words of the sample."""
    words = sorted({word for text in sample_texts(300) for word in text.split() if word.isalpha()})
    return random.Random(0).sample(words, WORDS)


def random_texts(count: int, words: int, *, seed: int = 0) -> list[str]:
    """Texts of words drawn from the sample, all different."""
    vocabulary = sample_words()
    chooser = random.Random(seed)
    return [" ".join(chooser.choices(vocabulary, k=words)) for _ in range(count)]


def write_base(shape: str, device: str, dtype: str, folder: Path) -> dict[str, Any]:
    """Save a random model with its tokenizer, as a base to train from."""
    model = random_model(shape, device, dtype)
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return {"parameters": sum(weight.numel() for weight in model.parameters()), "dtype": dtype}


def write_examples(file: Path, count: int, negatives: int, words: int) -> None:
    """Write contrastive examples. A query has words of its positive, each replaced by the word's partner.

    So no word tells the positive at first, and the model has to learn what goes with what.
    """
    chooser = random.Random(1)
    vocabulary = sample_words()
    partner = dict(zip(vocabulary, chooser.sample(vocabulary, len(vocabulary)), strict=True))
    passages = iter(random_texts(count * (1 + negatives), words, seed=2))
    with file.open("w", encoding="utf-8") as lines:
        for number in range(count):
            positive, *others = itertools.islice(passages, 1 + negatives)
            query = [partner[word] for word in chooser.sample(positive.split(), 6)]
            record = {
                "query_id": str(number),
                "query": " ".join(query),
                "positive_passages": [{"docid": f"{number}-0", "text": positive}],
                "negative_passages": [
                    {"docid": f"{number}-{place}", "text": text} for place, text in enumerate(others, start=1)
                ],
            }
            lines.write(json.dumps(record, ensure_ascii=False) + "\n")
