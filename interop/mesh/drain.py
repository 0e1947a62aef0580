"""pool.yaml: gateways are swapped one after the other under load, and no call fails."""

import base64
import json
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

from client import PROJECT, SERVICE, Client, attachment
from pool import Pool
from stage import ROOT, TIMEOUT, WORK, Emulator, eventually

# Set by main.
CALLS, SWAPS = 10_000, 4

# Each has a certificate and a domain of its own, for the cloud refuses two changes of a certificate at a time.
PROCESSES, WORKERS = 2, 12


class Load:
    """Processes of load.py."""

    def __init__(self, address, requests):
        self.counts, self.result = [0] * PROCESSES, [None] * PROCESSES
        self.moved = threading.Condition()
        self.processes = [
            subprocess.Popen([sys.executable, "-B", Path(__file__).parent / "load.py", address], text=True,
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            for _ in range(PROCESSES)
        ]
        for number, process in enumerate(self.processes):
            process.stdin.write(json.dumps(requests[number::PROCESSES]) + "\n")
            process.stdin.flush()
            threading.Thread(target=self._read, args=[number, process], daemon=True).start()

    def _read(self, number, process):
        for line in process.stdout:
            value = json.loads(line)
            with self.moved:
                if isinstance(value, int):
                    self.counts[number] = value
                else:
                    self.result[number] = value
                self.moved.notify_all()

    def wait_for(self, calls):
        with self.moved:
            reached = self.moved.wait_for(lambda: sum(self.counts) >= calls, timeout=10 * TIMEOUT)
        assert reached, f"{sum(self.counts)} of {calls} calls"

    def stop(self):
        """The sums of what the processes counted."""
        for process in self.processes:
            process.stdin.close()
        with self.moved:
            assert self.moved.wait_for(lambda: all(self.result), timeout=2 * TIMEOUT), "the load does not end"
        sums = [sum((Counter(one[name]) for one in self.result), Counter()) for name in ("statuses", "methods")]
        return *sums, [failure for one in self.result for failure in one["failures"]]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.processes:
            process.kill()
            process.wait()


def world(path):
    """The emulator's own world, with certificates and domains for the workers."""
    text = (ROOT / "crates/emulator/src/world.toml").read_text()
    for worker in range(PROCESSES * WORKERS):
        text += f"""
[[certificates]]
id = "{worker:032x}"
name = "load_{worker}"
project = "{PROJECT}"
has_trusted_root_ca = false

[[domains]]
id = "{worker + 1000:032x}"
name = "load-{worker}.example.com"
project = "{PROJECT}"
group_id = "92f4b6d08a3e4c71b5d9e0f7a1c8263d"
group_name = "storefront"
instances = ["f0fa1789-3b76-433b-a787-9892951c620e"]
"""
    path.write_text(text)
    return path


def requests(client):
    """For each worker a change and three reads in turn."""
    def encoded(method, fields):
        return [f"/{SERVICE}/{method}", base64.b64encode(client.message(method, fields)).decode()]

    for worker in range(PROCESSES * WORKERS):
        certificate = f"{worker:032x}"
        read = encoded("GetCertificate", {"project_id": PROJECT, "certificate_id": certificate})
        change = encoded("AttachDomains", attachment(certificate, f"load-{worker}.example.com"))
        yield [change, read, read, read]


@contextmanager
def load(program, **options):
    """Two gateways with a load through Envoy. Their audit log is empty at the start."""
    folder = WORK / "audit"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with Emulator(program, "--world", world(folder / "world.toml")) as cloud:
        with Pool(program, cloud.url, "--audit", folder / "changes", **options) as pool:
            with pool.envoy() as envoy, Client(envoy.address("gateways")) as client:
                with Load(envoy.address("gateways"), list(requests(client))) as running:
                    yield pool, envoy, running, folder / "changes"


def replace(pool, envoy, number):
    """SIGTERM, and a new gateway at the same place when the old one has ended."""
    pool.gateways[number].terminate()
    pool.gateways[number].wait()
    start(pool, envoy, number)


def start(pool, envoy, number):
    """Starts a gateway at its place and waits until it has had calls."""
    place = pool.places[number]
    pool.gateways[number] = pool.stack.enter_context(pool.gateway(place))
    eventually(lambda: not any(envoy.hosts("gateways").values()), lambda: envoy.hosts("gateways"))
    before = envoy.host_stat("gateways", place.port, "rq_success")
    eventually(lambda: envoy.host_stat("gateways", place.port, "rq_success") > before, "calls at the new gateway")


def swapped(program, calls, swaps, **options):
    """Swaps under load: no call may fail, and each change is made by one request."""
    with load(program, **options) as (pool, envoy, running, audit):
        began = time.monotonic()
        for swap in range(1, swaps + 1):
            running.wait_for(calls * swap // (swaps + 1))
            replace(pool, envoy, swap % 2)
        running.wait_for(calls)
        statuses, methods, failures = running.stop()
        took = time.monotonic() - began
        retries = envoy.stat("cluster.gateways.upstream_rq_retry")
    assert set(statuses) == {"OK"}, (statuses, failures)
    changes = methods[f"/{SERVICE}/AttachDomains"]
    lines = [json.loads(line) for line in audit.read_text().splitlines()]
    seen = Counter((line["outcome"], line["attempts"]) for line in lines)
    assert seen == {("applied", 1): changes}, (seen, changes)
    calls = statuses.total()
    return (f"{calls:,} calls, {changes:,} of them changes, {swaps} swaps, 0 failed, {retries} retries by Envoy,"
            f" {calls / took:,.0f} calls/s")


def swapped_gateways_lose_no_call(program):
    return swapped(program, CALLS, SWAPS, drain_delay=None)


def without_a_drain_delay_retries_lose_no_call(program):
    """Envoy notices too late that a gateway drains: connections fail, and Envoy repeats these calls at the other one."""
    return swapped(program, CALLS // 5, 2, drain_delay="0s")


def a_killed_gateway_fails_the_calls_in_progress_and_no_others(program):
    with load(program) as (pool, envoy, running, _):
        running.wait_for(500)
        pool.gateways[0].kill()
        running.wait_for(2_000)
        start(pool, envoy, 0)
        statuses, _, failures = running.stop()
    failed = statuses.total() - statuses["OK"]
    assert failed <= PROCESSES * WORKERS and set(statuses) <= {"OK", "UNAVAILABLE"}, (statuses, failures)
    return f"{failed} of {statuses.total():,} calls failed; {PROCESSES * WORKERS} at a time"


CHECKS = [
    swapped_gateways_lose_no_call,
    without_a_drain_delay_retries_lose_no_call,
    a_killed_gateway_fails_the_calls_in_progress_and_no_others,
]
