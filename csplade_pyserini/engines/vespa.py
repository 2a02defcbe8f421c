"""Vespa, as files: an application package, and a file of documents to feed for each vector file."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from csplade_pyserini.engines.target import (
    DOCID_FIELD,
    FIELD,
    INT_BITS,
    META_KEY,
    Document,
    Failure,
    Identity,
    Limits,
    Place,
    Target,
)
from csplade_pyserini.errors import InputError
from csplade_pyserini.files.lines import read_lines
from csplade_pyserini.files.whole import whole_file

_SERVICES = """<?xml version="1.0" encoding="utf-8" ?>
<services version="1.0">
  <container id="default" version="1.0">
    <search/>
    <document-api/>
  </container>
  <content id="content" version="1.0">
    <min-redundancy>1</min-redundancy>
    <documents>
      <document type="document" mode="index"/>
    </documents>
  </content>
</services>
"""
_SCHEMA = """# {meta}: {identity}
schema document {{
  document document {{
    field {docid} type string {{
      indexing: summary | attribute
    }}
    field {field} type weightedset<int> {{
      indexing: attribute
      attribute: fast-search
    }}
  }}
  rank-profile impacts {{
    first-phase {{
      expression: rawScore({field})
    }}
  }}
}}
"""
_SCHEMA_FILE = Path("application/schemas/document.sd")


class Vespa(Target):
    """A folder with an application package and documents."""

    limits = Limits(engine="vespa", significant_bits=INT_BITS, docid_bytes=65_000, most_hits=0)
    resumes = "file"

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._folder = place.directory
        self._whole: Any = None
        self._out: Any = None

    @staticmethod
    def schema(identity: Identity) -> str:
        return _SCHEMA.format(meta=META_KEY, identity=identity.to_json(), docid=DOCID_FIELD, field=FIELD)

    def identity(self) -> Identity | None:
        file = self._folder / _SCHEMA_FILE
        if not self._folder.is_dir() or not any(self._folder.iterdir()):
            return None
        head, mark, text = "", "", ""
        if file.is_file():
            head, mark, text = file.read_text(encoding="utf-8").partition("\n")[0].partition(f"{META_KEY}: ")
        if head != "# " or not mark:
            raise InputError(f"{self._folder} exists and was not made by export: choose another --output")
        return Identity.parse(text, str(file))

    def create(self, identity: Identity) -> None:
        with whole_file(self._folder / "application" / "services.xml") as file:
            file.write(_SERVICES)
        with whole_file(self._folder / _SCHEMA_FILE) as file:
            file.write(self.schema(identity))

    def begin_file(self, file: str) -> None:
        self._whole = whole_file(self._folder / "documents" / f"{quote(file, safe='')}.feed.jsonl")
        self._out = self._whole.__enter__()

    def write(self, documents: Sequence[Document]) -> list[Failure]:
        for document in documents:
            vector = {
                str(key): impact for key, impact in zip(document.dimensions, document.impacts, strict=True)
            }
            put = {
                "put": f"id:csplade:document::{document.docid}",
                "fields": {DOCID_FIELD: document.docid, FIELD: vector},
            }
            self._out.write(json.dumps(put, ensure_ascii=False, separators=(",", ":")) + "\n")
        return []

    def end_file(self) -> None:
        self._whole.__exit__(None, None, None)
        self._whole = None

    def count(self) -> int:
        files = sorted((self._folder / "documents").glob("*.feed.jsonl"))
        return sum(1 for file in files for _ in read_lines(file))

    def close(self) -> None:
        if self._whole is not None:
            whole, self._whole = self._whole, None
            stop = RuntimeError("stopped")
            whole.__exit__(type(stop), stop, None)
