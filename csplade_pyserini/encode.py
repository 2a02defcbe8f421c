"""Encode a corpus into a JsonVectorCollection. Run the same command again to resume.

python -m csplade_pyserini.encode --encoder csplade-tiny --corpus corpus.jsonl --output vectors/
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from csplade_pyserini.collections.corpus import open_corpus
from csplade_pyserini.collections.encoding import EncodingJob, encode_corpus
from csplade_pyserini.command_line import add_batch_arguments, add_encoder_argument, find_encoder, run
from csplade_pyserini.errors import InputError


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    checkpoint, options = find_encoder(args)
    card = options.apply_to(checkpoint.card)

    def load():  # type: ignore[no-untyped-def]
        from csplade_pyserini.model import build_encoder

        return build_encoder(checkpoint, options)

    manifest = encode_corpus(
        EncodingJob(
            corpus=open_corpus(args.corpus, fields=args.fields, docid_field=args.docid_field),
            output=args.output,
            identity=checkpoint.identity(),
            card=card,
            load_encoder=load,
            arguments={
                "corpus": args.corpus,
                "fields": args.fields,
                "docid_field": args.docid_field,
                "max_length": card.document_max_length,
                "top_terms": card.document_top_terms,
                "contents": args.store_contents,
            },
            shard_id=args.shard_id,
            shard_num=args.shard_num,
            batch_tokens=args.batch_tokens,
            with_contents=args.store_contents,
        )
    )
    if manifest is not None:
        mean = manifest.terms / manifest.documents
        print(
            f"{args.output}: {manifest.documents} documents, {mean:.1f} terms each, {manifest.empties} without any",
            file=sys.stderr,
        )
    return 0


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m csplade_pyserini.encode", description=__doc__.splitlines()[0])
    add_encoder_argument(parser)
    parser.add_argument("--corpus", required=True, metavar="PATH|ir_datasets:ID", help="JSONL(.gz) file, folder of them, or data set")
    parser.add_argument("--output", required=True, type=Path, metavar="DIR", help="collection directory to write")
    parser.add_argument("--fields", nargs="+", default=[], help="fields that make the text (default: contents, else title and text)")
    parser.add_argument("--docid-field", default="", help="field of the docid (default: id, _id or docid)")
    parser.add_argument("--store-contents", action="store_true", help="keep the text in the records' contents")
    parser.add_argument("--shard-id", type=int, default=0, help="shard to encode, from 0 (default 0)")
    parser.add_argument("--shard-num", type=int, default=1, help="number of shards (default 1)")
    add_batch_arguments(parser)
    args = parser.parse_args(argv)
    if not 0 <= args.shard_id < args.shard_num:
        raise InputError(f"--shard-id is {args.shard_id}, --shard-num {args.shard_num}; wanted 0 <= id < num")
    return args


if __name__ == "__main__":
    run(main)
