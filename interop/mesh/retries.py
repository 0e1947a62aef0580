"""pool.yaml: retries by Envoy, counted at the cloud."""

import textwrap

import grpc

from client import Client
from cloud import CUT, DONE, scripted_cloud
from pool import Pool
from stage import EXAMPLES, SINGLE, Place, eventually

RETRY_ON = "retry_on: connect-failure,refused-stream,reset-before-request,retriable-headers"


def attempts(program, *script, change=(), settings=SINGLE):
    """One call to a cloud with a script: its answer, the times of the requests, and Envoy's own count of retries."""
    with scripted_cloud() as cloud, Pool(program, cloud.url, *settings) as pool, pool.envoy(change=change) as envoy:
        certificate = cloud.certificate(*script)
        with Client(envoy.address("gateways")) as client:
            answer = client.attach(certificate)
        return answer, cloud.arrivals[certificate], envoy.stat("cluster.gateways.upstream_rq_retry")


BUSY = (503, {"retry-after": "1"})
BUSY_2 = (503, {"retry-after": "2"})
# The longest delay of the configuration, and a longer one.
BUSY_5 = (503, {"retry-after": "5"})
BUSY_6 = (503, {"retry-after": "6"})
THROTTLED = (429, {"retry-after": "1"})
FAILED = (502, {})


def a_503_is_repeated_after_the_delay_that_the_cloud_asks_for(program):
    notes = []
    for script, least in [((BUSY, DONE), 1), ((THROTTLED, DONE), 1), ((BUSY_2, BUSY, DONE), 3)]:
        answer, arrivals, retries = attempts(program, *script)
        assert answer.code is grpc.StatusCode.OK, answer
        assert (len(arrivals), retries) == (len(script), len(script) - 1), (arrivals, retries)
        pause = arrivals[-1] - arrivals[0]
        assert pause >= least, f"repeated after {pause} s"
        notes.append(f"{pause:.1f} s after {least} s")
    return ", ".join(notes)


def as_a_filter_of_the_listener_it_has_no_effect(program):
    """Why it is a filter of the cluster: the router decides before those of the listener see a response."""
    text = (EXAMPLES / "pool.yaml").read_text()
    begin = text.index("            - name: envoy.filters.http.lua\n")
    lua = text[begin:text.index("            - name: envoy.filters.http.upstream_codec\n")]
    router = "                  - name: envoy.filters.http.router\n"
    moved = textwrap.indent(lua, " " * 6)
    answer, arrivals, _ = attempts(program, BUSY_5, DONE, change=[(lua, ""), (router, moved + router)])
    assert answer.code is grpc.StatusCode.OK and len(arrivals) == 2, (answer, arrivals)
    pause = arrivals[1] - arrivals[0]
    assert pause < 5, pause
    return f"{pause * 1000:.0f} ms after 5 s"


def without_the_filter_a_503_is_repeated_sooner(program):
    """Why there is a filter: Envoy reads no milliseconds."""
    change = [("x-retry-after-seconds, format", "grpc-retry-pushback-ms, format")]
    answer, arrivals, _ = attempts(program, BUSY_5, DONE, change=change)
    assert answer.code is grpc.StatusCode.OK and len(arrivals) == 2, (answer, arrivals)
    pause = arrivals[1] - arrivals[0]
    assert pause < 5, pause
    return f"{pause * 1000:.0f} ms after 5 s"


def a_longer_delay_is_left_to_the_caller(program):
    answer, arrivals, _ = attempts(program, BUSY_6, DONE)
    assert (answer.code.name, answer.metadata["grpc-retry-pushback-ms"]) == ("UNAVAILABLE", "6000"), answer
    assert answer.details["RetryInfo"].retry_delay.seconds == 6, answer
    assert "x-retry-after-seconds" not in answer.metadata, answer
    assert len(arrivals) == 1, arrivals


def a_change_that_may_have_been_made_is_not_repeated(program):
    for script, reason in [(CUT, "UPSTREAM_CONNECTION_LOST"), (FAILED, "HTTP_502")]:
        answer, arrivals, retries = attempts(program, script)
        assert (answer.code.name, answer.reason, answer.outcome) == ("UNAVAILABLE", reason, "unknown"), answer
        assert answer.metadata["grpc-retry-pushback-ms"] == "-1", answer
        assert (len(arrivals), retries) == (1, 0), (arrivals, retries)


