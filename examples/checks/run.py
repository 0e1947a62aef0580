"""The examples, each from a clean folder: what they print, and what reaches the cloud.

    run.py GATEWAY_PROGRAM [LANGUAGE...]

Every function that takes `stage` alone is a check of one session with an example, named after what must hold.
"""

import inspect
import json
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import traceback
from contextlib import contextmanager
from functools import cached_property
from itertools import pairwise
from pathlib import Path

from cloud import CLOUD_REQUEST_ID, Cloud
from gateway import Gateway, demo, taken_port, write_certificates
from languages import LANGUAGES, ROOT, SETUP_TIMEOUT, environment
from session import Session

PROGRAM, *NAMES = sys.argv[1:]
POLICY = json.loads((ROOT / "examples/service-config.json").read_text())["methodConfig"][0]["retryPolicy"]
LONG = "x" * 300
# What `Stage.calls` sends.
CALLS = [LONG, *(f"{name}.example.com" for name in (
    "good", "missing", "quota", "expired", "pause", "cut", "bad-gateway", "fault", "limit"))]


def equal(actual, expected):
    assert actual == expected, f"{actual!r} instead of {expected!r}"


def matches(printed, status, *details):
    """The first line is the status; the others have a line for each pattern."""
    assert re.fullmatch(status, printed[0]), f"no {status!r} in {printed}"
    missing = [detail for detail in details if not any(re.fullmatch(detail, line) for line in printed[1:])]
    assert not missing, f"no {missing} in {printed}"


def pauses_of_a_second(arrivals):
    for first, second in pairwise(arrivals):
        assert second.time - first.time >= 1, f"repeated after {second.time - first.time} s"


class Stage:
    """One example, copied and set up."""

    def __init__(self, language, folder, certificates):
        self.language, self.folder, self.certificates = language, folder, certificates

    def session(self, target, **variables):
        return Session(self.language, self.folder, environment(), {"GATEWAY": target, **variables})

    @cached_property
    def calls(self):
        """One session for several checks, after its end, and its cloud."""
        with self.before_gateway() as (session, _, cloud):
            session.send(*CALLS)
            equal(session.end(), 1)
        return session, cloud

    @contextmanager
    def before_gateway(self, *settings, listen=None, upstream=None, **variables):
        """An example with a gateway and a cloud of its own; gives the three."""
        with Cloud() as cloud, taken_port() as port:
            target = listen or f"127.0.0.1:{port}"
            with Gateway(PROGRAM, target, upstream or cloud.url, *settings) as gateway:
                with self.session(target, **variables) as session:
                    yield session, gateway, cloud


# What is checked in several places


def attached_twice_over_restarts(session, gateway, cloud):
    """Calls that are made before, during and after restarts, on one connection."""
    session.send("first.example.com")
    session.wait_for("first.example.com: attached")
    for number in range(3):
        during, after = f"during-{number}.example.com", f"after-{number}.example.com"
        gateway.stop()
        session.send(during)
        session.wait_for(f"{during}: x-request-id")
        gateway.start()
        session.send(after)
        session.wait_for(f"{after}: (?!x-request-id)")
        equal((session.printed[during], session.printed[after]), (["attached"], ["attached"]))
        equal((len(cloud.arrivals[during]), len(cloud.arrivals[after])), (1, 1))
    equal(session.end(), 0)


# The checks


def errors_are_printed_with_every_detail(stage):
    session, cloud = stage.calls
    printed = session.printed
    equal(printed["good.example.com"], ["attached"])
    matches(printed["missing.example.com"], "NOT_FOUND: .+", "ErrorInfo: APIG_3020 of apig.huaweicloud.com",
            "ErrorInfo: http_status = 404", "ResourceInfo: domain missing.example.com",
            f"RequestInfo: {CLOUD_REQUEST_ID}", "Help: http.+")
    matches(printed["quota.example.com"], "RESOURCE_EXHAUSTED: .+", "ErrorInfo: APIG_3100 of apig.huaweicloud.com",
            "QuotaFailure: .*resources.*: .+")
    matches(printed["expired.example.com"], "FAILED_PRECONDITION: .+", "PreconditionFailure: CERTIFICATE_EXPIRED of .+: .+")
    matches(printed[LONG], "INVALID_ARGUMENT: .+", "ErrorInfo: INVALID_REQUEST of apig-grpc-gateway",
            "ErrorInfo: outcome = not_sent", r"BadRequest: domains\[0\]\.domain: .+")
    for name in ("good", "missing", "quota", "expired"):
        equal(len(cloud.arrivals[f"{name}.example.com"]), 1)
    assert LONG not in cloud.arrivals


def request_id_and_trace_reach_the_cloud(stage):
    session, cloud = stage.calls
    equal(len({ids for ids in session.ids.values()}), len(CALLS))
    for domain, (request_id, trace) in session.ids.items():
        for arrival in cloud.arrivals.get(domain, ()):
            equal((arrival.headers["x-request-id"], arrival.headers["traceparent"]), (request_id, trace))
        assert re.fullmatch("00-[0-9a-f]{32}-[0-9a-f]{16}-01", trace), trace


def a_503_is_repeated_after_the_pause_that_the_cloud_asks_for(stage):
    session, cloud = stage.calls
    assert float(POLICY["initialBackoff"].removesuffix("s")) * 1.2 < 1, "the config's own pause is as long"
    equal(session.printed["pause.example.com"], ["attached"])
    equal(len(cloud.arrivals["pause.example.com"]), 2)
    pauses_of_a_second(cloud.arrivals["pause.example.com"])


