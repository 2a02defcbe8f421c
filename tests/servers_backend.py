"""Searches of the servers' common backend, some of them in threads, for test_servers.py.

    python servers_backend.py CONFIG QUERY

Prints what each gave, as one line of JSON.
"""

import json
import sys
import threading
from typing import Any

from pyserini.server import backend as module

import csplade_pyserini.query_sides

NAMED = (
    "CSPLADE-Tiny",
    "naver/splade-v3",
    "csplade-bi-smol",
    "csplade-8b",
    "csplade-tinny",
    "csplade-tiny:max_length=64",
    "/etc",
)
"""Encoders that a client may think of."""


def main() -> None:
    """Run the searches in turn; each leaves its part of what is printed."""
    config, query = sys.argv[1:]
    served = module.SharedSearchBackend(config, no_prebuilt_indexes=True)
    found: dict[str, Any] = {"alone": docids(served, query, "alone")}
    found["status"] = list(served.get_status("alone"))

    # The searcher that others are using stays open, whatever a client names.
    searcher = served.indexes["alone"].searcher
    found["named"] = {encoder: answer_to(served, query, encoder) for encoder in NAMED}
    found["reopened"] = served.indexes["alone"].searcher is not searcher

    # Pyserini's sharded search goes by two words in the index's name; threads open and search the shards.
    module.SHARDS = {"texts": ""}
    found["sharded"] = docids(served, query, "msmarco-shard")
    found["texts"] = docids(served, query, "texts")

    # `load_encoder` takes long; `create_searcher` downloads the indexes that are Pyserini's own.
    for owner, step, index in (
        (csplade_pyserini.query_sides, "load_encoder", "late"),
        (module, "create_searcher", "later"),
    ):
        found[step] = found_while_others_search(served, query, owner, step, index, found["alone"][0])
    served.close_all()
    print(json.dumps(found))


def docids(served: Any, query: str, index: str) -> list[str]:
    """The docids of the five best hits."""
    return [hit["docid"] for hit in served.search(query, index, hits=5, parse=False)["candidates"]]


def answer_to(served: Any, query: str, encoder: str) -> list[str] | str:
    """Docids for a client that names an encoder, or the sentence that refuses it."""
    try:
        hits = served.search(query, "alone", hits=5, parse=False, encoder=encoder)["candidates"]
    except module.BadSearchRequestError as error:
        return str(error)
    return [hit["docid"] for hit in hits]


def found_while_others_search(
    served: Any, query: str, owner: Any, step: str, index: str, docid: str
) -> list[str] | None:
    """The hits of an index that waits at a step for as long as other indexes are searched."""
    started = threading.Event()
    go_on = threading.Event()
    take = getattr(owner, step)
    answers: list[list[str]] = []

    def wait_and_take(*args: Any, **kwargs: Any) -> Any:
        started.set()
        assert go_on.wait(60)
        return take(*args, **kwargs)

    setattr(owner, step, wait_and_take)
    late = threading.Thread(target=lambda: answers.append(docids(served, query, index)))
    late.start()
    assert started.wait(60)
    served.search(f"{query} {step}", "alone", parse=False)
    served.search(f"{query} {step}", "texts", parse=False)
    served._get_document_impl(docid, "with-texts")
    setattr(owner, step, take)
    go_on.set()
    late.join()
    return answers[0] if answers else None


if __name__ == "__main__":
    main()
