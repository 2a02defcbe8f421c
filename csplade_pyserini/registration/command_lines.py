"""Arguments of Pyserini's command-line programs, completed for encoders of ours.

They are completed once argparse has read them, so it does not matter how the program was launched, nor
whether an option was abbreviated or given twice. The programs' own defaults would lose data.
"""

import argparse
import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from csplade_pyserini.cards import is_card
from csplade_pyserini.errors import InputError
from csplade_pyserini.lucene.makers import knows_encoder, maker_name
from csplade_pyserini.registration import manifests
from csplade_pyserini.registration.bm25 import refuse_bm25
from csplade_pyserini.registration.encoded_topics import are_terms
from csplade_pyserini.registration.names import is_our_query_file, means_ours
from csplade_pyserini.registration.patches import after_loading
from csplade_pyserini.registration.programs import one_sentence, program_of, say


class Parsed(NamedTuple):
    """A command line, as argparse has read it."""

    parser: ArgumentParser
    args: Namespace
    words: Sequence[str]
    """Words of the command line."""


_MARK = "_csplade_pyserini_completes"
_named_ours: list[str] = []
"""Encoders of ours on command lines of this process."""


def names_ours() -> bool:
    """Whether a command line of this process names an encoder of ours."""
    return bool(_named_ours)


@after_loading("pyserini")
def complete_arguments(_: ModuleType) -> None:
    """Have argparse complete the arguments of Pyserini's programs. Other programs get theirs as they are."""
    stock = ArgumentParser.parse_args
    if hasattr(stock, _MARK):
        return

    def parse_args(self: ArgumentParser, args: Any = None, namespace: Any = None) -> Any:
        parsed = stock(self, args, namespace)
        complete = COMPLETIONS.get(program_of(sys._getframe(1)))
        if complete is not None:
            with one_sentence():
                complete(Parsed(self, parsed, sys.argv[1:] if args is None else list(args)))
        return parsed

    setattr(parse_args, _MARK, True)
    argparse.ArgumentParser.parse_args = parse_args  # type: ignore[method-assign]


def complete_search(parsed: Parsed) -> None:
    """Imply `--impact` with an encoder of ours: stock Pyserini would run BM25 and not say so.

    Without an encoder, an index that knows its own is searched with that one. Raises InputError if BM25 is
    asked for on an index of ours.
    """
    args = parsed.args
    if not hasattr(args, "impact"):  # the other parts of a hybrid search
        _refuse_as_dense(getattr(args, "encoder", None))
        return
    if args.dense:
        _refuse_as_dense(args.encoder)
        return
    _refuse_as_onnx(getattr(args, "onnx_encoder", None))
    if _takes_its_own_encoder(parsed):
        args.encoder = maker_name(Path(args.index))
        args.impact = True
        say(f"{args.index} knows its encoder: --impact --encoder {args.encoder} is implied")
    name = args.encoder
    if name and (is_our_query_file(name) or means_ours(name)):
        _named_ours.append(name)
        if not args.impact:
            args.impact = True
            say(f"--encoder {name} implies --impact")
    if not args.impact:
        refuse_bm25(args.index, encoder=name)


def _takes_its_own_encoder(parsed: Parsed) -> bool:
    """Whether a search names no encoder, does not ask for BM25, and its index knows an encoder."""
    args = parsed.args
    if args.encoder or getattr(args, "onnx_encoder", None) or _asks_for_words(parsed):
        return False
    if os.environ.get("CSPLADE_ALLOW_MISMATCH") == "1" or not knows_encoder(Path(args.index)):
        return False
    return not (args.impact and are_terms(getattr(args, "topics", None)))


def _asks_for_words(parsed: Parsed) -> bool:
    """Whether options name BM25 or query likelihood. `--bm25` is the default, and cannot be abbreviated."""
    args = parsed.args
    has_parameters = args.k1 is not None or args.b is not None
    return "--bm25" in parsed.words or args.bm25qs or args.qld or has_parameters


def complete_dense_search(parsed: Parsed) -> None:
    """Refuse an encoder of ours where dense vectors are searched."""
    _refuse_as_dense(parsed.args.encoder)


def complete_encode_query(parsed: Parsed) -> None:
    """Set `--weight-range 1 --quant-range 1`: vectors are impacts, which a second quantizing would spoil."""
    args = parsed.args
    if not means_ours(args.encoder):
        return
    _named_ours.append(args.encoder)
    for key in ("weight_range", "quant_range"):
        value = getattr(args, key)
        if value not in (None, 1):
            option = f"--{key.replace('_', '-')}"
            say(f"{option} {value} is replaced by 1: vectors of {args.encoder} are impacts already")
        setattr(args, key, 1)


_parts: WeakKeyDictionary[ArgumentParser, dict[str, Any]] = WeakKeyDictionary()
"""Arguments of `pyserini.encode` so far: it parses its `input`, `output` and `encoder` one by one."""


def complete_encode(parsed: Parsed) -> None:
    """Plan the manifest of a collection. Raises InputError if it would be a Faiss index."""
    known = _parts.setdefault(parsed.parser, {})
    known |= vars(parsed.args)
    encoder = known.get("encoder")
    folder = known.get("embeddings")
    if not isinstance(encoder, str) or folder is None or not means_ours(encoder):
        return
    if known["to_faiss"]:
        raise InputError(
            f"--to-faiss writes dense vectors, {encoder} makes sparse ones: leave it out, "
            f"and build the index by pyserini.index.lucene --impact --pretokenized"
        )
    manifests.expect_collection(Path(folder), encoder)


def _refuse_as_dense(encoder: object) -> None:
    """Raise InputError on a card's name. Other names are not looked up: most are Pyserini's."""
    if isinstance(encoder, str) and is_card(encoder.partition(":")[0]):
        raise InputError(
            f"{encoder} is a sparse encoder, it makes no dense vectors: run pyserini.search.lucene "
            f"--impact --encoder {encoder}"
        )


def _refuse_as_onnx(encoder: object) -> None:
    """Raise InputError on a card's name: Pyserini would look for a Java class, or run BM25."""
    if isinstance(encoder, str) and is_card(encoder.partition(":")[0]):
        raise InputError(f"{encoder} has no ONNX model: name it by --encoder, not by --onnx-encoder")


COMPLETIONS: dict[str, Callable[[Parsed], None]] = {
    "pyserini.search.lucene": complete_search,
    "pyserini.search.hybrid": complete_search,
    "pyserini.search.faiss": complete_dense_search,
    "pyserini.encode.query": complete_encode_query,
    "pyserini.encode": complete_encode,
}
"""Completion of each program's arguments."""
