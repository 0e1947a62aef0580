"""Two real gateways before the emulated cloud, in outages: their /metrics at each stage, as series of an invented hour.

`a` fetches tokens with a password; `b` has a key pair, and TLS on its port.
"""

import json
import re
import shutil
import subprocess
import threading
import time
import urllib.request
from contextlib import ExitStack

# For a slow machine; no check waits for it to pass.
TIMEOUT = 30

PROJECT = "73d69ae0cfcf460190522d06b60f05ad"
CERTIFICATE = "a27be832f2e9441c8127fe48e3b5ac67"
# The emulated cloud makes its changes and answers 504: they are looked up.
DONE_BUT_TIMES_OUT = "d3f8470b6a5e4c1d92b7e8035fa1c69e"
PASSWORD = "demo-operator-password"

# From which minute on a stage is shown.
STAGES = {"start": 0, "calls": 1, "outage": 6, "outage goes on": 7, "cloud is back": 13, "calls again": 14,
          "no credential": 21, "repaired": 31}
SHOWN = 40

# The alerts that fire at a minute, and no others.
FIRING = {
    5: [],
    10: [("ApigGatewayCircuitOpen", "b"), ("ApigGatewayErrors", None)],
    19: [("ApigGatewayTlsCertificateExpiring", "b")],
    28: [("ApigGatewayTlsCertificateExpiring", "b"), ("ApigGatewayCredentialNotRenewed", "a"), ("ApigGatewayFileReloadFailing", "a")],
    39: [],
}

# In queries without a result: the port has no revocation list.
EMPTY = ["apig_gateway_tls_client_crl_next_update_seconds"]

SAMPLE = re.compile(r'^(\w+)(?:\{((?:[^"}]|"(?:[^"\\]|\\.)*")*)\})? (\S+)')
# Moments in time: moved so that the first minute is 1970.
MOMENT = re.compile(r"_(?:timestamp|not_after|next_update|start_time)_seconds$")


class Program:
    """A running command of the gateway's program: entered when it serves, and ended with exit code 0."""

    def __init__(self, command, environment):
        self.command, self.environment = [str(part) for part in command], environment

    def __enter__(self):
        self.process = subprocess.Popen(self.command, env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, text=True)
        self.lines, self.known = [], threading.Event()
        threading.Thread(target=self.read, daemon=True).start()
        if not self.known.wait(TIMEOUT) or not self.addresses:
            self.process.kill()
            raise AssertionError(f"{self.command} does not serve: {self.lines[-10:]}")
        return self

    addresses = ()

    def read(self):
        for line in self.process.stdout:
            self.lines.append(line)
            if found := re.search(r'"message":"serving","address":"(.*?)","admin":"(.*?)"|serves (http://\S+)', line):
                self.addresses = [part for part in found.groups() if part]
                self.known.set()
        self.known.set()

    def __exit__(self, kind, *_):
        self.process.terminate()
        try:
            code = self.process.wait(TIMEOUT)
        finally:
            self.process.kill()
        assert kind or code == 0, f"{self.command}: exit code {code}: {self.lines[-10:]}"


def eventually(condition, what):
    """Files are watched and the circuit is probed by clocks, and nothing tells of them from outside."""
    until = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < until, f"not within {TIMEOUT} s: {what}"
        time.sleep(0.05)


def tls_certificate(folder, days):
    """Replaces the certificate, with its old key from the second time on."""
    key = ["-key", "key.pem"] if (folder / "key.pem").exists() else \
        ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "key.pem"]
    subprocess.run(["openssl", "req", "-x509", *key, "-out", "new.pem", "-days", str(days), "-subj", "/CN=localhost", "-addext",
                    "subjectAltName=DNS:localhost", "-addext", "basicConstraints=critical,CA:FALSE"], cwd=folder, check=True, capture_output=True)
    (folder / "new.pem").replace(folder / "certificate.pem")


