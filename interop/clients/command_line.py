"""grpcurl and `buf curl` as clients of the interop protocol: each request becomes a command line.

    command_line.py grpcurl|buf_curl PROGRAM

grpcurl learns the API by reflection, `buf curl` from the .proto, as people use them. Requests are read from standard input: a
private key on a command line is there for all to read.
"""

import base64
import json
import re
import subprocess
import sys
import traceback
from pathlib import Path

from google.protobuf.any_pb2 import Any
from google.protobuf.json_format import MessageToDict
from google.rpc import error_details_pb2  # noqa: F401 (its types are decoded by their names)

HEALTH = "grpc.health.v1.Health"
API = "huaweicloud.apic.v2.CertificateService"
PROTO = Path(__file__).resolve().parent.parent.parent / "proto"

# For a slow machine; no call of a case takes as long.
TIMEOUT = 60


class Cannot(Exception):
    """Why a request can't be made a command line."""


class CommandLine:
    limits = {
        "request_bytes": "it calls only methods that a server describes, with messages of their types",
        "cancel_after_ms": "it has no cancellation but its own end",
        "compression": "it has no option to compress requests",
        "service_config": "it has no service config",
    }

    def __init__(self, program):
        self.program = program

    def answer(self, request):
        for option, reason in self.limits.items():
            if option in request:
                raise Cannot(reason)
        return getattr(self, request["action"])(request)

    def call(self, request):
        return self.invoke(request, request["method"], request["request"])

    def health(self, request):
        answer = self.invoke(request, f"{HEALTH}/Check", {"service": request["service"]})
        if answer["code"] == "OK":
            answer["statuses"] = [answer.pop("response")["status"]]
        return answer

    def watch(self, request):
        """The statuses are read as they are printed; then the program is ended."""
        arguments = self.arguments(request, f"{HEALTH}/Watch")
        process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            process.stdin.write(json.dumps({"service": request["service"]}))
            process.stdin.close()
            statuses = []
            while len(statuses) < request["count"] and (line := process.stdout.readline()):
                statuses += re.findall(r'"status": *"(\w+)"', line)
        finally:
            process.kill()
            process.wait()
        return {"code": "OK", "statuses": statuses}

    def run(self, arguments, message=None):
        text = "" if message is None else json.dumps(message)
        return subprocess.run(arguments, input=text, capture_output=True, text=True, encoding="utf-8", timeout=TIMEOUT)


def snake(name):
    """`NotFound`, and also `canceled`, as gRPC's name of the code."""
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).upper()
    return "CANCELLED" if name == "CANCELED" else name


CODES = [
    "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
    "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED",
    "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
]


class Grpcurl(CommandLine):
    def target(self, request):
        tls = request.get("tls")
        arguments = ["-plaintext"] if tls is None else ["-cacert", tls["ca"]]
        if tls and "certificate" in tls:
            arguments += ["-cert", tls["certificate"], "-key", tls["key"]]
        if request["target"].startswith("unix:"):
            return [*arguments, "-unix", request["target"].removeprefix("unix:")]
        return [*arguments, request["target"]]

    def arguments(self, request, method, *options):
        arguments = [self.program, *options]
        for key, value in request.get("metadata", ()):
            arguments += ["-H", f"{key}: {value}"]
        if "timeout_ms" in request:
            arguments += ["-max-time", str(request["timeout_ms"] / 1000)]
        return [*arguments, "-d", "@", *self.target(request), method]

    def invoke(self, request, method, message):
        done = self.run(self.arguments(request, method, "-v", "-format-error"), message)
        headers = section(done.stdout, "Response headers received:")
        trailers = section(done.stdout, "Response trailers received:")
        answer = {"headers": headers, "trailers": trailers, "message": "", "details": [], "response": None}
        if done.returncode == 0:
            response = done.stdout.split("Response contents:\n", 1)[1]
            return {**answer, "code": "OK", "response": json.JSONDecoder().raw_decode(response)[0]}
        if done.returncode > 64:
            status = json.loads(done.stderr)
            return {**answer, "code": CODES[done.returncode - 64], "message": status.get("message", ""),
                    "details": list(map(looked_up, status.get("details", ())))}
        if done.stderr.startswith("Failed to dial target host"):
            # It waits for the connection before the call, and so has no status.
            return {**answer, "code": "UNAVAILABLE", "message": done.stderr}
        raise RuntimeError(f"exit code {done.returncode}: {done.stderr}")

    def reflect(self, request):
        if request["version"] != "v1":
            raise Cannot("it chooses the version of reflection itself: v1, where a server has it")
        done = self.run([self.program, *self.target(request), "list"])
        return {"code": "OK" if done.returncode == 0 else "UNKNOWN", "services": done.stdout.split()}


