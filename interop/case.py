"""Cases of the table: calls that a client makes, what the cloud does, and what must come of it; and how one is run."""

from contextlib import ExitStack
from dataclasses import dataclass, field

from expect import Expected, compare, differences
from gateway import SERVICE, TOKEN
from scripted_cloud import Answer


@dataclass(frozen=True)
class Call:
    """A line of the protocol without its target; `then(stage)` gives further differences, as of the cloud."""

    request: dict
    expected: Expected
    then: object = None


@dataclass(frozen=True)
class Case:
    name: str
    calls: list[Call] = field(default_factory=list)
    # A kind of stage.KINDS.
    gateway: str = "scripted"
    script: list = field(default_factory=lambda: [Answer()])
    # The number of requests that the cloud gets, and of calls that the gateway does.
    requests: int | None = None
    attempts: int | None = None
    then: object = None
    # A case that is more than its calls: `scenario(case, stage, client)` gives differences.
    scenario: object = None
    # Why a client is not asked.
    cannot: dict = field(default_factory=dict)
    # Clients for which another case stands: that, and why.
    otherwise: dict = field(default_factory=dict)
    transports: tuple = ("tcp", "unix")


class Cannot(Exception):
    """The client can't do the case, and says why."""


def call(method, request, expected, *, then=None, token=TOKEN, metadata=(), **options):
    """A call of a method of the API."""
    token = [] if token is None else [["x-auth-token", token]]
    return Call({
        "action": "call", "method": method if "/" in method else f"{SERVICE}/{method}", "request": request,
        "metadata": [*token, *map(list, metadata)], **options,
    }, expected, then)


def ask(client, request):
    return checked(client.ask(request))


def checked(answer):
    if "cannot" in answer:
        raise Cannot(answer["cannot"])
    return answer


def run(case, stage, client):
    """The differences of a case, as lists of field, expected and seen. Raises `Cannot`."""
    if client.kind.name in case.cannot:
        raise Cannot(case.cannot[client.kind.name])
    case, _ = case.otherwise.get(client.kind.name, (case, ""))
    if case.scenario:
        return list(case.scenario(case, stage, client))
    stage.scripted.plays(case.script)
    with ExitStack() as stack:
        running = stack.enter_context(stage.fresh(case.gateway)) if case.attempts else stage.gateway(case.gateway)
        found = [difference for call in case.calls for difference in made(call, running, stage, client)]
        if case.requests is not None:
            found += compare("requests at the cloud", case.requests, len(stage.scripted.requests))
        if case.then:
            found += case.then(stage)
    if case.attempts:
        found += compare("attempts", case.attempts, running.calls_ended())
    return found


def made(call, running, stage, client):
    tls = {}
    if "tls" in call.request:
        tls["tls"] = {name: f"{stage.tls}/{file}" for name, file in call.request["tls"].items()}
    yield from differences(call.expected, ask(client, {**call.request, "target": running.target, **tls}))
    if call.then:
        yield from call.then(stage)
