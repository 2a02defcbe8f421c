"""Servers of Qdrant's and Milvus's protocols that take documents, and fail first as they are told."""

import time
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import Any

import grpc
from engines.recording_server import RecordingServer
from pymilvus.grpc_gen import common_pb2, milvus_pb2, milvus_pb2_grpc, schema_pb2

from csplade_pyserini.engines.target import DOCID_FIELD, FIELD

NAME = "docs"
SILENCE = 0
"""Failure: no answer in time."""
SECONDS_OF_SILENCE = 2.5


class FailingQdrant(RecordingServer):
    """Answers PUT /collections/docs/points; a failure is an HTTP status."""

    def respond(self, method: str, path: str, body: str) -> tuple[int, Any]:
        """Answer a request."""
        assert (method, path) == ("PUT", f"/collections/{NAME}/points"), (method, path)
        if self.failures:
            status = self.failures.pop(0)
            return status, {"status": {"error": "as told"}, "time": 0.0}
        done = {"operation_id": 1, "status": "completed"}
        return HTTPStatus.OK, {"result": done, "status": "ok", "time": 0.0}


class FailingMilvus(milvus_pb2_grpc.MilvusServiceServicer):  # type: ignore[misc]
    """A gRPC server with one collection; a failure is a status of gRPC or an error code of Milvus."""

    def __init__(self, failures: list[int | grpc.StatusCode]) -> None:
        self.failures = failures
        self.upserts = 0
        self._server = grpc.server(ThreadPoolExecutor(4))
        milvus_pb2_grpc.add_MilvusServiceServicer_to_server(self, self._server)
        port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()
        self.url = f"http://127.0.0.1:{port}"

    def close(self) -> None:
        """Stop it."""
        self._server.stop(0)

    def Connect(self, request: Any, context: Any) -> Any:  # noqa: N802, ARG002
        """Let the client in."""
        return milvus_pb2.ConnectResponse(status=common_pb2.Status(), identifier=1)

    def DescribeCollection(self, request: Any, context: Any) -> Any:  # noqa: N802, ARG002
        """Give the fields that export makes."""
        length = common_pb2.KeyValuePair(key="max_length", value="65535")
        fields = [
            schema_pb2.FieldSchema(
                fieldID=100,
                name=DOCID_FIELD,
                is_primary_key=True,
                data_type=schema_pb2.VarChar,
                type_params=[length],
            ),
            schema_pb2.FieldSchema(fieldID=101, name=FIELD, data_type=schema_pb2.SparseFloatVector),
        ]
        collection = schema_pb2.CollectionSchema(name=NAME, fields=fields)
        return milvus_pb2.DescribeCollectionResponse(
            status=common_pb2.Status(), schema=collection, collection_name=NAME
        )

    def Upsert(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Take documents, or fail."""
        self.upserts += 1
        failure = self.failures.pop(0) if self.failures else None
        if isinstance(failure, grpc.StatusCode):
            context.abort(failure, "as told")
        if failure == SILENCE:
            time.sleep(SECONDS_OF_SILENCE)
        elif failure:
            return milvus_pb2.MutationResult(status=common_pb2.Status(code=failure, reason="as told"))
        ids = schema_pb2.IDs(str_id=schema_pb2.StringArray(data=["a"] * request.num_rows))
        return milvus_pb2.MutationResult(status=common_pb2.Status(), upsert_cnt=request.num_rows, IDs=ids)
