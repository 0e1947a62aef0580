"""The service config that callers are offered, checked with the gRPC of several languages.

    service_config.py GATEWAY_PROGRAM CLIENT...

CLIENT is `python`, or NAME=COMMAND. To the command come the gateway's address, the id of a certificate and the config's file;
it makes a call and prints code, reason, outcome and milliseconds to wait, `-` and 0 for what is not there.

Every function that takes `client` alone is a check, named after what must hold; it runs once for each client. Each call
goes to a gateway of its own, in front of a cloud that answers by a script and notes when each request comes.
"""

import inspect
import json
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from gateway import CERTIFICATE, DOMAIN, INSTANCES, PROJECT, SERVICE, TOKEN, Gateway, gateway_before

PROGRAM, *CLIENTS = sys.argv[1:]
CONFIG = Path(__file__).parent.parent / "examples/service-config.json"
POLICY = json.loads(CONFIG.read_text())["methodConfig"][0]["retryPolicy"]

# For a slow machine; no check waits for it to pass.
TIMEOUT = 60

# What the cloud does: an HTTP status with headers, or nothing but ending the connection.
DONE = (204, {})
CUT = None


def equal(actual, expected):
    assert actual == expected, f"{actual!r} instead of {expected!r}"


# The clients


def python(address):
    gateway = Gateway(address, [("grpc.service_config", CONFIG.read_text())])
    attach = gateway.channel.unary_unary(f"/{SERVICE}/AttachDomains", gateway.Request.SerializeToString, bytes)
    request = gateway.Request(
        project_id=PROJECT, certificate_id=CERTIFICATE, domains=[{"domain": DOMAIN, "instance_ids": INSTANCES}]
    )
    reason = outcome = delay = None
    try:
        # No timeout: the config has one.
        _, call = attach.with_call(request, metadata=[("x-auth-token", TOKEN)])
    except grpc.RpcError as error:
        call = error
        status = rpc_status.from_call(error)
        for detail in status.details if status else ():
            if detail.Unpack(info := error_details_pb2.ErrorInfo()):
                reason, outcome = info.reason, info.metadata.get("outcome")
            elif detail.Unpack(retry := error_details_pb2.RetryInfo()):
                delay = retry.retry_delay.ToTimedelta()
    finally:
        gateway.channel.close()
    return call.code().value[0], reason or "-", outcome or "-", int(delay.total_seconds() * 1000) if delay else 0


def command(name, line):
    def run(address):
        arguments = [*shlex.split(line), address, CERTIFICATE, CONFIG]
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=TIMEOUT)
        assert done.returncode == 0, done.stdout + done.stderr
        code, reason, outcome, delay = done.stdout.split()
        return int(code), reason, outcome, int(delay)

    run.__name__ = name
    return run


def clients():
    for given in CLIENTS:
        name, _, line = given.partition("=")
        yield command(name, line) if line else python


# The stage


class Cloud(ThreadingHTTPServer):
    """Answers by its script, and by the script's last line from then on."""

    def __init__(self, script):
        super().__init__(("127.0.0.1", 0), Scripted)
        self.script, self.arrivals, self.lock = list(script), [], threading.Lock()

    def next(self):
        with self.lock:
            self.arrivals.append(time.monotonic())
            return self.script.pop(0) if len(self.script) > 1 else self.script[0]


class Scripted(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        answer = self.server.next()
        self.rfile.read(int(self.headers["content-length"]))
        if answer is CUT:
            self.close_connection = True
            return
        status, headers = answer
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@contextmanager
def scripted_cloud(script):
    cloud = Cloud(script)
    thread = threading.Thread(target=cloud.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{cloud.server_port}", cloud.arrivals
    finally:
        cloud.shutdown()
        cloud.server_close()


@contextmanager
def nobody():
    """An address where nobody listens. The port is taken, so that nobody else comes to listen there."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}", []


def settings():
    """Repeats of the gateway's own are switched off where it has any: the client's are counted."""
    known = subprocess.run([PROGRAM, "serve", "--help"], capture_output=True, text=True, timeout=TIMEOUT).stdout
    return ["--max-attempts", "1"] if "--max-attempts" in known else []


def attach(client, script):
    """One call. Without a script, the cloud can't be reached."""
    with scripted_cloud(script) if script else nobody() as (upstream, arrivals):
        with gateway_before(PROGRAM, "--upstream", upstream, *settings()) as (address, log):
            code, reason, outcome, delay = client(address)
    ended = [line for line in log if line["message"] == "call ended" and line["span"]["method"].startswith(SERVICE)]
    return SimpleNamespace(
        code=grpc_code(code), reason=reason, outcome=outcome, delay=delay, arrivals=arrivals, attempts=len(ended)
    )


def grpc_code(number):
    return next(code.name for code in grpc.StatusCode if code.value[0] == number)


def repeated_after_a_second(seen):
    equal((seen.code, len(seen.arrivals)), ("OK", 2))
    pause = seen.arrivals[1] - seen.arrivals[0]
    assert pause >= 1, f"repeated after {pause} s"


# The checks


def a_503_is_repeated_after_the_pause_that_the_cloud_asks_for(client):
    assert float(POLICY["initialBackoff"].removesuffix("s")) * 1.2 < 1, "the config's own pause is as long"
    seen = attach(client, [(503, {"retry-after": "1"}), DONE])
    repeated_after_a_second(seen)


def a_change_that_may_have_been_made_is_not_repeated(client):
    for script, reason in [([CUT], "UPSTREAM_CONNECTION_LOST"), ([(502, {})], "HTTP_502")]:
        seen = attach(client, script)
        equal((seen.code, seen.reason, seen.outcome), ("UNAVAILABLE", reason, "unknown"))
        equal((len(seen.arrivals), seen.attempts), (1, 1))


def a_cloud_that_cant_be_reached_is_tried_as_often_as_the_config_says(client):
    seen = attach(client, None)
    equal((seen.code, seen.reason, seen.outcome), ("UNAVAILABLE", "UPSTREAM_UNREACHABLE", "not_sent"))
    equal(seen.attempts, POLICY["maxAttempts"])


def a_429_is_left_to_the_program_with_the_pause_to_make(client):
    seen = attach(client, [(429, {"retry-after": "1"}), DONE])
    if client.__name__ == "java":
        # It takes a pause as an order to repeat, whatever the code.
        return repeated_after_a_second(seen)
    equal((seen.code, seen.reason, seen.delay), ("RESOURCE_EXHAUSTED", "HTTP_429", 1000))
    equal((len(seen.arrivals), seen.attempts), (1, 1))


def main():
    # Ends by an exception, so that the gateway is ended too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    failed = 0
    checks = [(name, check) for name, check in globals().items()
              if inspect.isfunction(check) and list(inspect.signature(check).parameters) == ["client"]]
    for client in clients():
        for name, check in checks:
            title = f"service config, {client.__name__}: " + name.replace("_", " ")
            try:
                check(client)
                print(f"ok - {title}", flush=True)
            except Exception:
                failed += 1
                print(f"FAILED - {title}", flush=True)
                traceback.print_exc()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
