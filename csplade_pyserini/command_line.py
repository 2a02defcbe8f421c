"""Parts that the verbs share: what they are for, exit codes, flags of encoder, corpus and device, streams."""

import argparse
import codecs
import io
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from csplade_pyserini.cards import QUANTIZATIONS, Checkpoint, find_checkpoint
from csplade_pyserini.engines.target import Place
from csplade_pyserini.errors import CheckError, InputError
from csplade_pyserini.files.lines import lone_surrogates
from csplade_pyserini.query_sides import QuerySource, find_queries

VERBS = {
    "encode": "Encode a corpus into a JsonVectorCollection. Run the same command again to resume.",
    "encode_queries": "Encode topics into a query file that Pyserini reads as `--encoder FILE.jsonl`.",
    "index": "Build a Lucene impact index of a collection directory, and check that every document is in it.",
    "export": "Export a collection's vectors to a search engine. Run the same command again to resume.",
    "retrieve": "Search an index, or an engine that `export` filled: topics in, a TREC run out.",
    "explain": "Explain why a document matched: each term's part of its score, and the tokens behind it.",
    "reproduce": "Encode, index, search and score a test collection, next to BM25 and expected scores.",
    "train": "Train an encoder: adaptation, contrastive training, and a checkpoint to search with.",
    "doctor": "Check Java, Pyserini, torch, devices, the hook and encoders; then make a small run.",
    "cards": "List the encoders, print one encoder's card in full, or the heaviest terms of a text.",
}
"""One line on each verb, for its help. `python -OO` keeps it; it removes docstrings."""
KEY_VARIABLE = "CSPLADE_ENGINE_KEY"
"""Environment variable with the API key or token of a search engine."""
INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""
_SET_UTF8 = "it takes arguments and names of files for ASCII; run: export PYTHONUTF8=1"
_ESCAPED = "csplade_pyserini.escaped"
"""Error handler of stdout: what a terminal cannot show is escaped as in JSON, so that JSON stays JSON."""


def run(main: Callable[[Sequence[str] | None], int]) -> NoReturn:
    """Run a verb and exit: 0 done, 1 a check failed, 2 wrong use or bad input. Errors are one sentence."""
    _mend_streams()
    try:
        _refuse_other_bytes(sys.argv[1:])
        code = main(None)
        sys.stdout.flush()  # a full disk or a reader that has gone is noticed here, not while Python ends
    except InputError as error:
        _end(f"error: {error}", 2)
    except CheckError as error:
        _end(f"check failed: {error}", 1)
    except BrokenPipeError:
        _exit(0)
    except OSError as error:  # a full disk, a share that went away: not our fault, and resumable
        reason = error.strerror or str(error)
        if error.filename:
            reason = f"{reason}: {error.filename}"
        _end(f"error: {reason}; the same command resumes", 2)
    except UnicodeEncodeError as error:
        if sys.getfilesystemencoding() == "utf-8":
            raise
        _end(f"error: {error.object!r} is a name that this Python cannot write; {_SET_UTF8}", 2)
    except KeyboardInterrupt:
        _end("stopped; the same command resumes", INTERRUPTED)
    except SystemExit as end:  # argparse's
        _exit(end.code)
    sys.exit(code)


def verb_parser(verb: str) -> argparse.ArgumentParser:
    """Make the parser of a verb's command line, without its flags."""
    return argparse.ArgumentParser(prog=f"python -m csplade_pyserini.{verb}", description=VERBS[verb])


def _end(sentence: str, code: int) -> NoReturn:
    print(sentence, file=sys.stderr)
    _exit(code)


def _exit(code: str | int | None) -> NoReturn:
    """Exit with this code, although stdout may take nothing more."""
    try:
        sys.stdout.flush()
    except OSError:  # lead it nowhere: Python flushes once more when it ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


