"""The lines of the interop protocol in terms of Python's gRPC, for both of its APIs."""

import base64
import json
from pathlib import Path

import grpc
from google.protobuf.descriptor_pool import Default as descriptors
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2  # noqa: F401 (its types are decoded by their names)
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from grpc_status import rpc_status
from huaweicloud.apic.v2 import certificate_service_pb2  # noqa: F401 (as above)

COMPRESSION = {None: None, "gzip": grpc.Compression.Gzip, "deflate": grpc.Compression.Deflate}


def raw(value):
    return value


class Method:
    """A method of the .proto, or any other with bytes for its messages."""

    def __init__(self, request):
        self.path = "/" + request["method"]
        service, _, name = request["method"].rpartition("/")
        try:
            method = descriptors().FindServiceByName(service).methods_by_name[name]
        except KeyError:
            method = None
        if method is None or "request_bytes" in request:
            self.message = base64.b64decode(request.get("request_bytes", ""))
            self.serializer = raw
        else:
            self.message = ParseDict(request["request"], GetMessageClass(method.input_type)())
            self.serializer = type(self.message).SerializeToString
        self.deserializer = GetMessageClass(method.output_type).FromString if method else raw


def channel_options(request):
    config = request.get("service_config")
    return [("grpc.service_config", Path(config).read_text())] if config else []


def credentials(tls):
    def read(name):
        return Path(tls[name]).read_bytes() if name in tls else None

    return grpc.ssl_channel_credentials(read("ca"), read("key"), read("certificate"))


def call_options(request):
    metadata = [
        (key, base64.b64decode(value) if key.endswith("-bin") else value) for key, value in request.get("metadata", [])
    ]
    timeout = request["timeout_ms"] / 1000 if "timeout_ms" in request else None
    return {"metadata": metadata, "timeout": timeout, "compression": COMPRESSION[request.get("compression")]}


def pairs(metadata):
    return [
        [key, base64.b64encode(value).decode() if isinstance(value, bytes) else value] for key, value in metadata or ()
    ]


def answered(response, headers, trailers):
    is_message = hasattr(response, "DESCRIPTOR")
    return {
        "code": "OK", "message": "", "details": [], "response": MessageToDict(response) if is_message else None,
        "headers": pairs(headers), "trailers": pairs(trailers),
    }


def refused(error):
    """Of the exceptions of both APIs; this also compares the code with the copy of it that holds the details."""
    headers, trailers = error.initial_metadata(), error.trailing_metadata()
    status = rpc_status.from_call(_Seen(error))
    return {
        "code": error.code().name, "message": error.details() or "",
        "details": MessageToDict(status)["details"] if status and status.details else [], "response": None,
        "headers": pairs(headers), "trailers": pairs(trailers),
    }


class _Seen:
    """An error with trailing metadata as the module for statuses takes it: a list, and never `None`."""

    def __init__(self, error):
        self.code, self.details = error.code, error.details
        self.trailing_metadata = lambda: [*(error.trailing_metadata() or ())]


def health_request(request):
    return health_pb2.HealthCheckRequest(service=request.get("service", ""))


def status_name(response):
    return health_pb2.HealthCheckResponse.ServingStatus.Name(response.status)


def reflection_arguments(version):
    """Both versions have the same messages, so that one set of classes does for both."""
    return (
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        reflection_pb2.ServerReflectionRequest.SerializeToString,
        reflection_pb2.ServerReflectionResponse.FromString,
    )


LIST_SERVICES = reflection_pb2.ServerReflectionRequest(list_services="*")


def service_names(response):
    return [service.name for service in response.list_services_response.service]


def channel_key(request):
    return json.dumps([request["target"], request.get("tls"), request.get("service_config")])
