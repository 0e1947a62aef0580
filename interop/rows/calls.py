"""Methods, messages, metadata and time; with gRPC's own interop cases for unary calls, which these names are from."""

import base64
import json
import subprocess
from dataclasses import replace
from urllib.parse import parse_qsl

import cases
from case import Call, Case, ask, call, checked, differences
from expect import CLOUD_ID, Expected, OneOf, compare, of_cloud, of_gateway, ok
from gateway import CERTIFICATE, PROGRAM_TIMEOUT, PROJECT, TOKEN
from relay import relay
from rows.catalogue import ID, error
from rows.seed import attach
from scripted_cloud import HELD, Answer

MIB = 1024 * 1024
FAMILY = "apigw"
PEM = "-----BEGIN CERTIFICATE-----\n"


def camel(value):
    """The answer of the cloud in protobuf's JSON form: its members in camel case, and 64-bit numbers as text."""
    if isinstance(value, list):
        return [camel(entry) for entry in value]
    if not isinstance(value, dict):
        return value
    # `null` and empty lists are not told from what is absent.
    kept = {name: inner for name, inner in value.items() if inner not in (None, "", [])}
    named = {"".join(part.capitalize() if at else part for at, part in enumerate(name.split("_"))): camel(inner)
             for name, inner in kept.items()}
    if "total" in named:
        named["total"] = str(named["total"])
    if isinstance(named.get("status"), int):
        named["status"] = {1: "CNAME_STATUS_UNRESOLVED", 3: "CNAME_STATUS_RESOLVED"}[named["status"]]
    return named


def method(name):
    """Every field of a request reaches the cloud, and every field of its answer the caller."""
    fields = {"project_id": PROJECT, **cases.CASES[name][0].fields}
    status, sent = cases.answer(name, FAMILY)

    def arrived(stage):
        [recorded] = stage.scripted.requests
        query = {name: type(fields[name])(value) for name, value in parse_qsl(recorded.query)}
        body = json.loads(recorded.body) if recorded.body else {}
        elsewhere = {name: value for name, value in fields.items() if name not in query and name not in body}
        yield from compare("query and body", fields, {**query, **body, **elsewhere})
        yield from compare("path", set(elsewhere.values()), recorded.path.split("/"))

    return Case(
        f"{name}: every field of request and response", [call(name, fields, ok(camel(sent or {})))],
        gateway="scripted, apigw", script=[Answer(status, sent)], requests=1, then=arrived,
    )


def update(size, expected, **options):
    """A request whose message has so many bytes."""
    fields = {"project_id": PROJECT, "certificate_id": CERTIFICATE, "name": "large", "private_key": cases.KEY}
    # A field has a tag of one byte and its length, of one to four bytes, before its text.
    used = sum(1 + 1 + len(value) + (len(value) > 127) for value in fields.values())
    for length_bytes in (2, 3, 4):
        text = PEM + "A" * (size - used - 1 - length_bytes - len(PEM))
        if len(text) < 128**length_bytes:
            break
    return call("UpdateCertificate", {**fields, "cert_content": text}, expected, **options)


def body_arrived(size):
    def then(stage):
        [recorded] = stage.scripted.requests
        yield from compare("size of cert_content", True, len(json.loads(recorded.body)["cert_content"]) > size - 1000)

    return then


def large(name, size, answered, **options):
    """A success with this many bytes in the request's message, and in the name that is answered."""
    return Case(
        name, [update(size, ok({"id": "c", "name": "n" * answered}), **options)],
        script=[Answer(200, {"id": "c", "name": "n" * answered})], requests=1, then=body_arrived(size),
    )



def compressed(case, stage, client):
    """By the bytes that pass: no server could tell otherwise that a library has not left the message as it is."""
    stage.scripted.plays(case.script)
    with relay(stage.gateway(case.gateway).target, stage.free_address()) as between:
        [call] = case.calls
        yield from differences(call.expected, ask(client, {**call.request, "target": between.target}))
        yield from compare("fewer bytes than the message has", True, 0 < between.of_client < 27_182)
    yield from case.then(stage)


