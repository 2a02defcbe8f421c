"""Lucene keeps every term of a vocabulary whole: none split, merged or lost."""

import json

import pytest
from programs import SAMPLE, run_python
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

from csplade_pyserini.impacts import to_terms

pytestmark = pytest.mark.jvm

ANALYSE = """
import json, sys
from pyserini.index.lucene import LuceneIndexReader
reader = LuceneIndexReader(sys.argv[1])
print(json.dumps({term.term: [term.df, term.cf] for term in reader.terms()}))
"""


def sentencepiece_like(texts) -> Tokenizer:
    """A Unigram tokenizer with `▁`, byte fallback and the white-space tokens that Gemma's and NeoX's have."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    tokenizer.train_from_iterator(
        texts,
        trainers.UnigramTrainer(
            vocab_size=600, special_tokens=special, unk_token="<unk>", show_progress=False
        ),
    )
    tokenizer.add_tokens(
        [
            "\n",
            "\n\n",
            "\t",
            "  ",
            "   ",
            "\u3000",
            "\u00a0",
            "\u2028",
            "a b",
            "▁▁▁▁",
            "x" * 300,
            "\x00",
            "\x1f",
        ]
    )
    return tokenizer


@pytest.fixture(scope="module", params=["byte-level", "sentencepiece"])
def terms(request, byte_tokenizer):
    if request.param == "byte-level":
        vocabulary = byte_tokenizer.get_vocab()
    else:
        texts = [json.loads(line)["contents"] for line in (SAMPLE / "corpus.jsonl").read_text().splitlines()]
        vocabulary = sentencepiece_like(texts).get_vocab()
    tokens = [token for token, _ in sorted(vocabulary.items(), key=lambda pair: pair[1])]
    return to_terms(tokens)


def test_a_term_is_never_split_merged_or_lost_by_lucene(terms, tmp_path):
    """Term number i stands in document i mod 5 with impact 1 + i mod 7: Lucene has to count exactly that."""
    assert len(set(terms)) == len(terms)
    documents = [{} for _ in range(5)]
    for number, term in enumerate(terms):
        documents[number % 5][term] = 1 + number % 7
    collection = tmp_path / "collection"
    collection.mkdir()
    with (collection / "docs.jsonl").open("w", encoding="utf-8") as file:
        for number, vector in enumerate(documents):
            file.write(
                json.dumps({"id": f"d{number}", "contents": "", "vector": vector}, ensure_ascii=False) + "\n"
            )
    built = run_python(
        "-m", "pyserini.index.lucene", "--collection", "JsonVectorCollection", "--input", collection,
        "--index", tmp_path / "index",
        "--generator", "DefaultLuceneDocumentGenerator", "--threads", "1", "--impact", "--pretokenized",
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    counted = json.loads(run_python("-c", ANALYSE, tmp_path / "index").stdout)
    assert counted == {term: [1, 1 + number % 7] for number, term in enumerate(terms)}
