"""The gateway, as a process that can be restarted at its address."""

import json
import os
import socket
import subprocess
import threading
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from ipaddress import ip_address
from pathlib import Path

# For a slow machine; no check waits for it to pass.
TIMEOUT = 60


@contextmanager
def taken_port():
    """A port that is kept from others over restarts of the gateway, which can listen there: this socket does not."""
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


class Gateway:
    def __init__(self, program, listen, upstream, *settings):
        # What the clients repeat is counted, so the gateway repeats nothing itself, and does not look up outcomes.
        self.command = [
            program, "serve", "--listen", listen, "--upstream", upstream, "--admin-listen", "off",
            "--max-attempts", "1", "--read-back", "false", "--log-format", "json", *settings,
        ]
        self.log = []

    def start(self):
        environment = {name: value for name, value in os.environ.items() if not name.startswith("APIG_GATEWAY_")}
        self.process = subprocess.Popen(self.command, env=environment, stderr=subprocess.PIPE, text=True)
        serving = threading.Event()
        self.reader = threading.Thread(target=self.read, args=(serving,), daemon=True)
        self.reader.start()
        assert serving.wait(TIMEOUT) and self.process.poll() is None, f"the gateway does not serve: {self.log[-5:]}"

    def read(self, serving):
        for line in self.process.stderr:
            event = json.loads(line) if line.startswith("{") else {"message": line.rstrip()}
            self.log.append(event)
            if event["message"] == "serving":
                serving.set()
        # Its end counts too: whoever waits sees that it has ended.
        serving.set()

    def stop(self):
        self.process.terminate()
        code = self.process.wait(TIMEOUT)
        self.reader.join(TIMEOUT)
        assert code == 0, f"the gateway ended with exit code {code}: {self.log[-5:]}"

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, kind, *_):
        try:
            if kind is None:
                self.stop()
        finally:
            self.process.kill()
            self.process.wait()


@contextmanager
def demo(program):
    """Gives the gateway's address before the emulated cloud."""
    process = subprocess.Popen([program, "demo"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    guard = threading.Timer(TIMEOUT, process.kill)
    guard.start()
    try:
        first = next(process.stdout, "")
        for line in process.stdout:
            if line.startswith("Serving."):
                break
        else:
            raise AssertionError(f"demo did not start: {first}")
        guard.cancel()
        yield first.rsplit("gateway at ", 1)[1].rstrip(".\n")
    finally:
        guard.cancel()
        process.kill()
        process.wait()
        process.stdout.close()


def write_certificates(folder):
    """A CA, and what it issued to the gateway and to a client."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    now = datetime.now(timezone.utc)

    def issue(name, issuer=None):
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        signer, issuer_name = issuer or (key, subject)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer_name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        )
        if issuer:
            names = [x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        pem = builder.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        Path(folder, f"{name}.pem").write_bytes(pem)
        Path(folder, f"{name}-key.pem").write_bytes(private)
        return key, subject

    ca = issue("ca")
    issue("gateway", ca)
    issue("client", ca)
