"""A server of OpenSearch's and Elasticsearch's document API that records requests and keeps documents.

It answers as the two document it, and fails as told: with 429, 503 or time-outs of whole requests, and with
rejections of single documents. Impacts lose their low bits as in FeatureField; query weights above 64 are
refused as there.
"""

import json
import struct
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

MOST_BOOST = 64.0


def feature_value(impact: float) -> float:
    """Return an impact as FeatureField keeps it: the upper 16 bits behind the sign of a float."""
    [bits] = struct.unpack(">i", struct.pack(">f", impact))
    [value] = struct.unpack(">f", struct.pack(">i", bits >> 15 << 15))
    return value


class RecordingServer:
    """The server, on a port of 127.0.0.1."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, str]] = []
        """Method, path and body of each request."""
        self.indexes: dict[str, dict[str, Any]] = {}
        self.failures: list[int] = []
        """Statuses that the next bulk or search requests get; 0: no answer in time."""
        self.headers: dict[str, str] = {}
        """Headers of every answer."""
        self.item_status: Callable[[str], int] = lambda docid: 201
        """Status of a document in a bulk request."""
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(length).decode()
                server.requests.append((self.command, self.path, body))
                status, table = server.respond(self.command, self.path.partition("?")[0], body)
                if status == 0:
                    time.sleep(1.5)
                    self.close_connection = True
                    return
                data = b"" if self.command == "HEAD" else json.dumps(table).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("X-Elastic-Product", "Elasticsearch")
                self.send_header("Content-Length", str(len(data)))
                for name, value in server.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        for method in ("GET", "PUT", "POST", "HEAD"):
            setattr(Handler, f"do_{method}", Handler.answer)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        """Stop it."""
        self._server.shutdown()
        self._server.server_close()

    def bodies(self, path: str) -> list[str]:
        """Bodies of the requests to a path."""
        return [body for _, seen, body in self.requests if seen.partition("?")[0] == path]

    def respond(self, method: str, path: str, body: str) -> tuple[int, Any]:
        """Answer a request."""
        if path == "/_bulk" or path == "/_msearch":
            if self.failures:
                status = self.failures.pop(0)
                return status, {"error": {"type": "failing", "reason": "as told"}, "status": status}
            lines = [json.loads(line) for line in body.splitlines()]
            return 200, self._bulk(lines) if path == "/_bulk" else self._search(lines)
        name, _, rest = path.lstrip("/").partition("/")
        index = self.indexes.get(name)
        if method == "PUT":
            self.indexes[name] = {"body": json.loads(body), "documents": {}}
            return 200, {"acknowledged": True}
        if index is None:
            return 404, {"error": {"type": "index_not_found_exception"}, "status": 404}
        if rest == "_mapping":
            return 200, {name: {"mappings": index["body"]["mappings"]}}
        if rest == "_count":
            return 200, {"count": len(index["documents"])}
        return 200, {"_shards": {"failed": 0}}

    def _bulk(self, lines: list[Any]) -> Any:
        items = []
        for action, document in zip(lines[::2], lines[1::2], strict=True):
            where = action["index"]
            status = self.item_status(where["_id"])
            item: dict[str, Any] = {"_index": where["_index"], "_id": where["_id"], "status": status}
            if status < 300:
                kept = {key: feature_value(impact) for key, impact in document["v"].items()}
                self.indexes[where["_index"]]["documents"][where["_id"]] = kept
            else:
                item["error"] = {"type": "as_told", "reason": f"status {status}"}
            items.append({"index": item})
        return {"took": 1, "errors": any("error" in item["index"] for item in items), "items": items}

    def _search(self, lines: list[Any]) -> Any:
        responses = []
        for header, request in zip(lines[::2], lines[1::2], strict=True):
            [(kind, query)] = request["query"].items()
            vector = query["query_vector"] if kind == "sparse_vector" else query["v"]["query_tokens"]
            if max(vector.values()) > MOST_BOOST:
                responses.append({"error": {"reason": "weight must be in (0, 64]"}, "status": 400})
                continue
            hits = []
            for docid, kept in self.indexes[header["index"]]["documents"].items():
                score = sum(weight * kept.get(key, 0) for key, weight in vector.items())
                if score:
                    hits.append({"_id": docid, "_score": score})
            hits.sort(key=lambda hit: -hit["_score"])
            found = {"hits": hits[: request["size"]]}
            responses.append({"hits": found, "timed_out": False, "_shards": {"failed": 0}, "status": 200})
        return {"took": 1, "responses": responses}
