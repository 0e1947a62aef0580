"""One call beside calling the cloud directly: callers in Python and Rust, with and without the gateway."""

from rig.programs import BUILD, ROOT, WORK, Driven, Failed, Upstream, gateway, run
from rig.rounds import spread, turns

PYTHON = ROOT / "target" / "interop" / "venv" / "bin" / "python"

# The gateway signs for its callers in Python, as the SDK does itself; the callers in Rust bring a token.
SIGNING = ["--credentials", "aksk", "--access-key-id", "BENCHKEY"]
SECRET = {"APIG_GATEWAY_SECRET_ACCESS_KEY": "bench-secret"}
CALLER = {"PYTHONPATH": str(WORK / "python"), "no_proxy": "*"}


def prepare():
    """The vendor's SDK, grpcio and the generated code."""
    run(ROOT / "interop" / "clients" / "python" / "prepare", WORK / "python")


def measure(command, calls, upstream, program):
    """What the caller saw, and the processor time of the gateway between, if there is one."""
    with Driven([*command, calls], CALLER) as caller:
        count, cpu = upstream.count(), program.cpu() if program else 0
        seen = caller.go()
        cpu = program.cpu() - cpu if program else 0
        if upstream.count() - count != calls:
            raise Failed(f"{' '.join(caller.command)}: {calls} calls, and the upstream saw {upstream.count() - count}")
        return {**seen, "gateway": cpu / 1000 / calls}


def direct(scale):
    """Each way in turn, one call after the other."""
    prepare()
    with Upstream() as upstream, gateway(upstream, name="gateway that signs", flags=SIGNING, env=SECRET) as signing, \
            gateway(upstream) as passing:
        script = ROOT / "bench" / "caller.py"
        rust = BUILD / "release" / "caller"
        ways = {
            "Python, vendor's SDK": ([PYTHON, "-B", script, "sdk", upstream.url], None, scale.direct // 10),
            "Python, grpcio and gateway": ([PYTHON, "-B", script, "grpcio", signing.address], signing, scale.direct // 10),
            "Rust, reqwest": ([rust, "reqwest", upstream.url], None, scale.direct),
            "Rust, tonic and gateway": ([rust, "tonic", f"http://{passing.address}"], passing, scale.direct),
        }
        runs = {name: [] for name in ways}
        for name, (command, program, calls) in turns(ways.items(), scale.rounds):
            runs[name].append(measure(command, calls, upstream, program))
    return {name: {key: spread([seen[key] for seen in rounds]) for key in ("cpu", "gateway", "p50", "p99")}
            for name, rounds in runs.items()}
