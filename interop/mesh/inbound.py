"""inbound.yaml: Envoy in the gateway's pod ends the callers' TLS and decides by their SPIFFE ids."""

import json
import os
import subprocess
import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc

from certificates import DEPLOY, READER
from client import Client
from cloud import DONE, scripted_cloud
from pool import TLS, certificates
from stage import GATEWAY_PORTS, TIMEOUT, Envoy, Gateway, eventually


@contextmanager
def mesh(program, cloud):
    """Callers' Envoys, the gateway's Envoy and the gateway on a Unix socket, which admits this user only."""
    if not (TLS / "ca.pem").exists():
        certificates()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        path, config = Path(folder) / "gw.sock", Path(folder) / "rule.toml"
        config.write_text(f'audit = "{folder}/audit"\n[[policy]]\nidentity = "uid:{os.getuid()}"\n')
        stack.enter_context(Gateway(program, path, cloud.url, "--config", config))
        files = [("/run/apig/gateway.sock", path), ("/etc/mesh/tls/", f"{TLS}/")]
        inbound = stack.enter_context(Envoy("inbound", files))

        def caller(name):
            ports = [(f"port_value: {port}", f"port_value: {inbound.ports['inbound']}") for port in GATEWAY_PORTS]
            files = [("/etc/mesh/tls/service.", f"{TLS}/{name}."), ("/etc/mesh/tls/", f"{TLS}/")]
            envoy = stack.enter_context(Envoy("pool", [*ports, *files]))
            eventually(lambda: not any(envoy.hosts("gateways").values()), lambda: envoy.hosts("gateways"))
            return envoy.address("gateways")

        yield caller, Path(folder) / "audit"


def envoy_decides_by_the_callers_certificate(program):
    with scripted_cloud() as cloud, mesh(program, cloud) as (caller, _):
        certificate = cloud.certificate(DONE)
        with Client(caller("service")) as permitted:
            assert (answer := permitted.attach(certificate)).code is grpc.StatusCode.OK, answer
            with Client(caller("stranger"), described_by=permitted) as denied:
                answer = denied.attach(certificate)
        # By Envoy: without details.
        assert (answer.code.name, answer.reason) == ("PERMISSION_DENIED", "-"), answer
        assert len(cloud.arrivals[certificate]) == 1, cloud.arrivals
        return f"Envoy says {answer.message!r}"


def the_gateways_caller_is_envoy_whatever_x_forwarded_client_cert_says(program):
    with scripted_cloud() as cloud, mesh(program, cloud) as (caller, audit):
        with Client(caller("service")) as client:
            forged = [("x-forwarded-client-cert", f"URI={READER}")]
            assert (answer := client.attach(cloud.certificate(DONE), metadata=forged)).code is grpc.StatusCode.OK, answer
        line, = eventually(lambda: audit.read_text().splitlines(), "a line of the audit log")
    assert json.loads(line)["caller"] == f"uid:{os.getuid()}", line


def a_rule_by_spiffe_id_without_tls_is_a_fault_of_the_configuration(program):
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "rule.toml"
        config.write_text(f'[[policy]]\nidentity = "{DEPLOY}"\n')
        command = [program, "check", "--upstream", "http://127.0.0.1:1", "--listen", f"unix:{folder}/s", "--config", config]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT)
    assert ended.returncode == 2 and "tls-client-ca" in ended.stdout + ended.stderr, ended


CHECKS = [
    envoy_decides_by_the_callers_certificate,
    the_gateways_caller_is_envoy_whatever_x_forwarded_client_cert_says,
    a_rule_by_spiffe_id_without_tls_is_a_fault_of_the_configuration,
]
