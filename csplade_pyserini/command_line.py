"""Parts that the verbs share: exit codes, and the flags that name an encoder, a corpus or a device."""

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from csplade_pyserini.cards import QUANTIZATIONS, Checkpoint, find_checkpoint
from csplade_pyserini.errors import CheckError, InputError
from csplade_pyserini.files.lines import lone_surrogates

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""


def run(main: Callable[[Sequence[str] | None], int]) -> NoReturn:
    """Run a verb and exit: 0 done, 1 a check failed, 2 wrong use or bad input. Errors are one sentence."""
    try:
        _refuse_other_bytes(sys.argv[1:])
        sys.exit(main(None))
    except InputError as error:
        _end(f"error: {error}", 2)
    except CheckError as error:
        _end(f"check failed: {error}", 1)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
    except OSError as error:  # a full disk, a share that went away: not our fault, and resumable
        reason = error.strerror or str(error)
        if error.filename:
            reason = f"{reason}: {error.filename}"
        _end(f"error: {reason}; the same command resumes", 2)
    except KeyboardInterrupt:
        _end("stopped; the same command resumes", INTERRUPTED)


def _end(sentence: str, code: int) -> NoReturn:
    print(sentence, file=sys.stderr)
    sys.exit(code)


def _refuse_other_bytes(words: Sequence[str]) -> None:
    """Raise InputError on an argument that is not UTF-8: JSON and Java cannot hold such a file's name."""
    for word in words:
        if lone_surrogates(word):
            raise InputError(
                f"the argument {word!r} is not UTF-8; "
                f"give text as UTF-8, and files and folders names that are"
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


def find_encoder(args: argparse.Namespace) -> Checkpoint:
    """Find the encoder that --encoder, --device, --quantization and --max-length name together.

    Raises InputError on an unknown name, and on weights that are missing or would not be read.
    """
    checkpoint = find_checkpoint(
        args.encoder, device=args.device, max_length=args.max_length, quantization=args.quantization
    )
    checkpoint.check_sources()
    return checkpoint


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