TOO_LARGE = of_gateway("RESOURCE_EXHAUSTED", "INVALID_REQUEST", outcome="not_sent")
# The interop case's own text.
SPECIAL = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n"
UNICODE = "证书不存在: \u202eé\u0301, 😀, ß, \u2028"
BINARY = [["trace-bin", base64.b64encode(bytes(range(256))).decode()], ["empty-bin", ""]]


def only_named_headers(stage):
    """No key of the caller's reaches the cloud but those that the gateway names, however they are encoded."""
    [recorded] = stage.scripted.requests
    for name in ["trace-bin", "empty-bin", "x-grpc-test-echo-initial", "grpc-timeout"]:
        yield from compare(f"header {name} at the cloud", None, recorded.headers.get(name))
    yield from compare("x-request-id at the cloud", "interop-id", recorded.headers.get("x-request-id"))
    yield from compare("x-auth-token at the cloud", TOKEN, recorded.headers.get("x-auth-token"))


def unknown(name, method_name):
    refused = of_gateway("UNIMPLEMENTED", "INVALID_REQUEST")
    return Case(name, [Call({
        "action": "call", "method": method_name, "request_bytes": "", "metadata": [["x-auth-token", TOKEN]],
    }, refused)], requests=0)


MESSAGES = [
    *map(method, cases.CASES),
    Case("empty_unary: a response without fields", [attach(ok())], requests=1),
    large("large_unary: 271,828 bytes and 314,159 bytes", 271_828, 314_159),
    large("a request of 4 MiB", 4 * MIB, 1),
    Case("a request of 4 MiB and a byte", [update(4 * MIB + 1, TOO_LARGE)], requests=0),
    Case("a request of 8 MiB", [update(8 * MIB, TOO_LARGE)], requests=0),
    large("a response of nearly 4 MiB", 1_000, 4 * MIB - 100),
    replace(large("client_compressed_unary: gzip", 271_828, 314_159, compression="gzip"), scenario=compressed),
    Case("a message that unpacks to more than 4 MiB", [update(8 * MIB, TOO_LARGE, compression="gzip")], requests=0),
    Case("deflate, which is not offered: UNIMPLEMENTED", [
        update(10_000, of_gateway("UNIMPLEMENTED", "INVALID_REQUEST", outcome="not_sent"), compression="deflate"),
    ], requests=0, cannot=dict.fromkeys(("go", "java", "node", "rust", "grpcurl", "buf_curl"), "it has no deflate for requests")),
    Case("bytes that are no message", [Call({
        "action": "call", "method": "huaweicloud.apic.v2.CertificateService/AttachDomains", "request_bytes": "////",
        "metadata": [["x-auth-token", TOKEN]],
    }, of_gateway("INVALID_ARGUMENT", "INVALID_REQUEST", outcome="not_sent"))], requests=0),
    unknown("unimplemented_method", "huaweicloud.apic.v2.CertificateService/DetachEverything"),
    unknown("unimplemented_service", "nobody.v1.Nothing/Do"),
    Case("status_code_and_message", [attach(of_cloud("INVALID_ARGUMENT", "APIG.2011", 400, message="test status message"))],
         script=[error(400, "APIG.2011", "test status message")]),
    Case("special_status_message: white space and Unicode",
         [attach(of_cloud("INVALID_ARGUMENT", "APIG.2011", 400, message=SPECIAL))],
         script=[error(400, "APIG.2011", SPECIAL)]),
    Case("Unicode of one to four bytes in an error message",
         [attach(of_cloud("INVALID_ARGUMENT", "APIG.2011", 400, message=UNICODE))],
         script=[error(400, "APIG.2011", UNICODE)]),
    Case("custom_metadata: text is kept where it is named, and binary keys stop at the gateway", [
        attach(ok(x_request_id="interop-id", apig_request_id=CLOUD_ID), metadata=[
            ["x-request-id", "interop-id"], ["x-grpc-test-echo-initial", "test_initial_metadata_value"], *BINARY,
        ]),
    ], script=[Answer(204, None, ID)], requests=1, then=only_named_headers),
    Case("request metadata of 48 KiB", [
        attach(ok(x_request_id="large"), metadata=[*[[f"x-{at}", "~" * 4_000] for at in range(11)], ["x-request-id", "large"]]),
    ] * 3, requests=3),
    Case("100 calls on one connection", [
        attach(ok(x_request_id=f"call-{at % 60:050}"), metadata=[["x-request-id", f"call-{at % 60:050}"]]) for at in range(100)
    ], requests=100, cannot=dict.fromkeys(("grpcurl", "buf_curl"), "it makes a connection for each call")),
]

