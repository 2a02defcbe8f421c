"""Encode a corpus into a JsonVectorCollection. Run the same command again to resume.

python -m csplade_pyserini.encode --encoder csplade-tiny --corpus corpus.jsonl --output vectors/
python -m csplade_pyserini.encode --encoder csplade-tiny --corpus corpus.jsonl --output vectors/ \\
    --shard-id 3 --shard-num 8
python -m csplade_pyserini.encode --merge --output vectors/      (shards encoded elsewhere, copied together)

Under torchrun each process encodes the shard of its rank, on the GPU of its local rank.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from csplade_pyserini.cards import Checkpoint
from csplade_pyserini.collections.corpus import Corpus
from csplade_pyserini.collections.encoding import DOCUMENTS_PER_FILE, EncodingJob, encode_corpus
from csplade_pyserini.collections.manifests import CollectionManifest
from csplade_pyserini.collections.shards import merge_shards
from csplade_pyserini.collections.spool import spooled_corpus
from csplade_pyserini.command_line import (
    add_batch_arguments,
    add_corpus_arguments,
    add_encoder_argument,
    find_encoder,
    positive,
    run,
    verb_parser,
)
from csplade_pyserini.errors import InputError

if TYPE_CHECKING:
    from csplade_pyserini.model import SparseEncoder


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    if args.merge:
        report(args.output, merge_shards(args.output))
        return 0
    checkpoint = find_encoder(args)
    with spooled_corpus(args.corpus, args.output, fields=args.fields, docid_field=args.docid_field) as corpus:
        manifest = encode_corpus(make_job(args, checkpoint, corpus))
    if manifest is not None:
        report(args.output, manifest)
    return 0


def make_job(args: argparse.Namespace, checkpoint: Checkpoint, corpus: Corpus) -> EncodingJob:
    """Make the job of a command line."""
    return EncodingJob(
        corpus=corpus,
        output=args.output,
        identity=checkpoint.identity,
        card=checkpoint.card,
        load_encoder=lambda: load(checkpoint),
        arguments=output_arguments(args, checkpoint),
        shard_id=args.shard_id,
        shard_num=args.shard_num,
        batch_tokens=args.batch_tokens,
        with_contents=args.store_contents,
        documents_per_file=args.documents_per_file,
    )


def output_arguments(args: argparse.Namespace, checkpoint: Checkpoint) -> dict[str, Any]:
    """Arguments that change the output, as its manifest holds them."""
    return {
        "encoder_name": checkpoint.lasting_name(args.encoder),
        "corpus": args.corpus,
        "fields": args.fields,
        "docid_field": args.docid_field,
        "max_length": checkpoint.card.document_max_length,
        "top_terms": checkpoint.card.document_top_terms,
        "contents": args.store_contents,
        "quantization": checkpoint.options.quantization or "none",
        "document_prefix": checkpoint.options.document_prefix,
    }


def load(checkpoint: Checkpoint) -> "SparseEncoder":
    """Load the encoder; torch is imported only here."""
    from csplade_pyserini.model import build_encoder

    return build_encoder(checkpoint)


def report(output: Path, manifest: CollectionManifest) -> None:
    """Say on stderr what a whole collection holds."""
    mean = manifest.terms / manifest.documents
    print(
        f"{output}: {manifest.documents} documents, {mean:.1f} terms each, {manifest.empties} without any",
        file=sys.stderr,
    )


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = verb_parser("encode")
    add_encoder_argument(parser, required=False)
    add_corpus_arguments(
        parser,
        required=False,
        purpose="JSONL file (or compressed), folder of them, - for a pipe, or data set",
    )
    parser.add_argument(
        "--output", required=True, type=Path, metavar="DIR", help="collection directory to write"
    )
    parser.add_argument(
        "--store-contents", action="store_true", help="keep the text in the records' contents"
    )
    parser.add_argument(
        "--shard-id", type=int, help="shard to encode, from 0 (default: torchrun's RANK, else 0)"
    )
    parser.add_argument(
        "--shard-num", type=int, help="number of shards (default: torchrun's WORLD_SIZE, else 1)"
    )
    parser.add_argument(
        "--documents-per-file",
        type=positive,
        default=DOCUMENTS_PER_FILE,
        metavar="N",
        help=f"documents in a file, the most that a crash can cost (default {DOCUMENTS_PER_FILE})",
    )
    parser.add_argument(
        "--merge",
        action="store_true",
        help="encode nothing: check that all shards are there and whole, and write the manifest",
    )
    add_batch_arguments(parser)
    args = parser.parse_args(argv)
    if args.merge:
        if args.encoder or args.corpus:
            raise InputError("--merge takes --output alone: encoder and corpus are those of the shards")
        return args
    for flag in ("encoder", "corpus"):
        if not getattr(args, flag):
            parser.error(f"the following arguments are required: --{flag}")
    take_torchrun_rank(args)
    if not 0 <= args.shard_id < args.shard_num:
        raise InputError(f"--shard-id is {args.shard_id}, --shard-num {args.shard_num}; wanted 0 <= id < num")
    return args


def take_torchrun_rank(args: argparse.Namespace) -> None:
    """Fill in shard and device from torchrun's environment if the command does not say them."""
    is_launched = "TORCHELASTIC_RUN_ID" in os.environ and args.shard_id is None and args.shard_num is None
    if is_launched and args.device is None and os.environ.get("CUDA_VISIBLE_DEVICES", "all"):
        import torch

        if torch.cuda.is_available():
            args.device = f"cuda:{os.environ['LOCAL_RANK']}"
    defaults = {"shard_id": 0, "shard_num": 1}
    if is_launched:
        defaults = {"shard_id": int(os.environ["RANK"]), "shard_num": int(os.environ["WORLD_SIZE"])}
    for key, default in defaults.items():
        if getattr(args, key) is None:
            setattr(args, key, default)


if __name__ == "__main__":
    run(main)
