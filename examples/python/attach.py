"""Attaches a certificate to the domain names that it reads from standard input, one a line.

    python attach.py [TARGET]

TARGET is host:port or unix:/path; without it, the variable GATEWAY is. README.md lists the other variables.
"""

import os
import secrets
import sys
import uuid
from pathlib import Path

import grpc
from details import print_details
from huaweicloud.apic.v2 import certificate_service_pb2 as apic
from huaweicloud.apic.v2.certificate_service_pb2_grpc import CertificateServiceStub

# Longer than the gateway's own timeout: the error then comes from the gateway, and tells the outcome.
DEADLINE = float(os.environ.get("DEADLINE", 40))

OPTIONS = [
    ("grpc.service_config", Path(__file__).with_name("service-config.json").read_text()),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
]


def connect(target: str) -> grpc.Channel:
    """One channel for all calls: it connects on the first call, and again after a restart of the gateway."""
    if "GATEWAY_CA" not in os.environ:
        return grpc.insecure_channel(target, OPTIONS)
    files = ("GATEWAY_CA", "GATEWAY_KEY", "GATEWAY_CERTIFICATE")
    ca, key, certificate = (Path(os.environ[name]).read_bytes() for name in files)
    return grpc.secure_channel(target, grpc.ssl_channel_credentials(ca, key, certificate), OPTIONS)


def attach(stub: CertificateServiceStub, domain: str) -> bool:
    # The ids are those of `apig-grpc-gateway demo`.
    instance = os.environ.get("INSTANCE_ID", "f0fa1789-3b76-433b-a787-9892951c620e")
    request = apic.AttachDomainsRequest(
        project_id=os.environ.get("PROJECT_ID", "73d69ae0cfcf460190522d06b60f05ad"),
        certificate_id=os.environ.get("CERTIFICATE_ID", "a27be832f2e9441c8127fe48e3b5ac67"),
        domains=[apic.AttachOrDetachDomainInfo(domain=domain, instance_ids=[instance])],
    )
    metadata = [
        ("x-auth-token", os.environ.get("TOKEN", "demo-operator-token")),
        ("x-request-id", str(uuid.uuid4())),
        # In a service, OpenTelemetry's interceptor for gRPC sends the trace of the request that is being served.
        ("traceparent", f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"),
    ]
    print(f"{domain}: x-request-id {metadata[1][1]}, traceparent {metadata[2][1]}")
    try:
        # While the gateway restarts, the call waits for it until the deadline.
        stub.AttachDomains(request, timeout=DEADLINE, metadata=metadata, wait_for_ready=True)
        print(f"{domain}: attached")
        return True
    except grpc.RpcError as error:
        print(f"{domain}: {error.code().name}: {error.details()}")
        print_details(error)
        return False


def main() -> int:
    sys.stdout.reconfigure(line_buffering=True)
    target = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("GATEWAY", "127.0.0.1:50051")
    with connect(target) as channel:
        stub = CertificateServiceStub(channel)
        attached = [attach(stub, line.strip()) for line in sys.stdin]
    return 0 if all(attached) else 1


if __name__ == "__main__":
    sys.exit(main())
