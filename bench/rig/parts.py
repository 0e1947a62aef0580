"""The parts of the bench: each measures one thing, in rounds that take turns, and returns what it saw as data."""

import contextlib
import subprocess
import time

from rig.callers import direct
from rig.programs import BUILD, ROOT, Failed, Load, Upstream, envoy, envoy_binary, floor, gateway, measure
from rig.programs import plain, say
from rig.rounds import ratios, spread, turns

# In flight: connections, calls at once on each.
LOADS = {"1": (1, 1), "16": (8, 2), "128": (8, 16)}
ERROR = {"expect": 5, "details": True}


class Scale:
    """How much is measured."""

    def __init__(self, quick):
        self.rounds = 5 if quick else 7
        self.seconds = 0.6 if quick else 3.0
        self.starts = 5 if quick else 20
        self.idle = 200 if quick else 900
        self.calls = 100_000 if quick else 1_000_000
        self.warm_up = 300 if quick else 2000
        self.direct = 1000 if quick else 10_000


def summary(runs):
    return {key: spread([run[key] for run in runs]) for key in ("rate", "cpu", "p50", "p99", "p999")}


def interleaved(cases, scale, seconds=None):
    """Measures cases in turn. A case is a name and what `measure` takes."""
    runs = {name: [] for name, *_ in cases}
    for name, program, upstream, options in turns(cases, scale.rounds):
        runs[name].append(measure(program, upstream, seconds=seconds or scale.seconds, warm_up=scale.warm_up, **options))
    return runs


def throughput(scale):
    """The table: every gateway under every load."""
    with contextlib.ExitStack() as stack:
        upstream = stack.enter_context(Upstream())
        programs = [stack.enter_context(make(upstream)) for make in (gateway, floor, plain, envoy)]
        result = {"loads": {}, "rss": {}}
        for name, (connections, streams) in LOADS.items():
            say(f"  {name} in flight")
            options = {"connections": connections, "streams": streams}
            runs = interleaved([(program.name, program, upstream, options) for program in programs], scale)
            load = {"programs": {program: summary(seen) for program, seen in runs.items()}, "ratios": {}}
            for other in ("floor", "plain", "Envoy"):
                load["ratios"][other] = {
                    key: ratios([run[key] for run in runs["gateway"]], [run[key] for run in runs[other]])
                    for key in ("rate", "cpu", "p50", "p99")}
            result["loads"][name] = load
        result["rss"] = {program.name: program.rss() for program in programs}
        return result


def cold(scale):
    """From the start of the process to the answer of the first good call, and the memory it then has."""
    result = {}
    with Upstream() as upstream:
        makers = {"gateway": gateway, "floor": floor, "plain": plain, "Envoy": envoy}
        seen = {name: [] for name in makers}
        memory = {name: [] for name in makers}
        envoy_binary()
        for name, make in turns(makers.items(), scale.starts):
            program = make(upstream)
            command = [BUILD / "release" / "load", program.address, "--until-good", "--seconds", "20"]
            caller = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, text=True, start_new_session=True)
            try:
                # It is trying already when the program starts.
                caller.stdout.readline()
                started = time.time_ns()
                program.start()
                line = caller.stdout.readline()
                if not line:
                    raise Failed(f"{name} never answered well")
                seen[name].append((int(line) - started) / 1e6)
                memory[name].append(program.rss())
            finally:
                caller.kill()
                caller.wait()
                caller.stdout.close()
                program.stop()
        for name in makers:
            result[name] = {"milliseconds": spread(seen[name]), "rss": spread(memory[name])}
    return result


def idle(scale):
    """What a connection takes that has carried a call and now does nothing."""
    result = {}
    with Upstream() as upstream:
        for make in (gateway, floor, plain, envoy):
            with make(upstream) as program:
                # What the first calls take is not the connections'.
                measure(program, upstream, connections=8, calls=2000)
                before = program.rss()
                with Load(program, connections=scale.idle):
                    result[program.name] = (program.rss() - before) / scale.idle
    return result


def memory(scale):
    """Resident memory at the quarters of many calls."""
    with Upstream() as upstream, gateway(upstream) as program:
        seen = [program.rss()]
        for _ in range(4):
            run = measure(program, upstream, connections=8, streams=16, calls=scale.calls // 4)
            seen.append(run["rss"])
    return {"calls": scale.calls, "rss": seen}


def compared(one, other, cases, scale):
    runs = interleaved(cases, scale)
    ratio = {key: ratios([run[key] for run in runs[one]], [run[key] for run in runs[other]])
             for key in ("rate", "cpu", "p50", "p99")}
    return {"cases": {name: summary(seen) for name, seen in runs.items()}, "ratios": ratio}


def tls(scale):
    """TLS on both sides against none, on warm connections."""
    with Upstream() as upstream, Upstream(tls=True) as secret, gateway(upstream) as program, \
            gateway(secret, name="gateway with TLS", tls=True) as private:
        load = {"connections": 8, "streams": 2}
        return compared("TLS", "plain text", [
            ("plain text", program, upstream, load),
            ("TLS", private, secret, {**load, "tls": True})], scale)


def errors(scale):
    """The documented 404, with all its details, against success."""
    with Upstream() as upstream, Upstream() as failing, gateway(upstream) as program, \
            gateway(failing, name="gateway that meets errors") as refused:
        failing.answer("error")
        # The calls that greet are errors too.
        load = {"connections": 8, "streams": 2}
        return compared("error", "success", [
            ("success", program, upstream, load),
            ("error", refused, failing, {**load, **ERROR})], scale)


def big(scale):
    """1,000 domains in a call, and half of them, against one: the cost shall follow the bytes."""
    with contextlib.ExitStack() as stack:
        upstream = stack.enter_context(Upstream())
        programs = [stack.enter_context(make(upstream)) for make in (gateway, floor, plain, envoy)]
        cases = []
        for program in programs:
            for domains in (1, 500, 1000):
                load = {"connections": 4, "streams": 1, "domains": domains}
                cases.append((f"{program.name}, {domains}", program, upstream, load))
        small = Scale(quick=True)
        small.warm_up, small.rounds = 50, scale.rounds
        runs = interleaved(cases, small, seconds=scale.seconds / 2)
        return {name: summary(seen) for name, seen in runs.items()}


def workers(scale, domains=1):
    """Two workers against one."""
    with Upstream() as upstream, gateway(upstream) as one, gateway(upstream, "gateway of 2", flags=["--workers", "2"]) as two:
        load = {"connections": 32, "streams": 4, "domains": domains}
        return compared("2 workers", "1 worker", [("1 worker", one, upstream, load), ("2 workers", two, upstream, load)],
                        scale)


def workers_big(scale):
    """The same with 100 domains in a call. With one, load generator and upstream need as much of two cores as the gateway, and
    leave no room for its second worker; these calls are nearly all its work."""
    return workers(scale, domains=100)


def size(_):
    """Bytes of the programs as they are shipped."""
    paths = {"gateway": ROOT / "target" / "release" / "apig-grpc-gateway", "floor": BUILD / "release" / "floor",
             "plain": BUILD / "release" / "plain", "Envoy": envoy_binary()}
    return {name: path.stat().st_size for name, path in paths.items()}


PARTS = {"throughput": throughput, "cold": cold, "idle": idle, "memory": memory, "tls": tls, "errors": errors, "big": big,
         "direct": direct, "workers": workers, "workers-big": workers_big, "size": size}
