"""The standard services beside the API: health and reflection."""

from case import Call, Case, checked
from expect import Expected, compare, differences
from gateway import SERVICE
from relay import relay

# A message of one status, SERVING: its prefix of five bytes, and field 1.
SERVING = b"\x00\x00\x00\x00\x02\x08\x01"


def health(service, expected):
    return Call({"action": "health", "service": service}, expected)


def reflection(version):
    return Case(f"reflection {version}", [Call(
        {"action": "reflect", "version": version},
        Expected("OK", services={SERVICE, "grpc.health.v1.Health"}),
    )])


def watch_through_a_drain(case, stage, client):
    with stage.fresh("draining") as running, relay(running.target, stage.free_address(), SERVING) as between:
        client.send({"action": "watch", "service": "readiness", "count": 2, "target": between.target})
        seen = between.has_passed.wait(60)
        running.program.process.terminate()
        answer = checked(client.receive())
        yield from compare("the first status came before the drain", True, seen)
        yield from differences(Expected("OK", statuses=["SERVING", "NOT_SERVING"]), answer)
        for service, status in [("", "NOT_SERVING"), ("liveness", "SERVING")]:
            answer = checked(client.ask({"action": "health", "service": service, "target": running.target}))
            yield from differences(Expected("OK", statuses=[status]), answer)


CASES = [
    *map(reflection, ["v1", "v1alpha"]),
    Case("health Check of every name that the gateway knows", [
        health(service, Expected("OK", statuses=["SERVING"])) for service in ["", SERVICE, "liveness", "readiness"]
    ]),
    Case("health Check of an unknown service: NOT_FOUND", [health("nobody", Expected("NOT_FOUND"))]),
    Case("health Watch of an unknown service: SERVICE_UNKNOWN", [
        Call({"action": "watch", "service": "nobody", "count": 1}, Expected("OK", statuses=["SERVICE_UNKNOWN"])),
    ]),
    Case("health Watch through a drain: SERVING, NOT_SERVING", scenario=watch_through_a_drain),
]