def with_retry_on_unavailable_such_a_change_is_repeated(program):
    """Why it is not in the configuration: Envoy does not know grpc-retry-pushback-ms."""
    change = [(RETRY_ON, "retry_on: unavailable")]
    answer, arrivals, retries = attempts(program, CUT, change=change)
    assert answer.outcome == "unknown", answer
    assert (len(arrivals), retries) == (3, 2), (arrivals, retries)
    return f"{len(arrivals)} requests of one call"


def killed(program, *change):
    """A call whose gateway is killed when its request has reached the cloud: its answer, and the number of requests.

    The cloud answers no request before the call has ended or was repeated.
    """
    with scripted_cloud() as cloud, Pool(program, cloud.url) as pool, pool.envoy(change=change) as envoy:
        certificate = cloud.certificate(DONE)
        arrivals = cloud.arrivals[certificate]
        cloud.open.clear()
        with Client(envoy.address("gateways")) as client:
            call = client.start_attach(certificate)
            eventually(lambda: arrivals, "the request reaches the cloud")
            busy = next(place for place in pool.places if envoy.host_stat("gateways", place.port, "rq_active"))
            pool.gateways[pool.places.index(busy)].kill()
            eventually(lambda: call.done() or len(arrivals) > 1, "the call ends, or is repeated")
            cloud.open.set()
            return client.ended(call), len(arrivals)


def a_call_of_a_killed_gateway_is_not_repeated(program):
    answer, requests = killed(program)
    assert (answer.code.name, answer.reason, requests) == ("UNAVAILABLE", "-", 1), (answer, requests)


def with_retry_on_reset_5xx_or_gateway_error_it_is_repeated(program):
    """Why these are not in the configuration."""
    for condition in ("reset", "5xx", "gateway-error"):
        answer, requests = killed(program, (RETRY_ON, f"retry_on: {condition}"))
        assert (answer.code.name, requests) == ("OK", 2), (condition, answer, requests)
    return "2 requests of one call"


def an_error_without_pushback_is_not_repeated(program):
    """Envoy can't tell it from one of a proxy, whose outcome nobody knows."""
    with Place() as nobody, Pool(program, f"http://{nobody.address}", "--max-attempts", "1") as pool:
        with pool.envoy() as envoy, Client(envoy.address("gateways")) as client:
            answer = client.attach()
            assert (answer.code.name, answer.reason) == ("UNAVAILABLE", "UPSTREAM_UNREACHABLE"), answer
            assert answer.outcome == "not_sent" and "grpc-retry-pushback-ms" not in answer.metadata, answer
            assert envoy.stat("cluster.gateways.upstream_rq_retry") == 0


def a_timeout_of_envoy_hides_the_outcome(program):
    """Why the timeout of the configuration is longer than the gateway's."""
    with scripted_cloud() as cloud, Pool(program, cloud.url, *SINGLE, "--timeout", "2s") as pool:
        seen = []
        cloud.open.clear()
        for change in ([], [("timeout: 35s", "timeout: 1s")]):
            with pool.envoy(change=change) as envoy, Client(envoy.address("gateways")) as client:
                answer = client.attach(cloud.certificate(DONE))
                seen.append((answer.code.name, answer.reason, answer.outcome))
        cloud.open.set()
    assert seen[0] == ("DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED", "unknown"), seen
    assert seen[1][1:] == ("-", None), seen
    return f"{seen[1][0]}: {answer.message}"


CHECKS = [
    a_503_is_repeated_after_the_delay_that_the_cloud_asks_for,
    without_the_filter_a_503_is_repeated_sooner,
    as_a_filter_of_the_listener_it_has_no_effect,
    a_longer_delay_is_left_to_the_caller,
    a_change_that_may_have_been_made_is_not_repeated,
    with_retry_on_unavailable_such_a_change_is_repeated,
    a_call_of_a_killed_gateway_is_not_repeated,
    with_retry_on_reset_5xx_or_gateway_error_it_is_repeated,
    an_error_without_pushback_is_not_repeated,
    a_timeout_of_envoy_hides_the_outcome,
]