def a_change_that_may_have_been_made_is_not_repeated(stage):
    session, cloud = stage.calls
    for name, code, reason in [("cut", "UNAVAILABLE", "UPSTREAM_CONNECTION_LOST"), ("bad-gateway", "UNAVAILABLE", "HTTP_502"),
                               ("fault", "INTERNAL", "APIG_9999")]:
        domain = f"{name}.example.com"
        matches(session.printed[domain], f"{code}: .+", f"ErrorInfo: {reason} of .+", "ErrorInfo: outcome = unknown")
        equal(len(cloud.arrivals[domain]), 1)


def a_429_is_left_to_the_program_with_the_pause_to_make(stage):
    session, cloud = stage.calls
    arrivals = cloud.arrivals["limit.example.com"]
    matches(session.printed["limit.example.com"], "RESOURCE_EXHAUSTED: .+", "ErrorInfo: APIG_0308 of .+",
            "QuotaFailure: .*requests.*: .+", "RetryInfo: 1000 ms")
    # Java takes a pause as an order to repeat, whatever the code.
    equal(len(arrivals), POLICY["maxAttempts"] if stage.language.name == "java" else 1)
    pauses_of_a_second(arrivals)


def a_cloud_that_cant_be_reached_is_tried_as_often_as_the_config_says(stage):
    with taken_port() as port, stage.before_gateway(upstream=f"http://127.0.0.1:{port}") as (session, gateway, _):
        session.send("some.example.com")
        equal(session.end(), 1)
    matches(session.printed["some.example.com"], "UNAVAILABLE: .+",
            "ErrorInfo: UPSTREAM_UNREACHABLE of apig-grpc-gateway", "ErrorInfo: outcome = not_sent")
    equal(len([event for event in gateway.log if event["message"] == "call ended"]), POLICY["maxAttempts"])


def the_deadline_ends_a_call(stage):
    with stage.before_gateway(DEADLINE="1") as (session, _, cloud):
        session.send("silent.example.com")
        equal(session.end(), 1)
    matches(session.printed["silent.example.com"], "DEADLINE_EXCEEDED: .+")
    # On a slow machine the deadline may pass before the request is sent.
    assert len(cloud.arrivals["silent.example.com"]) <= 1


def an_error_of_the_clients_own_has_no_details(stage):
    with taken_port() as port, stage.session(f"127.0.0.1:{port}", DEADLINE="1") as session:
        session.send("some.example.com")
        equal(session.end(), 1)
    # Without an answer while it waits for a connection; tonic tells why there is none.
    code = "UNAVAILABLE" if stage.language.name == "rust" else "DEADLINE_EXCEEDED"
    matches(session.printed["some.example.com"], f"{code}: .+", "no details: .+")
    equal(len(session.printed["some.example.com"]), 2)


def no_call_fails_when_the_gateway_restarts(stage):
    with stage.before_gateway() as everybody:
        attached_twice_over_restarts(*everybody)


def no_call_fails_when_the_gateway_restarts_on_a_unix_socket(stage):
    with tempfile.TemporaryDirectory() as folder, stage.before_gateway(listen=f"unix:{folder}/gw.sock") as everybody:
        attached_twice_over_restarts(*everybody)


def mutual_tls_works(stage):
    file = lambda name: str(Path(stage.certificates, f"{name}.pem"))
    settings = ["--tls-certificate", file("gateway"), "--tls-key", file("gateway-key"), "--tls-client-ca", file("ca")]
    variables = {"GATEWAY_CA": file("ca"), "GATEWAY_CERTIFICATE": file("client"), "GATEWAY_KEY": file("client-key")}
    with stage.before_gateway(*settings, **variables) as everybody:
        attached_twice_over_restarts(*everybody)


def the_demo_answers_without_any_other_variable(stage):
    with demo(PROGRAM) as address, stage.session(address) as session:
        session.send("apigtest.xxx.com", "nobody.example.com")
        equal(session.end(), 1)
    equal(session.printed["apigtest.xxx.com"], ["attached"])
    matches(session.printed["nobody.example.com"], "NOT_FOUND: .+", "ResourceInfo: domain nobody.example.com")


# The run


def prepare(language, folder):
    language.copy_to(folder)
    readme = Path(folder, "README.md").read_text()
    for command in (*language.setup, language.run):
        assert command in readme, f"README.md of {language.name} lacks '{command}'"
    for command in language.setup:
        done = subprocess.run(shlex.split(command), cwd=folder, env=environment(), text=True, timeout=SETUP_TIMEOUT,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert done.returncode == 0, f"{command}:\n{done.stdout}"


def attempt(title, check):
    try:
        check()
        print(f"ok - {title}", flush=True)
        return True
    except Exception:
        print(f"FAILED - {title}", flush=True)
        traceback.print_exc(file=sys.stdout)
        return False


def check_language(language, certificates):
    missing = language.missing_tools()
    if missing:
        print(f"NOT CHECKED - examples/{language.name}: {' and '.join(missing)} missing", flush=True)
        return
    checks = [(name, check) for name, check in globals().items()
              if inspect.isfunction(check) and list(inspect.signature(check).parameters) == ["stage"]]
    with tempfile.TemporaryDirectory(prefix=f"{language.name}-") as folder:
        if not attempt(f"{language.name}: the copy is set up", lambda: prepare(language, folder)):
            return
        stage = Stage(language, folder, certificates)
        for name, check in checks:
            attempt(f"{language.name}: {name.replace('_', ' ')}", lambda check=check: check(stage))


def main():
    # Ends by an exception, so that what it has started is ended too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with tempfile.TemporaryDirectory() as certificates:
        write_certificates(certificates)
        for name in NAMES or LANGUAGES:
            check_language(LANGUAGES[name], certificates)


if __name__ == "__main__":
    sys.exit(main())