def _mend_streams() -> None:
    """Open streams that are closed, and have stdout escape characters that its encoding lacks."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # else the next file would get this number, and what a child prints would land in it
            os.open(os.devnull, os.O_RDWR)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
    codecs.register_error(_ESCAPED, _escape)
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors in ("strict", "surrogateescape"):
        sys.stdout.reconfigure(errors=_ESCAPED)


def _escape(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return json.dumps(error.object[error.start : error.end])[1:-1], error.end


def _refuse_other_bytes(words: Sequence[str]) -> None:
    """Raise InputError on an argument that is not UTF-8: JSON and Java cannot hold such a file's name."""
    for word in words:
        if not lone_surrogates(word):
            continue
        if sys.getfilesystemencoding() != "utf-8":
            raise InputError(f"the argument {word!r} is more than this Python reads; {_SET_UTF8}")
        raise InputError(
            f"the argument {word!r} is not UTF-8; give text as UTF-8, and files and folders names that are"
        )


def add_encoder_argument(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """Add --encoder."""
    parser.add_argument(
        "--encoder",
        required=required,
        metavar="NAME[:key=value,...]",
        help="card, alias, checkpoint folder or Hugging Face id",
    )


def add_corpus_arguments(parser: argparse.ArgumentParser, *, required: bool, purpose: str) -> None:
    """Add --corpus, --fields and --docid-field."""
    parser.add_argument("--corpus", required=required, metavar="PATH|ir_datasets:ID", help=purpose)
    parser.add_argument(
        "--fields",
        nargs="+",
        default=[],
        help="fields that make the text (default: contents, else title and text, else text)",
    )
    parser.add_argument("--docid-field", default="", help="field of the docid (default: id, _id or docid)")


def add_batch_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --batch-tokens, --max-length, --quantization and --device."""
    parser.add_argument(
        "--batch-tokens",
        type=positive_or_auto,
        metavar="N|auto",
        help="padded tokens in a forward pass, halved when memory runs out "
        "(default: 1024 on a CPU, 4096 elsewhere; auto: the fastest)",
    )
    parser.add_argument("--max-length", type=positive, help="tokens of prefix and text (default: the card's)")
    parser.add_argument(
        "--quantization", choices=QUANTIZATIONS, help="quantize the backbone's weights (default: none)"
    )
    parser.add_argument("--device", help="cpu, cuda, cuda:1, ... (default: CUDA if there is one)")


def add_target_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --url, --name and --timeout."""
    parser.add_argument(
        "--url", default="", metavar="URL", help=f"server of the engine; ${KEY_VARIABLE} holds its API key"
    )
    parser.add_argument("--name", default="", metavar="NAME", help="index or collection on the server")
    parser.add_argument(
        "--timeout",
        type=positive,
        metavar="SECONDS",
        help=f"time that a request may take (default {Place.timeout:.0f})",
    )


def target_place(args: argparse.Namespace, folder: Path | None) -> Place:
    """Make the place of a target of --url, --name and --timeout, or of a folder."""
    key = os.environ.get(KEY_VARIABLE, "")
    seconds = float(args.timeout or Place.timeout)
    return Place(url=args.url, name=args.name, folder=folder, timeout=seconds, key=key)


def find_encoder(args: argparse.Namespace) -> Checkpoint:
    """Find the encoder that --encoder, --device, --quantization and --max-length name together.

    Raises InputError on an unknown name, and on weights that are missing or would not be read.
    """
    checkpoint = find_checkpoint(
        args.encoder, device=args.device, max_length=args.max_length, quantization=args.quantization
    )
    checkpoint.check_sources()
    return checkpoint


def find_query_side(args: argparse.Namespace) -> QuerySource:
    """Find what makes the queries that --encoder, --device, --quantization and --max-length name together.

    Raises InputError on an unknown name, and on weights or a table that are missing or would not be read.
    """
    source = find_queries(
        args.encoder, device=args.device, max_length=args.max_length, quantization=args.quantization
    )
    if source.kind == "model" and source.checkpoint is not None:
        source.checkpoint.check_sources()
    return source


def positive(text: str) -> int:
    """Parse a whole number above 0, for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}; wanted a whole number above 0")
    return int(text)


def whole_number(text: str) -> int:
    """Parse a whole number, 0 included, for argparse."""
    if text == "0":
        return 0
    return positive(text)


def positive_or_auto(text: str) -> int | str:
    """Parse a whole number above 0, or `auto`, for argparse."""
    if text == "auto":
        return text
    try:
        return positive(text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{error}, or auto") from error
