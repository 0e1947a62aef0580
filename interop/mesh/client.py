"""A gRPC client with messages from server reflection: statuses, metadata and decoded details."""

from dataclasses import dataclass, field

import grpc
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from grpc_status import rpc_status

SERVICE = "huaweicloud.apic.v2.CertificateService"

# Of the emulator's own world.
PROJECT = "73d69ae0cfcf460190522d06b60f05ad"
CERTIFICATE = "a27be832f2e9441c8127fe48e3b5ac67"
INSTANCE = "f0fa1789-3b76-433b-a787-9892951c620e"
DOMAIN = "apigtest.xxx.com"
TOKEN = "demo-operator-token"

# Longer than the timeout of Envoy's routes, for a slow machine.
TIMEOUT = 60


@dataclass
class Answer:
    code: grpc.StatusCode
    message: str
    metadata: dict[str, str]
    details: dict[str, Message] = field(default_factory=dict)

    @property
    def reason(self):
        """`-` for an error without details, as Envoy sends them."""
        return self.details["ErrorInfo"].reason if "ErrorInfo" in self.details else "-"

    @property
    def outcome(self):
        return dict(self.details["ErrorInfo"].metadata).get("outcome") if "ErrorInfo" in self.details else None


class Client:
    """A connection with default settings; with `tls`, (CA, certificate, key) as bytes, and the server's name."""

    def __init__(self, address, tls=None, described_by=None):
        if tls:
            ca, certificate, key = tls
            self.channel = grpc.secure_channel(address, grpc.ssl_channel_credentials(ca, key, certificate))
        else:
            self.channel = grpc.insecure_channel(address)
        pool = described_by.pool if described_by else DescriptorPool(ProtoReflectionDescriptorDatabase(self.channel))
        self.pool = pool
        self.service = pool.FindServiceByName(SERVICE)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.channel.close()

    def message(self, name, fields):
        """The bytes of a request."""
        return GetMessageClass(self.service.methods_by_name[name].input_type)(**fields).SerializeToString()

    def call(self, name, fields, *, metadata=(), token=TOKEN, timeout=TIMEOUT):
        method = self.service.methods_by_name[name]
        call = self.channel.unary_unary(
            f"/{SERVICE}/{name}", response_deserializer=GetMessageClass(method.output_type).FromString
        )
        metadata = [*metadata, *([("x-auth-token", token)] if token else [])]
        try:
            _, done = call.with_call(self.message(name, fields), timeout=timeout, metadata=metadata)
        except grpc.RpcError as error:
            done = error
        return answer(done)

    def attach(self, certificate=CERTIFICATE, domain=DOMAIN, **options):
        return self.call("AttachDomains", attachment(certificate, domain), **options)

    def start_attach(self, certificate):
        """A call in progress."""
        call = self.channel.unary_unary(f"/{SERVICE}/AttachDomains")
        request = self.message("AttachDomains", attachment(certificate))
        return call.future(request, timeout=TIMEOUT, metadata=[("x-auth-token", TOKEN)])

    @staticmethod
    def ended(call):
        """What came of a call in progress."""
        call.code()
        return answer(call)

    def get(self, certificate=CERTIFICATE, **options):
        return self.call("GetCertificate", {"project_id": PROJECT, "certificate_id": certificate}, **options)


def attachment(certificate=CERTIFICATE, domain=DOMAIN):
    domains = [{"domain": domain, "instance_ids": [INSTANCE]}]
    return {"project_id": PROJECT, "certificate_id": certificate, "domains": domains}


def answer(done):
    metadata = dict([*(done.initial_metadata() or ()), *(done.trailing_metadata() or ())])
    details = {}
    # This also compares the status with the copy of it that holds the details, and raises if they differ.
    status = rpc_status.from_call(done)
    for packed in status.details if status else ():
        name = packed.type_url.removeprefix("type.googleapis.com/google.rpc.")
        detail = getattr(error_details_pb2, name)()
        assert packed.Unpack(detail), f"{packed.type_url} can't be decoded"
        details[name] = detail
    return Answer(done.code(), done.details() or "", metadata, details)
