"""Connections: TLS, the end of a gateway, and repeats by service config."""

import json

from case import Case, ask, checked
from client import ROOT
from expect import Expected, OneOf, compare, differences, of_cloud, of_gateway, ok
from rows.catalogue import ID
from rows.seed import attach, retry
from scripted_cloud import CUT, HELD, Answer

CA = {"ca": "ca.pem"}
IDENTITY = {"certificate": "client.pem", "key": "client.key"}
# The library's own error has no details.
NO_CONNECTION = Expected("UNAVAILABLE", details={})



def no_certificate(expected, **options):
    return Case("mutual TLS: a client without a certificate is refused", [attach(expected, tls=CA)], gateway="mtls",
                requests=0, transports=("tcp",), **options)


TLS = [
    Case("TLS", [attach(ok(), tls=CA)], gateway="tls", requests=1, transports=("tcp",)),
    Case("TLS: a server of another CA is refused", [attach(NO_CONNECTION, tls={"ca": "other.pem"})],
         gateway="tls", requests=0, transports=("tcp",)),
    Case("mutual TLS", [attach(ok(), tls={**CA, **IDENTITY})], gateway="mtls", requests=1, transports=("tcp",)),
    # The gateway ends the connection after the client's handshake is complete (TLS 1.3): these two name the broken exchange.
    no_certificate(NO_CONNECTION, otherwise={
        "rust": (
            no_certificate(Expected(OneOf(("UNAVAILABLE", "CANCELLED", "UNKNOWN")), details={})),
            "tonic reports CANCELLED or UNKNOWN when the connection ends before the response begins",
        ),
        "buf_curl": (
            no_certificate(Expected(OneOf(("UNAVAILABLE", "CANCELLED")), details={})),
            "it may report CANCELLED when the connection ends before the response begins",
        ),
    }),
]


def restart(case, stage, client):
    """The next gateway takes the address over while the calls of the last one end."""
    stage.scripted.plays([HELD, Answer()])
    last = stage.start("restarted", f"{stage.host}:0" if stage.transport == "tcp" else None)
    request = {**attach(ok()).request, "target": last.target}
    # Until the answer to the first call, the connection has none that GOAWAY could leave alone.
    client.send(request)
    yield from compare("requests at the cloud", 1, stage.scripted.waits_for("requests", 1))
    last.program.process.terminate()
    last.program.event("draining")
    following = stage.start_again(last)
    stage.scripted.release()
    yield from differences(ok(), checked(client.receive()))
    yield from compare("exit code of the last gateway", 0, last.program.ended())
    yield from compare("calls of the last gateway", 1, last.calls_ended())
    for _ in range(2):
        yield from differences(ok(), ask(client, request))
    yield from compare("exit code of the next gateway", 0, following.program.stop())
    yield from compare("calls of the next gateway", 2, following.calls_ended())


CONFIG = ROOT / "examples/service-config.json"
POLICY = json.loads(CONFIG.read_text())["methodConfig"][0]["retryPolicy"]
assert float(POLICY["initialBackoff"].removesuffix("s")) * 1.2 < 1, "the config's own pause is as long as the cloud's"


def after_a_second(stage):
    first, second = stage.scripted.requests
    yield from compare("the pause is kept", True, second.time - first.time >= 1)


def service_config(name, script, expected, attempts, **options):
    # No deadline: the config has one.
    return Case(f"service config: {name}", [attach(expected, service_config=str(CONFIG))], script=script,
                attempts=attempts, **options)


LATER = Answer(503, headers={**ID, "retry-after": "1"})
LIMITED = Answer(429, headers={**ID, "retry-after": "1"})
WITHOUT_DESCRIPTION = {"QuotaFailure": {"violations": [{"subject": "requests"}]}}
REPEATED = service_config("", [LIMITED, Answer()], ok(), 2, requests=2, then=after_a_second)

RETRIES = [
    service_config("503 is repeated after the pause that the cloud asks for", [LATER, Answer()], ok(), 2, requests=2,
                   then=after_a_second),
    service_config("a change that may have been made is not repeated: connection lost", [CUT],
                   of_gateway("UNAVAILABLE", "UPSTREAM_CONNECTION_LOST", outcome="unknown"), 1),
    service_config("a change that may have been made is not repeated: 502", [Answer(502, headers=ID)],
                   of_cloud("UNAVAILABLE", "", 502, outcome="unknown", pushback="-1"), 1),
    service_config("a cloud that can't be reached is tried as often as the config says", [],
                   of_gateway("UNAVAILABLE", "UPSTREAM_UNREACHABLE", retry("1s"), outcome="not_sent"),
                   POLICY["maxAttempts"], gateway="unreachable"),
    service_config("429 is left to the program with the pause to make", [LIMITED, Answer()],
                   of_cloud("RESOURCE_EXHAUSTED", "", 429, {**retry("1s"), **WITHOUT_DESCRIPTION}, pushback="1000"), 1,
                   requests=1, otherwise={"java": (
                       REPEATED, "its library takes a pause as an order to repeat, whatever the code: the second attempt is OK",
                   )}),
]

def absolute(case, stage, client):
    """The other form of a target: `unix:///path`."""
    target = stage.gateway("scripted").target.replace("unix:", "unix://")
    stage.scripted.plays([Answer()])
    yield from differences(ok(), ask(client, {**attach(ok()).request, "target": target}))


CASES = [
    *TLS,
    Case("a target unix:///path", scenario=absolute, transports=("unix",),
         cannot=dict.fromkeys(("grpcurl", "buf_curl"), "it takes the path of a socket, and no target")),
    Case("GOAWAY at a drain: calls end, and the next one goes to the gateway that took over", scenario=restart),
    *RETRIES,
]