class Rig:
    def __init__(self, program, folder, stack):
        self.program, self.folder = program, folder
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        tls_certificate(folder, 3)
        self.password = folder / "password"
        self.password.write_text(PASSWORD)
        (folder / "secret").write_text("demo-operator-secret-key")

        def start(*arguments):
            return stack.enter_context(Program([program, *arguments], {"PATH": "/usr/bin:/bin"}))

        self.cloud, = start("emulator", "--listen", "127.0.0.1:0").addresses
        common = ["serve", "--upstream", self.cloud, "--iam-endpoint", self.cloud, "--listen", "127.0.0.1:0", "--admin-listen",
                  "127.0.0.1:0", "--log-format", "json", "--project-id", PROJECT, "--breaker-threshold", "5",
                  "--audit", folder / "audit"]
        a = start(*common, "--credentials", "password", "--user-name", "operator", "--account-name", "demo-account",
                  "--password-file", self.password)
        b = start(*common, "--credentials", "aksk", "--access-key-id", "DEMOOPERATORKEY00001", "--secret-access-key-file",
                  folder / "secret", "--tls-certificate", folder / "certificate.pem", "--tls-key", folder / "key.pem")
        self.admin = {"a": a.addresses[1], "b": b.addresses[1]}
        port = b.addresses[0].rpartition(":")[2]
        self.target = {"a": ["--target", f"http://{a.addresses[0]}"],
                       "b": ["--target", f"https://localhost:{port}", "--ca", folder / "certificate.pem"]}
        self.began, self.stages = time.time(), {}

    def call(self, name, *arguments):
        """Whether a call succeeded: by default one that lists domains."""
        arguments = arguments or ("attached", "--certificate-id", CERTIFICATE)
        return subprocess.run([self.program, *arguments, *self.target[name]], capture_output=True, timeout=TIMEOUT).returncode == 0

    def calls(self, name, number, succeed=True):
        for _ in range(number):
            assert self.call(name) is succeed, f"a call at {name} did not {'succeed' if succeed else 'fail'}"

    def control(self, method, path, content=None):
        request = urllib.request.Request(f"{self.cloud}/emulator/{path}", method=method, data=json.dumps(content).encode() if content else None,
                                         headers={"content-type": "application/json"})
        urllib.request.urlopen(request, timeout=TIMEOUT).close()

    def metrics(self, name):
        with urllib.request.urlopen(f"http://{self.admin[name]}/metrics", timeout=TIMEOUT) as response:
            return response.read().decode()

    def value(self, name, series):
        found = re.search(rf"^{re.escape(series)} (\S+)$", self.metrics(name), re.MULTILINE)
        return found and float(found[1])

    def has(self, name, series, value):
        eventually(lambda: self.value(name, series) == value, f"{series} of {name} is {value}")

    def stage(self, title):
        """Keeps the metrics of both gateways."""
        seen = {}
        for instance in self.admin:
            for line in self.metrics(instance).splitlines():
                if line.startswith("#"):
                    continue
                name, labels, value = SAMPLE.match(line).groups()
                labels = ", ".join([f'job="gateways", instance="{instance}"', *([labels] if labels else [])])
                moved = float(value) - self.began if MOMENT.search(name) and float(value) else value
                seen[f"{name}{{{labels}}}"] = moved
        self.stages[title] = seen


def run(rig):
    failed = 'apig_gateway_credential_state{identity="default",state="failed"}'
    valid = 'apig_gateway_credential_state{identity="default",state="valid"}'
    failing = 'apig_gateway_file_reload_failing{setting="password-file"}'

    rig.has("a", valid, 1)
    rig.calls("a", 2)
    rig.calls("b", 5)
    rig.stage("start")
    rig.calls("b", 5)
    attach = ("attach", "--certificate-id", DONE_BUT_TIMES_OUT, "--domain", "www.example.com", "--instance-id", "f0fa1789-3b76-433b-a787-9892951c620e")
    assert rig.call("a", *attach), "the look-up did not confirm the change"
    rig.stage("calls")

    rig.control("PUT", "outages/api", {"status": 503})
    rig.calls("b", 6, succeed=False)
    rig.has("b", "apig_gateway_circuit_state", 2)
    rig.stage("outage")
    rig.calls("b", 3, succeed=False)
    rig.stage("outage goes on")

    rig.control("DELETE", "outages/api")
    eventually(lambda: rig.call("b"), "a probe succeeds")
    rig.has("b", "apig_gateway_circuit_state", 0)
    rig.stage("cloud is back")
    rig.calls("b", 5)
    rig.stage("calls again")

    # A token is only replaced if it is older than 2 s.
    rig.control("PUT", "outages/iam", {"status": 503})
    rig.control("POST", "revoke")
    eventually(lambda: not rig.call("a") and rig.value("a", failed) == 1, "the credential is missing")
    rig.password.write_text("")
    rig.has("a", failing, 1)
    rig.stage("no credential")

    rig.control("DELETE", "outages/iam")
    rig.password.write_text(PASSWORD)
    tls_certificate(rig.folder, 30)
    rig.has("a", failing, 0)
    rig.has("a", valid, 1)
    month = rig.began + 20 * 86400
    eventually(lambda: rig.value("b", "apig_gateway_tls_certificate_not_after_seconds") > month, "the certificate is replaced")
    rig.calls("a", 1)
    rig.calls("b", 1)
    rig.stage("repaired")


def series(program, folder):
    """The input of `promtool test rules`."""
    with ExitStack() as stack:
        rig = Rig(program, folder, stack)
        run(rig)
    assert list(rig.stages) == list(STAGES), list(rig.stages)
    at = [max((title for title, from_ in STAGES.items() if from_ <= minute), key=STAGES.get) for minute in range(SHOWN + 1)]
    names = sorted({name for seen in rig.stages.values() for name in seen})
    return [{"series": name, "values": " ".join(str(rig.stages[title].get(name, "_")) for title in at)} for name in names]
