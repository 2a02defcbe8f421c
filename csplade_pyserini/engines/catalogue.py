"""Engines by name."""

from csplade_pyserini.engines.ciff import Ciff
from csplade_pyserini.engines.elasticsearch import Elasticsearch
from csplade_pyserini.engines.milvus import Milvus
from csplade_pyserini.engines.opensearch import OpenSearch
from csplade_pyserini.engines.qdrant import QdrantEdge, QdrantServer
from csplade_pyserini.engines.target import Place, Target
from csplade_pyserini.engines.vespa import Vespa
from csplade_pyserini.errors import InputError

SERVERS: dict[str, type[Target]] = {
    "opensearch": OpenSearch,
    "elasticsearch": Elasticsearch,
    "qdrant": QdrantServer,
    "milvus": Milvus,
}
"""Engines reached by --url and --name."""
FOLDERS: dict[str, type[Target]] = {
    "qdrant": QdrantEdge,
    "milvus": Milvus,
    "vespa": Vespa,
    "ciff": Ciff,
}
"""Engines embedded in a folder, or fed by files."""
ENGINES = tuple(dict.fromkeys([*SERVERS, *FOLDERS]))


def target_class(engine: str, place: Place) -> type[Target]:
    """Find the class of an engine's target. Raises InputError if the engine is not reached that way."""
    by_folder = place.folder is not None
    if by_folder == bool(place.url):
        raise InputError("wanted either --url and --name, or a folder")
    if by_folder and engine not in FOLDERS:
        raise InputError(f"{engine} has no embedded form; wanted --url and --name")
    if not by_folder and engine not in SERVERS:
        raise InputError(f"{engine} is reached by files alone; wanted --output")
    if not by_folder and not place.name:
        raise InputError("--url without --name; wanted the name of a collection or index as well")
    return FOLDERS[engine] if by_folder else SERVERS[engine]
