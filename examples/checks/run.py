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
from pathlib import Path

from cloud import CLOUD_REQUEST_ID, Cloud
from gateway import Gateway, demo, taken_port, write_certificates
from languages import LANGUAGES, ROOT, SETUP_TIMEOUT, environment
from session import Session

PROGRAM, *NAMES = sys.argv[1:]
POLICY = json.loads((ROOT / "examples/service-config.json").read_text())["methodConfig"][0]["retryPolicy"]
LONG = "x" * 300
UNKNOWN = "ErrorInfo: outcome = unknown"


def equal(actual, expected):
    assert actual == expected, f"{actual!r} instead of {expected!r}"


def includes(printed, *expected):
    missing = [line for line in expected if line not in printed]
    assert not missing, f"no {missing} in {printed}"


class Stage:
    """One example, copied and set up."""

    def __init__(self, language, folder, certificates):
        self.language, self.folder, self.certificates = language, folder, certificates

    def session(self, target, **variables):
        return Session(self.language, self.folder, environment(), {"GATEWAY": target, **variables})

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
    with stage.before_gateway() as (session, _, cloud):
        session.send("good.example.com", "missing.example.com", "quota.example.com", "expired.example.com", LONG)
        equal(session.end(), 1)
    equal(session.printed["good.example.com"], ["attached"])
    missing = session.printed["missing.example.com"]
    assert missing[0].startswith("NOT_FOUND: "), missing
    includes(missing, "ErrorInfo: APIG_3020 of apig.huaweicloud.com", "ErrorInfo: http_status = 404",
             "ResourceInfo: domain missing.example.com", f"RequestInfo: {CLOUD_REQUEST_ID}")
    assert any(re.match("Help: http", line) for line in missing), missing
    quota = session.printed["quota.example.com"]
    assert quota[0].startswith("RESOURCE_EXHAUSTED: "), quota
    includes(quota, "ErrorInfo: APIG_3100 of apig.huaweicloud.com")
    assert any(re.match("QuotaFailure: .*resources.*: .+", line) for line in quota), quota
    expired = session.printed["expired.example.com"]
    assert expired[0].startswith("FAILED_PRECONDITION: "), expired
    assert any(re.match("PreconditionFailure: CERTIFICATE_EXPIRED of .+: .+", line) for line in expired), expired
    invalid = session.printed[LONG]
    assert invalid[0].startswith("INVALID_ARGUMENT: "), invalid
    includes(invalid, "ErrorInfo: INVALID_REQUEST of apig-grpc-gateway", "ErrorInfo: outcome = not_sent")
    assert any(re.match(r"BadRequest: domains\[0\]\.domain: .+", line) for line in invalid), invalid
    equal({domain: len(arrivals) for domain, arrivals in cloud.arrivals.items()},
          {f"{name}.example.com": 1 for name in ("good", "missing", "quota", "expired")})


def request_id_and_trace_reach_the_cloud(stage):
    with stage.before_gateway() as (session, _, cloud):
        session.send("one.example.com", "two.example.com")
        equal(session.end(), 0)
    equal(len({request_id for request_id, _ in session.ids.values()}), 2)
    for domain, (request_id, trace) in session.ids.items():
        (arrival,) = cloud.arrivals[domain]
        equal((arrival.headers["x-request-id"], arrival.headers["traceparent"]), (request_id, trace))
        assert re.fullmatch("00-[0-9a-f]{32}-[0-9a-f]{16}-01", trace), trace


def a_503_is_repeated_after_the_pause_that_the_cloud_asks_for(stage):
    with stage.before_gateway() as (session, _, cloud):
        session.send("pause.example.com")
        equal(session.end(), 0)
    first, second = cloud.arrivals["pause.example.com"]
    assert float(POLICY["initialBackoff"].removesuffix("s")) * 1.2 < 1, "the config's own pause is as long"
    assert second.time - first.time >= 1, f"repeated after {second.time - first.time} s"
    equal(session.printed["pause.example.com"], ["attached"])


def a_change_that_may_have_been_made_is_not_repeated(stage):
    with stage.before_gateway() as (session, _, cloud):
        session.send("cut.example.com", "fault.example.com")
        equal(session.end(), 1)
    for name, reason in [("cut", "UPSTREAM_CONNECTION_LOST"), ("fault", "HTTP_502")]:
        printed = session.printed[f"{name}.example.com"]
        assert printed[0].startswith("UNAVAILABLE: "), printed
        assert any(line.startswith(f"ErrorInfo: {reason} of ") for line in printed), printed
        includes(printed, UNKNOWN)
        equal(len(cloud.arrivals[f"{name}.example.com"]), 1)


def a_429_is_left_to_the_program_with_the_pause_to_make(stage):
    with stage.before_gateway() as (session, _, cloud):
        session.send("limit.example.com")
        code = session.end()
    printed, arrivals = session.printed["limit.example.com"], cloud.arrivals["limit.example.com"]
    if stage.language.name == "java":
        # It takes a pause as an order to repeat, whatever the code.
        equal((code, printed), (0, ["attached"]))
        assert arrivals[1].time - arrivals[0].time >= 1
        return
    equal((code, len(arrivals)), (1, 1))
    assert printed[0].startswith("RESOURCE_EXHAUSTED: "), printed
    includes(printed, "RetryInfo: 1000 ms")


def a_cloud_that_cant_be_reached_is_tried_as_often_as_the_config_says(stage):
    with taken_port() as port, stage.before_gateway(upstream=f"http://127.0.0.1:{port}") as (session, gateway, _):
        session.send("some.example.com")
        equal(session.end(), 1)
    printed = session.printed["some.example.com"]
    assert printed[0].startswith("UNAVAILABLE: "), printed
    includes(printed, "ErrorInfo: UPSTREAM_UNREACHABLE of apig-grpc-gateway", "ErrorInfo: outcome = not_sent")
    equal(len([event for event in gateway.log if event["message"] == "call ended"]), POLICY["maxAttempts"])


def the_deadline_ends_a_call(stage):
    with stage.before_gateway(DEADLINE="1") as (session, _, cloud):
        session.send("silent.example.com")
        equal(session.end(), 1)
    assert session.printed["silent.example.com"][0].startswith("DEADLINE_EXCEEDED: "), session.output()
    equal(len(cloud.arrivals["silent.example.com"]), 1)


def an_error_of_the_clients_own_has_no_details(stage):
    with taken_port() as port, stage.session(f"127.0.0.1:{port}", DEADLINE="1") as session:
        session.send("some.example.com")
        equal(session.end(), 1)
    status, *details = session.printed["some.example.com"]
    # Without an answer while it waits for a connection; tonic tells why there is none.
    assert status.startswith("UNAVAILABLE: " if stage.language.name == "rust" else "DEADLINE_EXCEEDED: "), status
    equal([line.partition(":")[0] for line in details], ["no details"])


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
    includes(session.printed["nobody.example.com"], "ResourceInfo: domain nobody.example.com")


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
