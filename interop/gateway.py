"""Starts the gateway and the emulated cloud, and calls the gateway without generated code: messages come from reflection."""

import json
import os
import subprocess
import threading
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass, field

import grpc
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from grpc_status import rpc_status

SERVICE = "huaweicloud.apic.v2.CertificateService"

# The world that `demo` starts with.
PROJECT = "73d69ae0cfcf460190522d06b60f05ad"
CERTIFICATE = "a27be832f2e9441c8127fe48e3b5ac67"
CERTIFICATE_WITH_CA = "1b6f0d83c9a24e57b8d1f4a6e02c7359"
CERTIFICATE_FAULTY = "0a5d7e3c1f9b48e2860c4b7a9d2f6e15"
CERTIFICATE_THROTTLED = "6c81f2b04e7d4a39957a3d0e5b8c1f46"
CERTIFICATE_DONE_BUT_TIMES_OUT = "d3f8470b6a5e4c1d92b7e8035fa1c69e"
INSTANCES = ["f0fa1789-3b76-433b-a787-9892951c620e", "7d39549681c54d968ec2910da9da95cd"]
DOMAIN = "apigtest.xxx.com"
TOKEN = "demo-operator-token"
AUDITORS_TOKEN = "demo-auditor-token"

# Long enough for the gateway's own repeats on a slow machine; no check waits for it to pass.
TIMEOUT = 20
# For the start and the end of the program.
PROGRAM_TIMEOUT = 60


@dataclass
class Answer:
    """What came of a call: its status, initial and trailing metadata, and its details by type name."""

    code: grpc.StatusCode
    message: str
    metadata: dict[str, str]
    details: dict[str, Message] = field(default_factory=dict)

    @property
    def info(self):
        return self.details["ErrorInfo"]

    @property
    def violations(self):
        return [violation.field for violation in self.details["BadRequest"].field_violations]


class Gateway:
    """A connection with a client's default settings: its 8 KiB for the headers of an answer matter here."""

    def __init__(self, address, options=None):
        self.channel = grpc.insecure_channel(address, options)
        self.descriptors = ProtoReflectionDescriptorDatabase(self.channel)
        self.pool = DescriptorPool(self.descriptors)
        self.method = self.pool.FindServiceByName(SERVICE).FindMethodByName("AttachDomains")

    def input_of(self, name):
        """The descriptor of a method's request."""
        return self.method.containing_service.methods_by_name[name].input_type

    def call(self, name, fields, *, token=TOKEN):
        """Calls any method with the fields of its request; gives the answer, and the response of a success."""
        method = self.method.containing_service.methods_by_name[name]
        request = GetMessageClass(method.input_type)(**fields)
        call = self.channel.unary_unary(
            f"/{SERVICE}/{name}",
            request_serializer=GetMessageClass(method.input_type).SerializeToString,
            response_deserializer=GetMessageClass(method.output_type).FromString,
        )
        metadata = [("x-auth-token", token)] if token is not None else []
        try:
            response, done = call.with_call(request, timeout=TIMEOUT, metadata=metadata)
        except grpc.RpcError as refusal:
            response, done = None, refusal
        return answer(done), response


def answer(done):
    metadata = {key: value for key, value in [*(done.initial_metadata() or ()), *(done.trailing_metadata() or ())]}
    details = {}
    # This also compares the status with the copy of it that holds the details, and raises if they differ.
    status = rpc_status.from_call(done)
    for packed in status.details if status else ():
        name = packed.type_url.removeprefix("type.googleapis.com/google.rpc.")
        detail = getattr(error_details_pb2, name)()
        assert packed.Unpack(detail), f"{packed.type_url} can't be decoded"
        assert name not in details, f"{name} is there twice"
        details[name] = detail
    return Answer(done.code(), done.details() or "", metadata, details)


class Program:
    """The program that was started with `command`; its log is complete once it has ended."""

    def __init__(self, command, environment=()):
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("APIG_GATEWAY_")}
        self.process = subprocess.Popen(
            command, env={**inherited, **dict(environment)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.log, self.changed, self.has_ended = [], threading.Condition(), False
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for line in self.process.stderr:
            with self.changed:
                self.log.append(json.loads(line) if line.startswith("{") else {"message": line.rstrip()})
                self.changed.notify_all()
        with self.changed:
            self.has_ended = True
            self.changed.notify_all()

    def event(self, message):
        """Waits for a line of the log."""
        def found():
            return next((line for line in self.log if line["message"] == message), None)

        with self.changed:
            self.changed.wait_for(lambda: found() or self.has_ended, PROGRAM_TIMEOUT)
            assert found(), f"no {message!r} in the log: {self.log}"
            return found()

    def stop(self):
        """Asks it to end; returns its exit code."""
        self.process.terminate()
        return self.ended()

    def ended(self):
        """Waits for its end; returns its exit code."""
        code = self.process.wait(PROGRAM_TIMEOUT)
        self.reader.join(PROGRAM_TIMEOUT)
        return code

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.reader.join(PROGRAM_TIMEOUT)


def start_gateway(program, *settings, listen="127.0.0.1:0", environment=()):
    """Starts a gateway and waits until it serves; returns it with its address."""
    command = [program, "serve", "--listen", listen, "--admin-listen", "off", "--log-format", "json", *settings]
    gateway = Program(command, environment)
    try:
        return gateway, gateway.event("serving")["address"]
    except BaseException:
        gateway.kill()
        raise


@contextmanager
def gateway_before(program, *settings, environment=()):
    """Starts the program; gives the gateway's address and its log, which is complete at the end."""
    gateway, address = start_gateway(program, *settings, environment=environment)
    try:
        yield address, gateway.log
        gateway.stop()
    finally:
        gateway.kill()


class EmulatedCloud:
    """The emulated cloud, asked without the gateway."""

    def __init__(self, url):
        self.url = url

    def bindings(self, certificate_id):
        """What the certificate is bound to: `{(domain, instance): row}`."""
        request = urllib.request.Request(
            f"{self.url}/v2/{PROJECT}/apic/certificates/{certificate_id}/attached-domains?limit=500",
            headers={"X-Auth-Token": TOKEN},
        )
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
            rows = json.load(response)["bound_domains"]
        return {(row["url_domain"], row["instance_id"]): row for row in rows}


@contextmanager
def emulated_cloud(program):
    emulator = Program([program, "emulator", "--listen", "127.0.0.1:0"])
    try:
        # Ends at the end of the output, too: a program that does not start says why and ends.
        line = emulator.process.stdout.readline()
        assert "http://" in line, f"the emulator does not start: {emulator.log}"
        yield EmulatedCloud(line.split()[-1])
        emulator.stop()
    finally:
        emulator.kill()
