"""Generated pages are up to date, the site builds, and what pages tell the reader to run, runs."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest
from programs import SAMPLE, run_program, run_python, shim
from tevatron_checkpoints import trained, write_output
from tiny_models import tiny_model

ROOT = Path(__file__).parents[1]
PAGES = (
    "README.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    *(f"docs/{page.name}" for page in sorted((ROOT / "docs").glob("*.md"))),
)
DOCUMENTS, TOPICS = 40, 5

ELSEWHERE = {
    r"pip install ": "tests/test_install.py installs wheel and sdist",
    r"make (quickstart|test|check|smol|site|docs)$": ".ci/run and the tests above",
    r"make (bench|compat|soak|reproduce-all)$": "by hand before a release: they take hours",
    r"python -m csplade_pyserini\.(export|retrieve) .*--url ": "tests/engines/test_targets.py",
    r"python -m pyserini\.server\.": "tests/test_servers.py",
    r"python -m pyserini\.search\.hybrid": "tests/test_pyserini_commands.py, with a dense index of its own",
}
"""Commands by pattern, and what runs them instead: they never end, need the hub, or are the whole of CI."""

REPLACED = [
    (r"^torchrun .*tevatron.* --output_dir tevatron-(full|lora)$", r"cp -r tevatron/\1 tevatron-\1"),
    (r'^base = "meta-llama/Llama-3.2-1B"$', 'base = "tevatron/base"'),
    (r"--encoder csplade-8b-lookup", "--encoder csplade-tiny"),  # tests/test_query_sides.py runs lookups
    (r"--encoder (csplade-bi-8b|csplade-8b|laconic-1b|lion-sp-1b)", "--encoder csplade-tiny"),
    (r"(run_scripts/(?:beir|msmarco-v1-passage)\.sh) (?:csplade-bi-8b|lion-sp-1b)", r"\1 csplade-tiny"),
    (r"--encoder runs/train/csplade-bi-1b/merged", "--encoder csplade-tiny"),
    (
        r"^python (.*experiments/(?:dtypes|folds|impacts|lookup|quantization|query_sides|bench/\w+)"
        r"\.py)(.*)$",
        r"python parse.py \1\2",
    ),
    (r"^python -m csplade_pyserini\.train (.*)$", r"python parse.py csplade_pyserini.train \1"),
    (r"^LAUNCH=\S+.*(run_scripts/train\.sh) (\S+)$", r"bash -n \1 && test -f run_scripts/train/\2.toml"),
    (r"^OMP_NUM_THREADS=1 python (experiments/bench/train_head\.py)(.*)$", r"python parse.py \1\2"),
    (r"^(python -m csplade_pyserini\.reproduce (?!.*--show-topics).*)$", r"\1 --dry-run"),
    (r"^head -c 400 work/quickstart/csplade-tiny/", "head -c 400 "),
    (r"^(run_scripts/(?:beir|msmarco-v1-passage)\.sh .*)$", r"\1 --dry-run"),
    (
        r"^(python -m csplade_pyserini\.encode --encoder untrained-smol) .*$",
        r"python -m csplade_pyserini.cards --encoder ./untrained-smol",
    ),
]
"""Commands that need weights or hours, and their stand-ins: a shipped encoder, a dry run, or parsing."""

PARSE = """
import importlib, runpy, sys
program, *words = sys.argv[1:]
if program.endswith(".py"):
    sys.path.insert(0, program.rpartition("/")[0])
    found = runpy.run_path(program, run_name="parsed")
else:
    found = vars(importlib.import_module(program))
if "parse_args" in found:
    found["parse_args"](words)
