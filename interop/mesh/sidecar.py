"""sidecar.yaml: HTTP/2 without TLS from Envoy to the gateway, on its TCP port and its Unix socket."""

import tempfile
from contextlib import contextmanager
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from client import CERTIFICATE, Client, TIMEOUT
from cloud import scripted_cloud
from stage import SINGLE, Emulator, Envoy, Gateway, Place, eventually

LISTENERS = ["over_tcp", "over_unix_socket"]


@contextmanager
def mesh(program, upstream, *settings, change=()):
    """Envoy before two gateways, one at a port and one on a Unix socket."""
    # A socket's path is limited to about a hundred bytes.
    with tempfile.TemporaryDirectory() as folder, Place() as place:
        path = Path(folder) / "gw.sock"
        replacements = [("port_value: 50051", f"port_value: {place.port}"), ("/run/apig/gateway.sock", path), *change]
        with Gateway(program, place, upstream, *settings) as tcp, Gateway(program, path, upstream, *settings) as unix:
            with Envoy("sidecar", replacements) as envoy:
                yield envoy, [tcp, unix]


def calls_succeed_over_tcp_and_over_a_unix_socket(program):
    with Emulator(program) as cloud, mesh(program, cloud.url) as (envoy, gateways):
        for listener in LISTENERS:
            with Client(envoy.address(listener)) as client:
                for number in range(50):
                    answer = client.attach(metadata=[("x-request-id", f"{listener}-{number}")])
                    assert answer.code is grpc.StatusCode.OK, answer
                    assert answer.metadata["x-request-id"] == f"{listener}-{number}", answer.metadata
    for gateway in gateways:
        assert len(gateway.calls("AttachDomains")) == 50, f"{gateway.calls('AttachDomains')} at {gateway.command}"


def errors_keep_message_details_and_metadata(program):
    tests = [
        ({"domain": "no.example.com"}, {}, "NOT_FOUND", "APIG_3020"),
        ({}, {"token": "stale"}, "UNAUTHENTICATED", "APIG_1002"),
        ({"certificate": "6c81f2b04e7d4a39957a3d0e5b8c1f46"}, {}, "RESOURCE_EXHAUSTED", "APIG_0308"),
        ({"domain": "a b"}, {}, "INVALID_ARGUMENT", "INVALID_REQUEST"),
        ({"certificate": "0a5d7e3c1f9b48e2860c4b7a9d2f6e15"}, {}, "INTERNAL", "APIG_9999"),
    ]
    with Emulator(program) as cloud, mesh(program, cloud.url, *SINGLE) as (envoy, gateways):
        for listener, gateway in zip(LISTENERS, gateways):
            listen = gateway.command[gateway.command.index("--listen") + 1]
            with Client(envoy.address(listener)) as through, Client(listen) as direct:
                for request, options, code, reason in tests:
                    seen, expected = (client.attach(**request, **options) for client in (through, direct))
                    assert (seen.code.name, seen.reason) == (code, reason), seen
                    assert seen.message == expected.message, (seen, expected)
                    # Those of two calls differ in the cloud's request id.
                    assert sorted(seen.details) == sorted(expected.details), (seen, expected)
                    for name in set(seen.details) - {"ErrorInfo", "RequestInfo"}:
                        assert seen.details[name] == expected.details[name], (seen, expected)
                    pushback = [answer.metadata.get("grpc-retry-pushback-ms") for answer in (seen, expected)]
                    assert pushback[0] == pushback[1], pushback


def health_can_be_checked_and_watched(program):
    with scripted_cloud() as cloud, mesh(program, cloud.url) as (envoy, _):
        for listener in LISTENERS:
            with grpc.insecure_channel(envoy.address(listener)) as channel:
                health = health_pb2_grpc.HealthStub(channel)
                request = health_pb2.HealthCheckRequest(service="readiness")
                assert health.Check(request, timeout=TIMEOUT).status == health_pb2.HealthCheckResponse.SERVING
                assert next(health.Watch(request, timeout=TIMEOUT)).status == health_pb2.HealthCheckResponse.SERVING


def large_metadata_arrives(program):
    with scripted_cloud() as cloud, mesh(program, cloud.url) as (envoy, _):
        for listener in LISTENERS:
            with Client(envoy.address(listener)) as client:
                answer = client.attach(CERTIFICATE, token="t" * 8_000, metadata=[(f"x-{n}", "~" * 4_000) for n in range(9)])
                assert answer.code is grpc.StatusCode.OK, answer


def a_callers_deadline_ends_the_call_at_the_gateway(program):
    with scripted_cloud() as cloud, mesh(program, cloud.url, *SINGLE) as (envoy, gateways):
        cloud.open.clear()
        for listener, gateway in zip(LISTENERS, gateways):
            with Client(envoy.address(listener)) as client:
                answer = client.attach(timeout=0.5)
            assert answer.code is grpc.StatusCode.DEADLINE_EXCEEDED, answer
            # The cloud has not answered yet: the caller's deadline is what ends the call.
            call, = eventually(lambda: gateway.calls("AttachDomains"), "the call ends at the gateway")
            assert call["code"] in {"DEADLINE_EXCEEDED", "CANCELLED"} and call["outcome"] == "unknown", call


CHECKS = [
    calls_succeed_over_tcp_and_over_a_unix_socket,
    errors_keep_message_details_and_metadata,
    health_can_be_checked_and_watched,
    large_metadata_arrives,
    a_callers_deadline_ends_the_call_at_the_gateway,
]
