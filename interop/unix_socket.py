"""The gateway on a Unix socket, called by Python's gRPC without any options.

    unix_socket.py GATEWAY_PROGRAM http://CLOUD_HOST:PORT

Every function that takes `socket` alone is a check, named after what must hold. gRPC sends the socket's path, percent-encoded,
as `:authority`.
"""

import asyncio
import inspect
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from contextlib import contextmanager

import grpc
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from gateway import CERTIFICATE, DOMAIN, INSTANCES, PROJECT, SERVICE, TOKEN, Gateway

PROGRAM, CLOUD = sys.argv[1:]

# For a slow machine; no check waits for it to pass.
TIMEOUT = 60

EXAMPLE = [{"domain": DOMAIN, "instance_ids": INSTANCES}]


@contextmanager
def gateway_at(path):
    command = [PROGRAM, "serve", "--upstream", CLOUD, "--listen", f"unix:{path}", "--admin-listen", "off",
               "--log-format", "json"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("APIG_GATEWAY_")}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    serving = threading.Event()

    def read():
        for line in process.stderr:
            if json.loads(line)["message"] == "serving":
                serving.set()

    threading.Thread(target=read, daemon=True).start()
    try:
        assert serving.wait(TIMEOUT), "the gateway does not serve"
        yield
        process.terminate()
        assert process.wait(TIMEOUT) == 0, "the gateway did not end well"
    finally:
        process.kill()
        process.wait()


def many_calls_on_one_connection_succeed(socket):
    gateway = Gateway(f"unix:{socket}")
    for number in range(100):
        identity = f"unix-{number % 60:050}"
        answer = gateway.attach(EXAMPLE, metadata=[("x-request-id", identity)])
        assert answer.code is grpc.StatusCode.OK, f"call {number}: {answer}"
        assert answer.metadata["x-request-id"] == identity, answer.metadata
    gateway.channel.close()


def an_absolute_target_works_as_well(socket):
    gateway = Gateway(f"unix://{socket}")
    assert gateway.attach(EXAMPLE).code is grpc.StatusCode.OK
    gateway.channel.close()


def large_metadata_arrives(socket):
    gateway = Gateway(f"unix:{socket}")
    for _ in range(3):
        metadata = [(f"x-{number}", "~" * 4_000) for number in range(12)]
        answer = gateway.attach(EXAMPLE, metadata=[*metadata, ("x-request-id", "large")])
        assert answer.code is grpc.StatusCode.OK, answer
        assert answer.metadata["x-request-id"] == "large"
    gateway.channel.close()


def health_can_be_watched(socket):
    with grpc.insecure_channel(f"unix:{socket}") as channel:
        health = health_pb2_grpc.HealthStub(channel)
        request = health_pb2.HealthCheckRequest()
        assert health.Check(request, timeout=TIMEOUT).status == health_pb2.HealthCheckResponse.SERVING
        assert next(health.Watch(request, timeout=TIMEOUT)).status == health_pb2.HealthCheckResponse.SERVING


def asyncio_works_as_well(socket):
    described = Gateway(f"unix:{socket}")
    request = described.Request(project_id=PROJECT, certificate_id=CERTIFICATE, domains=EXAMPLE)

    async def run():
        async with aio.insecure_channel(f"unix:{socket}") as channel:
            health = health_pb2_grpc.HealthStub(channel)
            async for answer in health.Watch(health_pb2.HealthCheckRequest(), timeout=TIMEOUT):
                assert answer.status == health_pb2.HealthCheckResponse.SERVING
                break
            attach = channel.unary_unary(f"/{SERVICE}/AttachDomains", described.Request.SerializeToString, bytes)
            calls = [attach(request, timeout=TIMEOUT, metadata=[("x-auth-token", TOKEN)]) for _ in range(20)]
            await asyncio.gather(*calls)

    asyncio.run(run())
    described.channel.close()


def main():
    # Ends by an exception, so that the gateway is ended too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    failed = 0
    checks = [(name, check) for name, check in globals().items()
              if inspect.isfunction(check) and list(inspect.signature(check).parameters) == ["socket"]]
    with tempfile.TemporaryDirectory() as folder, gateway_at(socket := f"{folder}/gw.sock"):
        for name, check in checks:
            title = "python on a Unix socket: " + name.replace("_", " ")
            try:
                check(socket)
                print(f"ok - {title}", flush=True)
            except Exception:
                failed += 1
                print(f"FAILED - {title}", flush=True)
                traceback.print_exc()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
