"""Callers that check their answers: each changes a domain of its own and compares the list of attached domains with the answers."""

import asyncio
import time
import uuid
from dataclasses import dataclass

import grpc
from fleet import INSTANCE, PROJECT, service_config
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2, status_pb2
from grpc import aio
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

SERVICE = "huaweicloud.apic.v2.CertificateService"
CALL_TIMEOUT = 25
# Between a failure and the next call.
PAUSE = 0.25


@dataclass
class Answer:
    method: str
    call: str
    began: float
    ended: float | None = None
    code: str | None = None
    reason: str | None = None
    outcome: str | None = None
    is_confirmed: bool = False


class Load:
    def __init__(self, target, address):
        """`address` is one of the gateways, for its reflection."""
        with grpc.insecure_channel(address) as channel:
            service = DescriptorPool(ProtoReflectionDescriptorDatabase(channel)).FindServiceByName(SERVICE)
            self.types = {method.name: (GetMessageClass(method.input_type), GetMessageClass(method.output_type))
                          for method in service.methods}
        self.channel = aio.insecure_channel(target, options=[
            # Of a list of addresses, the library makes an `:authority` that is none.
            ("grpc.default_authority", "gateways.example.org"), ("grpc.service_config", service_config()),
            ("grpc.initial_reconnect_backoff_ms", 100), ("grpc.min_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 500),
        ])
        self.stubs = {name: self.channel.unary_unary(f"/{SERVICE}/{name}", request_serializer=request.SerializeToString,
                                                     response_deserializer=response.FromString)
                      for name, (request, response) in self.types.items()}
        self.answers, self.contradictions, self.pending = [], [], set()
        self.stopping, self.tasks = asyncio.Event(), []

    async def call(self, method, **fields):
        answer = Answer(method, str(uuid.uuid4()), time.monotonic())
        self.answers.append(answer)
        ended = asyncio.get_running_loop().create_future()
        self.pending.add(ended)
        request, _ = self.types[method]
        call = self.stubs[method](request(project_id=PROJECT, **fields), timeout=CALL_TIMEOUT,
                                  metadata=(("x-request-id", answer.call),))
        try:
            response, answer.code = await call, "OK"
        except aio.AioRpcError as error:
            response, answer.code = None, error.code().name
            answer.reason, answer.outcome = details(error)
        answer.is_confirmed = any(key == "apig-outcome" for key, _ in await call.initial_metadata() or ())
        answer.ended = time.monotonic()
        self.pending.discard(ended)
        ended.set_result(None)
        return answer, response

    async def settle(self):
        """Waits for the calls in progress; others go on."""
        await asyncio.gather(*self.pending)

    def start(self, workers):
        self.tasks += [asyncio.create_task(self.work(f"worker-{number}", f"worker-{number}", self.stopping)) for number in range(workers)]

    async def share(self, sharers, seconds):
        """Further callers for a time, all with one certificate."""
        stopping = asyncio.Event()
        tasks = [asyncio.create_task(self.work("shared", f"sharer-{number}", stopping)) for number in range(sharers)]
        await asyncio.sleep(seconds)
        stopping.set()
        await asyncio.gather(*tasks)

    async def stop(self):
        self.stopping.set()
        await asyncio.gather(*self.tasks)
        await self.channel.close()

    async def work(self, certificate, name, stopping):
        """Attaches and detaches a domain, and reads the list after each change."""
        domain, is_attached = f"{name}.example.com", False
        while not stopping.is_set():
            method = "DetachDomains" if is_attached else "AttachDomains"
            change, _ = await self.call(method, certificate_id=certificate, domains=[{"domain": domain, "instance_ids": [INSTANCE]}])
            # None: unknown to the caller.
            expected = not is_attached if change.code == "OK" else None if change.outcome == "unknown" else is_attached
            if change.code != "OK":
                await asyncio.sleep(PAUSE)
            listed = None
            while listed is None:
                read, response = await self.call("ListAttachedDomains", certificate_id=certificate, url_domain=domain, limit=500)
                if response is None:
                    if stopping.is_set():
                        return
                    await asyncio.sleep(PAUSE)
                    continue
                listed = domain in [row.url_domain for row in response.bound_domains]
            if expected is not None and listed != expected:
                self.contradictions.append(f"{domain}: {change}; attached: {listed}")
            is_attached = listed


def details(error):
    """Reason and outcome of an error; the reason is none without details."""
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            for packed in status_pb2.Status.FromString(value).details:
                info = error_details_pb2.ErrorInfo()
                if packed.Unpack(info):
                    return info.reason, dict(info.metadata).get("outcome")
    return None, None