PASSED = of_gateway("DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED", outcome="unknown")


def client_or(expected, code="DEADLINE_EXCEEDED"):
    """The client's own error may come first: it has no details."""
    return Expected(OneOf((expected.code, code)), details=OneOf(({}, expected.details)))


def with_rust(case, make):
    """The case, but for tonic."""
    note = "tonic reports CANCELLED where its own clock ends the call before the gateway's DEADLINE_EXCEEDED comes"
    return replace(case, otherwise={"rust": (make("CANCELLED"), note)})


def ended_at_cloud(stage):
    yield from compare("requests that were ended", 1, stage.scripted.waits_for("abandoned", 1))


def sleeping_server(code):
    return Case("timeout_on_sleeping_server: the request to the cloud is ended",
                [attach(client_or(PASSED, code), timeout_ms=2_000)], script=[HELD], requests=1, then=ended_at_cloud)


def before_anything_is_sent(code):
    expected = client_or(of_gateway("DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED", outcome="not_sent"), code)
    return Case("a deadline that passes before anything is sent", [attach(expected, timeout_ms=1_000)],
                scenario=waiting_for_another_change)


def waiting_for_another_change(case, stage, client):
    """The deadline passes while the certificate is locked by a change of another caller."""
    stage.scripted.plays([HELD])
    running = stage.gateway("scripted")
    target = running.target if running.target.startswith("unix:") else f"http://{running.target}"
    holder = subprocess.Popen(
        [stage.program, "attach", "--target", target, "--project-id", PROJECT, "--certificate-id", CERTIFICATE,
         "--domain", "www.example.com"],
        env={"APIG_GATEWAY_TOKEN": TOKEN}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )
    try:
        yield from compare("requests of the other caller", 1, stage.scripted.waits_for("requests", 1))
        [waiting] = case.calls
        answer = checked(client.ask({**waiting.request, "target": running.target}))
        yield from differences(waiting.expected, answer)
        stage.scripted.release()
        output, _ = holder.communicate(timeout=PROGRAM_TIMEOUT)
        yield from compare("the other caller", (0, ""), (holder.returncode, output if holder.returncode else ""))
        yield from compare("requests at the cloud", 1, len(stage.scripted.requests))
    finally:
        holder.kill()
        holder.wait()


TIME = [
    Case("the gateway's timeout: DEADLINE_EXCEEDED with the outcome", [attach(PASSED)], gateway="short timeout",
         script=[HELD], requests=1, then=ended_at_cloud),
    with_rust(sleeping_server("DEADLINE_EXCEEDED"), sleeping_server),
    with_rust(before_anything_is_sent("DEADLINE_EXCEEDED"), before_anything_is_sent),
    Case("cancellation: the request to the cloud is ended", [
        attach(Expected("CANCELLED", details={}), cancel_after_ms=1_000),
    ], script=[HELD], requests=1, then=ended_at_cloud),
]
