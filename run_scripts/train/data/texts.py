"""Passages for language modelling, from every source that has running text."""

import re
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from sources import msmarco_passages, natural, nfcorpus_documents, wordnet_glosses

PASSAGE_CHARACTERS = range(100, 1000)
"""Shorter paragraphs of running text are left out. Longer ones are split at their line ends."""


def read_texts(data: Path) -> Iterator[tuple[str, str]]:
    """Yield (id, passage) for every text in the development data."""
    for name, text in msmarco_passages(data).items():
        yield f"msmarco:{name}", text
    for name, (title, text) in nfcorpus_documents(data).items():
        yield f"nfcorpus:{name}", f"{title} {text}"
    yield from _wikitext(data)
    for corpus in ("brown", "abc", "inaugural", "state_union", "webtext"):
        yield from _nltk(data, corpus)
    for number, (term, gloss) in enumerate(wordnet_glosses(data)):
        yield f"wordnet:{number}", f"{term}: {gloss}"


def _wikitext(data: Path) -> Iterator[tuple[str, str]]:
    """Yield the paragraphs of WikiText-2."""
    for name in ("valid", "test"):
        text = (data / "text" / "wikitext-2" / f"{name}.txt").read_text(encoding="utf-8")
        # Each line is a paragraph or a heading. Headings stand between equals signs.
        lines = [line for line in text.splitlines() if not line.startswith(" =")]
        yield from _numbered(f"wikitext-2:{name}", lines)


def _nltk(data: Path, corpus: str) -> Iterator[tuple[str, str]]:
    """Yield the paragraphs of one of NLTK's corpora."""
    with zipfile.ZipFile(data / "text" / "nltk" / f"{corpus}.zip") as archive:
        for member in archive.namelist():
            name = member.rpartition("/")[2]
            if corpus == "brown" and re.fullmatch(r"c[a-r]\d\d", name):
                tagged = archive.read(member).decode("latin-1")
                words = re.sub(r"(\S+)/[^\s/]+", r"\1", tagged)  # word/tag
                yield from _numbered(f"brown:{name}", paragraphs(words))
            elif name.endswith(".txt"):
                text = archive.read(member).decode("utf-8", errors="replace")
                yield from _numbered(f"{corpus}:{name.removesuffix('.txt')}", paragraphs(text))


def _numbered(prefix: str, passages: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield (id, passage) for every passage that is long enough."""
    for number, passage in enumerate(map(natural, passages)):
        if len(passage) >= PASSAGE_CHARACTERS.start:
            yield f"{prefix}:{number}", passage


def paragraphs(text: str) -> Iterator[str]:
    """Yield the blocks between blank lines, and long blocks in runs of lines."""
    for block in re.split(r"\n\s*\n", text.replace("\r\n", "\n")):
        passage = ""
        for line in block.splitlines():
            if passage and len(passage) + len(line) > PASSAGE_CHARACTERS.stop:
                yield passage
                passage = ""
            passage += line + " "
        yield passage
