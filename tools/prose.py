"""Check the English of docstrings, comments and pages, and the density of the code.

python tools/prose.py            # what `make check` runs; exit code 1 names each line to mend
python tools/prose.py --numbers  # the averages as well

Limits: no sentence above 30 words, and no docstring or comment that begins with "Of" or "What". In the
package, at most 10 conditional expressions and 4 tuple assignments per 1,000 lines.
"""

import argparse
import ast
import io
import re
import statistics
import sys
import tokenize
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
CODE = ("csplade_pyserini", "run_scripts", "experiments", "tools", "tests")
PAGES = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "docs/*.md", "encoders/*/README.md")
MOST_WORDS = 30
BAD_STARTS = re.compile(r"(Of|What)\b")
MOST_PER_THOUSAND = {"conditional expressions": 10, "tuple assignments": 4}
SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[-A-Z`\"'(@*])|(?<=:)\s*\n|\n\s*\n|\n\s*- ")
NOT_A_SENTENCE = re.compile(r"\s*(python|make|bash|git) | {8,}\S|\s*\||\s*\S.*\S {3,}\S")
"""Command lines, indented examples and rows of tables in a docstring."""
LIST_ITEM = re.compile(r"^\s*(?:[-*+]|\d+\.)\s+", re.M)
NOT_PROSE = (
    re.compile(r"^(```|~~~).*?^\1", re.S | re.M),
    re.compile(r"^\s*\|.*$", re.M),
    re.compile(r"<!--.*?-->", re.S),
    re.compile(r"^\s{4,}\S.*$", re.M),
    re.compile(r"^#.*$", re.M),
)
"""Code blocks, tables, comments, indented code and headings of a page."""


class Text(NamedTuple):
    """A piece of prose and where it stands."""

    place: str
    text: str
    is_code: bool


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--numbers", action="store_true", help="print averages too")
    args = parser.parse_args(argv)
    texts = [*code_texts(), *page_texts()]
    problems = [*sentence_problems(texts), *density_problems()]
    for problem in problems:
        print(problem)
    if args.numbers:
        print_numbers(texts)
    return int(bool(problems))


def sentence_problems(texts: Sequence[Text]) -> Iterator[str]:
    """Sentences that are too long, and texts that begin badly."""
    for text in texts:
        if text.is_code and BAD_STARTS.match(text.text):
            yield f"{text.place}: begins with {text.text.split()[0]!r}: {text.text[:60]!r}"
        for sentence in sentences(text.text):
            words = count_words(sentence)
            if words > MOST_WORDS:
                yield f"{text.place}: {words} words: {' '.join(sentence.split())[:100]!r}"


def density_problems() -> Iterator[str]:
    """Constructs of the package that stand too densely."""
    for name, density in densities().items():
        if density > MOST_PER_THOUSAND[name]:
            yield f"csplade_pyserini: {density:.1f} {name} per 1,000 lines; at most {MOST_PER_THOUSAND[name]}"


def densities() -> dict[str, float]:
    """Number of conditional expressions and tuple assignments per 1,000 lines of the package."""
    lines = 0
    counts = dict.fromkeys(MOST_PER_THOUSAND, 0)
    for file in python_files("csplade_pyserini"):
        source = file.read_text(encoding="utf-8")
        lines += len(source.splitlines())
        for node in ast.walk(ast.parse(source)):
            counts["conditional expressions"] += isinstance(node, ast.IfExp)
            counts["tuple assignments"] += is_tuple_assignment(node)
    return {name: 1000 * count / lines for name, count in counts.items()}


def is_tuple_assignment(node: ast.AST) -> bool:
    """Whether a statement is `a, b = x, y`."""
    if not isinstance(node, ast.Assign) or not isinstance(node.value, ast.Tuple):
        return False
    return any(isinstance(target, ast.Tuple) for target in node.targets)


def code_texts() -> Iterator[Text]:
    """Docstrings, attribute docstrings and comments of all Python files."""
    for folder in CODE:
        for file in python_files(folder):
            source = file.read_text(encoding="utf-8")
            name = str(file.relative_to(ROOT))
            yield from docstrings(source, name)
            yield from comments(source, name)


def docstrings(source: str, name: str) -> Iterator[Text]:
    """Strings that stand alone as statements."""
    for node in ast.walk(ast.parse(source)):
        value = getattr(node, "value", None)
        if isinstance(node, ast.Expr) and isinstance(value, ast.Constant) and isinstance(value.value, str):
            yield Text(f"{name}:{node.lineno}", without_code(value.value), True)


def without_code(docstring: str) -> str:
    """Leave out indented examples, command lines and tables."""
    lines = [line for line in docstring.splitlines() if not NOT_A_SENTENCE.match(line)]
    return "\n".join(lines)


def comments(source: str, name: str) -> Iterator[Text]:
    """Comments; consecutive lines of their own are one text."""
    block: list[str] = []
    first = last = 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT or re.match(r"#\s*(type:|noqa|fmt:|!|-{3})", token.string):
            continue
        line = token.start[0]
        if block and line != last + 1:
            yield Text(f"{name}:{first}", " ".join(block), True)
            block = []
        if not block:
            first = line
        block.append(token.string.lstrip("# "))
        last = line
    if block:
        yield Text(f"{name}:{first}", " ".join(block), True)


def page_texts() -> Iterator[Text]:
    """Paragraphs and list items of all pages."""
    for pattern in PAGES:
        for file in sorted(ROOT.glob(pattern)):
            text = file.read_text(encoding="utf-8")
            for not_prose in NOT_PROSE:
                text = not_prose.sub("\n\n", text)
            for paragraph in re.split(r"\n\s*\n", LIST_ITEM.sub("\n\n", text)):
                if paragraph.strip():
                    yield Text(str(file.relative_to(ROOT)), paragraph.strip(), False)


def sentences(text: str) -> list[str]:
    """Split prose at the ends of its sentences."""
    return [part for part in SENTENCE_END.split(text) if part and part.strip()]


def count_words(sentence: str) -> int:
    """Number of words; code in backquotes, a link's address and an inner product count as one or none."""
    plain = re.sub(r"`[^`]*`", "code", sentence)
    plain = re.sub(r"\]\([^)]*\)", "]", plain)
    return len(re.findall(r"[A-Za-z][\w'’-]*", plain))


def python_files(folder: str) -> list[Path]:
    """Python files of a folder, in order."""
    return sorted((ROOT / folder).rglob("*.py"))


def print_numbers(texts: Sequence[Text]) -> None:
    """Print the mean length of sentences and of first lines, and the densities."""
    for kind, chosen in (
        ("code", [t for t in texts if t.is_code]),
        ("pages", [t for t in texts if not t.is_code]),
    ):
        lengths = [count_words(sentence) for text in chosen for sentence in sentences(text.text)]
        lengths = [length for length in lengths if length]
        print(
            f"{kind}: {len(lengths)} sentences, {statistics.mean(lengths):.1f} words on average, "
            f"{max(lengths)} at most"
        )
    for name, density in densities().items():
        print(f"csplade_pyserini: {density:.1f} {name} per 1,000 lines")


if __name__ == "__main__":
    sys.exit(main())
