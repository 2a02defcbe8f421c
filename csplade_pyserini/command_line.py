"""What the verbs share: exit codes, and the flags that name an encoder, a corpus or a device."""

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from csplade_pyserini.cards import (
    QUANTIZATIONS,
    Checkpoint,
    EncoderOptions,
    find_checkpoint,
    merge_options,
    parse_encoder_name,
)
from csplade_pyserini.errors import CheckError, InputError
from csplade_pyserini.utf8 import lone_surrogates


def run(main: Callable[[Sequence[str] | None], int]) -> NoReturn:
    """Run a verb: exit 0 when done, 1 when a check failed, 2 on wrong use or bad input, in one sentence each."""
    try:
        _refuse_other_bytes(sys.argv[1:])
        sys.exit(main(None))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except CheckError as error:
        print(f"check failed: {error}", file=sys.stderr)
        sys.exit(1)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
    except OSError as error:  # a disk that filled up, a share that went away: nothing of ours is broken
        print(
            f"error: {error.strerror or error}{f': {error.filename}' if error.filename else ''}; the same command resumes",
            file=sys.stderr,
        )
        sys.exit(2)
    except KeyboardInterrupt:
        print("stopped; the same command resumes", file=sys.stderr)
        sys.exit(130)


def _refuse_other_bytes(words: Sequence[str]) -> None:
    """Raise InputError on an argument that is not UTF-8: neither JSON nor Java could hold the name of such a file."""
    for word in words:
        if lone_surrogates(word):
            raise InputError(
                f"the argument {word!r} is not UTF-8; give text as UTF-8, and files and folders names that are"
            )


def add_encoder_argument(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    parser.add_argument(
        "--encoder",
        required=required,
        metavar="NAME[:key=value,...]",
        help="card, alias, checkpoint folder or Hugging Face id",
    )


def add_corpus_arguments(parser: argparse.ArgumentParser, *, required: bool, purpose: str) -> None:
    parser.add_argument("--corpus", required=required, metavar="PATH|ir_datasets:ID", help=purpose)
    parser.add_argument(
        "--fields",
        nargs="+",
        default=[],
        help="fields that make the text (default: contents, else title and text, else text)",
    )
    parser.add_argument("--docid-field", default="", help="field of the docid (default: id, _id or docid)")


def add_batch_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--batch-tokens", type=positive_or_auto, metavar="N|auto",
        help="padded tokens in a forward pass, halved where memory runs out (default: 1024 on a CPU, 4096 else; auto: what is fastest)",
    )  # fmt: skip
    parser.add_argument("--max-length", type=positive, help="tokens of prefix and text (default: the card's)")
    parser.add_argument(
        "--quantization", choices=QUANTIZATIONS, help="quantize the backbone's weights (default none)"
    )
    parser.add_argument("--device", help="cpu, cuda, cuda:1, ... (default: CUDA if there is one)")


def find_encoder(args: argparse.Namespace) -> tuple[Checkpoint, EncoderOptions]:
    """What --encoder, --device, --quantization and --max-length name together. Raises InputError on an unknown name or missing weights."""
    name, options = parse_encoder_name(args.encoder)
    options = merge_options(
        options, device=args.device, max_length=args.max_length, quantization=args.quantization
    )
    return find_checkpoint(name), options


def positive(text: str) -> int:
    """A whole number above 0, for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}; wanted a whole number above 0")
    return int(text)


def whole_number(text: str) -> int:
    """A whole number, 0 included, for argparse."""
    return 0 if text == "0" else positive(text)


def positive_or_auto(text: str) -> int | str:
    """A whole number above 0, or `auto`, for argparse."""
    if text == "auto":
        return text
    try:
        return positive(text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{error}, or auto") from error