def section(output, title):
    """The metadata that is printed below a title, up to an empty line."""
    _, found, rest = output.partition(f"{title}\n")
    lines = rest.split("\n\n", 1)[0].splitlines() if found else []
    return [list(line.split(": ", 1)) for line in lines if ": " in line]


def looked_up(detail):
    """After the deadline it can't ask the server for the type of a detail any more, and prints its bytes."""
    return decoded(detail["@type"], detail["@value"]) if "@error" in detail else detail


class BufCurl(CommandLine):
    def arguments(self, request, method, *options):
        arguments = [self.program, "curl", "--protocol", "grpc", *options]
        for key, value in request.get("metadata", ()):
            arguments += ["-H", f"{key}: {value}"]
        if "timeout_ms" in request:
            arguments += ["--timeout", f"{request['timeout_ms']}ms"]
        if method.startswith(API):
            # Without reflection it can tell why there is no connection.
            arguments += ["--schema", str(PROTO)]
        return [*arguments, "--data", "@-", *self.target(request, method)]

    @staticmethod
    def target(request, path):
        tls, target = request.get("tls"), request["target"]
        arguments = ["--http2-prior-knowledge"] if tls is None else ["--cacert", tls["ca"]]
        if tls and "certificate" in tls:
            arguments += ["--cert", tls["certificate"], "--key", tls["key"]]
        if target.startswith("unix:"):
            arguments += ["--unix-socket", target.removeprefix("unix:")]
            target = "localhost"
        return [*arguments, f"{'http' if tls is None else 'https'}://{target}/{path}"]

    def invoke(self, request, method, message):
        done = self.run(self.arguments(request, method, "--verbose"), message)
        # The call is the last of the requests on the connection; those before are of reflection.
        _, _, invoked = done.stderr.partition("buf: * Invoking RPC")
        number = re.search(r"^buf: > (\(#\d+\)) POST", invoked, re.MULTILINE)
        pattern = rf"^buf: < {re.escape(number[1])} ([\w-]+): (.*)$" if number else "(?!)"
        headers = [[name.lower(), value] for name, value in re.findall(pattern, invoked, re.MULTILINE)]
        answer = {"headers": headers, "trailers": [], "message": "", "details": [], "response": None}
        if done.returncode == 0:
            return {**answer, "code": "OK", "response": json.loads(done.stdout)}
        found = re.search(r"^\{$.*?^\}$", done.stderr, re.MULTILINE | re.DOTALL)
        if not found and done.stderr.rstrip().endswith("context deadline exceeded"):
            # Its time includes that to read the .proto.
            return {**answer, "code": "DEADLINE_EXCEEDED", "message": done.stderr}
        if not found:
            raise RuntimeError(f"exit code {done.returncode}: {done.stderr}")
        error = json.loads(found[0])
        details = [
            decoded(f"type.googleapis.com/{detail['type']}", detail["value"]) for detail in error.get("details", ())
        ]
        return {**answer, "code": snake(error["code"]), "message": error.get("message", ""), "details": details}

    def reflect(self, request):
        options = ["--list-services", "--reflect-protocol", f"grpc-{request['version']}", "--protocol", "grpc"]
        done = self.run([self.program, "curl", *options, *self.target(request, "")])
        return {"code": "OK" if done.returncode == 0 else "UNKNOWN", "services": done.stdout.split()}


def decoded(type_url, value):
    """A detail of a type, and its bytes in base64, with or without padding."""
    value = base64.b64decode(value + "=" * (-len(value) % 4))
    return MessageToDict(Any(type_url=type_url, value=value))


KINDS = {"grpcurl": Grpcurl, "buf_curl": BufCurl}


def main(kind, program):
    client = KINDS[kind](program)
    for line in sys.stdin:
        try:
            answer = client.answer(json.loads(line))
        except Cannot as reason:
            answer = {"cannot": str(reason)}
        except Exception:
            answer = {"failed": traceback.format_exc()}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