"""


class Block(NamedTuple):
    page: str
    number: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}-{self.number}"


def blocks(language: str) -> list[Block]:
    found = []
    for page in PAGES:
        texts = re.findall(
            rf"^```{language}\n(.*?)^```", (ROOT / page).read_text(encoding="utf-8"), re.S | re.M
        )
        found += [Block(page, number, language, text) for number, text in enumerate(texts, start=1)]
    return found


def to_run(text: str) -> str:
    """The block as a script: comments and commands that run elsewhere left out, REPLACED applied."""
    lines = []
    for line in text.replace("\\\n", " ").splitlines():
        command = re.sub(r"\s+", " ", re.sub(r"\s#.*$", "", line)).strip()
        if any(re.match(pattern, command) for pattern in ELSEWHERE):
            continue
        for pattern, replacement in REPLACED:
            command = re.sub(pattern, replacement, command)
        lines.append(command if command != re.sub(r"\s+", " ", line).strip() else line)
    return "\n".join(lines)


@pytest.fixture(scope="session")
def workplace(tmp_path_factory, byte_tokenizer) -> Path:
    """The reader's folder: corpus, topics, qrels, scripts, and what earlier commands would have left."""
    folder = tmp_path_factory.mktemp("docs") / "reader"
    folder.mkdir()
    for name, lines in (("corpus.jsonl", DOCUMENTS), ("topics.tsv", TOPICS)):
        (folder / name).write_text("".join((SAMPLE / name).read_text().splitlines(keepends=True)[:lines]))
    shutil.copy(SAMPLE / "qrels.txt", folder / "qrels.txt")
    (folder / "texts").mkdir()
    for line in (folder / "corpus.jsonl").read_text().splitlines():
        record = json.loads(line)
        with (folder / "texts" / "docs.jsonl").open("a") as file:
            file.write(json.dumps({"id": record["id"], "contents": record["contents"]}) + "\n")
    (folder / "parse.py").write_text(PARSE)
    shutil.copytree(
        ROOT / "encoders" / "csplade-tiny", folder / "finetuned", ignore=shutil.ignore_patterns("*.md")
    )
    shutil.copytree(folder / "finetuned", folder / "my-encoder")
    (folder / "my-encoder" / "card.toml").write_text('name = "my-encoder"\nattention = "bidirectional"\n')
    write_output(trained(lora=False, seed=3), byte_tokenizer, folder / "tevatron" / "full")
    write_output(trained(lora=True, seed=3), byte_tokenizer, folder / "tevatron" / "lora", safetensors=False)
    tiny_model("llama").save_pretrained(folder / "tevatron" / "base")
    for name in ("run_scripts", "experiments", "tools", "encoders"):
        (folder / name).symlink_to(ROOT / name)
    commands = [
        (
            "csplade_pyserini.encode", "--encoder", "csplade-tiny", "--corpus", "corpus.jsonl",
            "--output", "vectors",
        ),
        ("csplade_pyserini.index", "--input", "vectors", "--index", "index"),
        (
            "pyserini.index.lucene", "--collection", "JsonCollection", "--input", "texts", "--index", "bm25",
            "--generator", "DefaultLuceneDocumentGenerator", "--threads", "1",
        ),
    ]  # fmt: skip
    for command in commands:
        done = run_python("-m", *command, cwd=folder)
        assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def reader(workplace, tmp_path) -> Path:
    """A copy of the workplace, with `python` on PATH."""
    folder = tmp_path / "reader"
    shutil.copytree(workplace, folder, symlinks=True)
    return folder


def run_block(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a block as it stands; its `python` is a fork where a fork does the same (see programs.py).

    Other tests run each verb and each of Pyserini's commands in a new interpreter.
    """
    for made, by in (
        ("vectors", r"\.encode (input|--encoder)"),
        ("index", r"\.index(\.lucene)? .*--index index\b"),
    ):
        if re.search(by, script):  # the block makes it itself
            for path in folder.glob(f"{made}*"):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    words = ("bash", "-euo", "pipefail", "-c", script)
    return run_program(*words, cwd=folder, CSPLADE_DATA=str(folder), **shim(folder.parent))


def test_the_reproductions_page_is_what_make_docs_writes(tmp_path):
    made = run_python(ROOT / "tools" / "reproductions.py", "--output", tmp_path / "reproductions.md")
    assert made.returncode == 0, made.stderr
    assert (tmp_path / "reproductions.md").read_text() == (ROOT / "docs" / "reproductions.md").read_text(), (
        "stale: run make docs"
    )


def test_the_site_builds_without_a_warning(tmp_path):
    pytest.importorskip(
        "mkdocs", reason="the site needs mkdocs and mkdocstrings-python: pip install 'csplade_pyserini[dev]'"
    )
    made = run_python(
        "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", tmp_path / "site", cwd=ROOT
    )
    assert (made.returncode, made.stdout, made.stderr) == (0, "", "")
    api = (tmp_path / "site" / "api.html").read_text(encoding="utf-8")
    assert "encode_documents" in api
    assert "Raises InputError" in api
    for page in (tmp_path / "site").rglob("*.html"):
        assert not re.search(
            r'(src|href)="https?://[^"]*\.(js|css|woff2?)"', page.read_text(encoding="utf-8")
        ), "it needs a network"


@pytest.mark.jvm
@pytest.mark.parametrize("block", [block for block in blocks("bash") if to_run(block.text).strip()], ids=str)
def test_what_a_page_says_to_run_runs(reader, block):
    done = run_block(to_run(block.text), reader)
    assert done.returncode == 0, f"{to_run(block.text)}\n{done.stdout[-1000:]}\n{done.stderr[-3000:]}"
    assert "Traceback" not in done.stderr
    if re.search(r"pyserini\.search\.lucene .*--output run\.txt", to_run(block.text)):
        qids = {line.split()[0] for line in (reader / "run.txt").read_text().splitlines()}
        assert len(qids) == TOPICS


@pytest.mark.jvm
@pytest.mark.parametrize("block", blocks("python"), ids=str)
def test_what_a_page_has_in_python_runs(reader, block):
    compile(block.text, str(block), "exec")  # a SyntaxWarning fails the test
    done = run_python("-c", block.text, cwd=reader)
    assert done.returncode == 0, done.stderr[-3000:]


def test_every_pattern_is_of_a_command_that_stands_on_a_page():
    """Patterns that match nothing hide nothing."""
    commands = [
        re.sub(r"\s+", " ", line).strip()
        for block in blocks("bash")
        for line in block.text.replace("\\\n", " ").splitlines()
    ]
    for pattern in (*ELSEWHERE, *(pattern for pattern, _ in REPLACED)):
        assert any(re.search(pattern, re.sub(r"\s#.*$", "", command)) for command in commands), pattern
