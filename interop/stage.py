"""The surroundings of one column of the table: gateways on TCP or on Unix sockets, and the clouds behind them."""

import subprocess
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from gateway import AUDITORS_TOKEN, PROGRAM_TIMEOUT, TOKEN, Program, emulated_cloud, start_gateway
from scripted_cloud import nobody, scripted_cloud

TOKENS = [TOKEN, AUDITORS_TOKEN, "stale-token"]

# One attempt and no look-up, so that requests are counted as the script has them; and no circuit that opens after many failures.
ONCE = ["--max-attempts", "1", "--breaker-threshold", "0", "--read-back", "false"]

# The kinds of gateways: the cloud behind, and settings.
KINDS = {
    "emulator": ("emulator", ONCE),
    "emulator, with look-ups": ("emulator", ["--max-attempts", "1"]),
    "scripted": ("scripted", ONCE),
    "scripted, apigw": ("scripted", [*ONCE, "--api-family", "apigw"]),
    "short timeout": ("scripted", [*ONCE, "--timeout", "1s"]),
    "unreachable": ("nobody", ONCE),
    "tls": ("scripted", [*ONCE, "--tls-certificate", "{tls}/server.pem", "--tls-key", "{tls}/server.key"]),
    "mtls": ("scripted", [
        *ONCE, "--tls-certificate", "{tls}/server.pem", "--tls-key", "{tls}/server.key", "--tls-client-ca", "{tls}/ca.pem",
    ]),
    "draining": ("scripted", [*ONCE, "--drain-delay", "1h"]),
    "restarted": ("scripted", ONCE),
}


@dataclass
class Running:
    """A gateway, and where clients find it."""

    program: Program
    target: str

    def calls_ended(self):
        """The number of calls of the API; complete once the gateway has ended."""
        service = "huaweicloud.apic.v2.CertificateService"
        return sum(
            line["message"] == "call ended" and line["span"]["method"].startswith(service) for line in self.program.log
        )


class Stage:
    """Gateways are started when they are first needed, and ended with the stage."""

    def __init__(self, program, folder, tls, number, transport):
        self.program, self.folder, self.tls, self.transport = program, folder, tls, transport
        # An address of its own keeps a port free while the gateway on it is replaced: all others are on 127.0.0.1.
        self.host = f"127.0.1.{number + 1}"
        self.running, self.programs, self.stack = {}, [], ExitStack()

    def __enter__(self):
        self.scripted = self.stack.enter_context(scripted_cloud())
        self.emulator = self.stack.enter_context(emulated_cloud(self.program))
        self.nobody = self.stack.enter_context(nobody())
        return self

    def __exit__(self, *raised):
        self.stack.__exit__(*raised)

    def start(self, kind, listen=None):
        """Starts a gateway that lives until the end of the stage, unless it is stopped before."""
        cloud, settings = KINDS[kind]
        upstream = {"scripted": self.scripted.url, "emulator": self.emulator.url, "nobody": self.nobody}[cloud]
        settings = [setting.replace("{tls}", str(self.tls)) for setting in settings]
        program, address = start_gateway(
            self.program, "--upstream", upstream, *settings, listen=listen or self.free_address()
        )
        self.stack.callback(program.kill)
        self.programs.append(program)
        running = Running(program, address)
        if "tls" not in kind:
            self.wait_until_ready(running)
        return running

    def wait_until_ready(self, running):
        """It serves before it is ready."""
        target = running.target if running.target.startswith("unix:") else f"http://{running.target}"
        subprocess.run(
            ["bash", "-c", 'until "$1" health --target "$2"; do :; done', "-", self.program, target],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=PROGRAM_TIMEOUT, check=True,
        )

    def start_again(self, last):
        """A gateway at the address of one that drains, as soon as that has closed its listener."""
        while True:
            try:
                return self.start("restarted", last.target)
            except AssertionError:
                assert last.program.process.poll() is None, "the last gateway ended before its address was free"

    def free_address(self):
        if self.transport == "tcp":
            return "127.0.0.1:0"
        self.sockets = getattr(self, "sockets", 0) + 1
        return f"unix:{self.folder}/{self.sockets}.sock"

    def gateway(self, kind):
        if kind not in self.running:
            self.running[kind] = self.start(kind)
        return self.running[kind]

    def faults(self):
        """What no log may have, of all gateways; the logs are complete at the end of the stage."""
        for line in (str(line) for program in self.programs for line in program.log):
            yield from (f"{text} in {line}" for text in ("panicked", *TOKENS) if text in line)

    @contextmanager
    def fresh(self, kind):
        """A gateway for one case; its log is complete afterwards."""
        running = self.start(kind)
        yield running
        running.program.stop()


def make_certificates(folder):
    """A CA, and certificates of it for server and client, for the length of a run."""
    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True, timeout=PROGRAM_TIMEOUT)

    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    openssl("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=interop CA",
            "-addext", "keyUsage=critical,keyCertSign,cRLSign")
    for name, usage, alternative in [
        ("server", "serverAuth", "DNS:localhost,IP:127.0.0.1"), ("client", "clientAuth", "URI:spiffe://interop/client"),
    ]:
        openssl("req", "-x509", "-CA", "ca.pem", "-CAkey", "ca.key", *key, "-keyout", f"{name}.key", "-out",
                f"{name}.pem", "-subj", f"/CN=interop {name}", "-addext", f"subjectAltName={alternative}",
                "-addext", f"extendedKeyUsage={usage}", "-addext", "basicConstraints=critical,CA:FALSE")
    # A CA that nobody trusts.
    openssl("req", "-x509", *key, "-keyout", "other.key", "-out", "other.pem", "-subj", "/CN=another CA")
