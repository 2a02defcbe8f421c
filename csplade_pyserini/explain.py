"""Explain why a document matched: each term's part of its score, and the tokens behind the term.

python -m csplade_pyserini.explain --encoder csplade-tiny --index index --query "heart attack" \\
    --corpus corpus.jsonl --html why.html
"""

import argparse
import dataclasses
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from tqdm import tqdm

from csplade_pyserini.cards import same_encoder
from csplade_pyserini.collections.corpus import Corpus, open_corpus
from csplade_pyserini.command_line import (
    add_corpus_arguments,
    add_encoder_argument,
    positive,
    run,
    verb_parser,
    whole_number,
)
from csplade_pyserini.errors import InputError
from csplade_pyserini.lucene.makers import maker_name, maker_of, refuse_mismatch
from csplade_pyserini.lucene.matching import ImpactIndex
from csplade_pyserini.query_sides import QuerySource, build_queries, find_queries

TERMS = 20
"""Terms listed for each hit by default."""


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    source = find_encoder_of(args.encoder, args.index)
    refuse_mismatch(args.index, source.identity, name=source.name)
    index = ImpactIndex(args.index)
    corpus = None
    if args.corpus:
        corpus = open_corpus(args.corpus, fields=args.fields, docid_field=args.docid_field)

    from csplade_pyserini.explanation import explain_hits
    from csplade_pyserini.explanation.listing import explanation_lines
    from csplade_pyserini.explanation.page import write_explanation

    explanation = explain_hits(
        build_queries(source),
        index,
        args.query,
        hits=args.hits,
        docid=args.docid,
        find_texts=lambda docids: texts_of(corpus, docids),
    )
    explanation = dataclasses.replace(explanation, encoder=named_in(args.index, explanation.encoder))
    if args.html:
        write_explanation(args.html, explanation, index=str(args.index), raw=args.raw)
        print(f"wrote {args.html}", file=sys.stderr)
    if args.json:
        print(json.dumps(dataclasses.asdict(explanation), ensure_ascii=False))
    else:
        print("\n".join(explanation_lines(explanation, raw=args.raw, terms=args.terms)))
    return 0


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = verb_parser("explain")
    add_encoder_argument(parser, required=False)
    parser.add_argument(
        "--index",
        required=True,
        type=Path,
        metavar="DIR",
        help="impact index; without --encoder, the encoder that its manifest names",
    )
    parser.add_argument("--query", required=True, metavar="TEXT", help="text of the query")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--docid", help="explain this document, wherever it ranks")
    which.add_argument(
        "--hits", type=positive, default=3, metavar="K", help="explain the K best documents (default 3)"
    )
    add_corpus_arguments(
        parser, required=False, purpose="the documents' texts, for the tokens behind their terms"
    )
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a page with shaded tokens and bars")
    parser.add_argument(
        "--terms",
        type=whole_number,
        default=TERMS,
        metavar="N",
        help=f"terms listed for each hit (default {TERMS}; 0: all)",
    )
    parser.add_argument(
        "--raw", action="store_true", help="show terms as Lucene has them: Ġmanhattan for manhattan"
    )
    parser.add_argument(
        "--json", action="store_true", help="print everything as one JSON object instead of tables"
    )
    return parser.parse_args(argv)


def find_encoder_of(name: str | None, index: Path) -> QuerySource:
    """Find the encoder of that name, or the one that made an index. Raises InputError if neither says."""
    if name is None:
        name = maker_name(index)
    return find_queries(name)


def named_in(index: Path, identity: str) -> str:
    """Return an identity as the index's manifest has it, which may be older, if they name one encoder."""
    named = maker_of(index)
    if named is not None and same_encoder(named.identity, identity):
        return named.identity
    return identity


def texts_of(corpus: Corpus | None, docids: Iterable[str]) -> dict[str, str]:
    """Read the texts of some documents; none without a corpus.

    Raises InputError if the corpus lacks one of them.
    """
    wanted = set(docids)
    texts: dict[str, str] = {}
    if corpus is None or not wanted:
        return texts
    for document in tqdm(corpus.documents(), desc="looking for the texts", unit="doc", delay=2):
        if document.docid in wanted:
            texts[document.docid] = document.text
        if len(texts) == len(wanted):
            return texts
    missing = ", ".join(sorted(wanted - set(texts)))
    raise InputError(f"the corpus {corpus.name} has no document {missing}: it is not that of the index")


if __name__ == "__main__":
    run(main)
