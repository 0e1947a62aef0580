"""forward-proxy.yaml: client, Envoy, gateway, Envoy as forward proxy, cloud over HTTPS."""

import tempfile
from contextlib import contextmanager
from pathlib import Path

import grpc

from certificates import Authority
from client import Client
from cloud import DONE, scripted_cloud
from sidecar import mesh
from stage import SINGLE, WORK, Envoy, Place, eventually

CLOUD_TLS = WORK / "tls" / "cloud"
API = "roma.cn-north-4.myhuaweicloud.com:443"


@contextmanager
def stage(program, allowed=True, ca=CLOUD_TLS / "ca.pem", proxy_address=None):
    """The cloud, a client before both Envoys, and the forward proxy."""
    authority = Authority(CLOUD_TLS, "cloud")
    authority.issue("server", "localhost")
    with scripted_cloud(CLOUD_TLS / "server.pem", CLOUD_TLS / "server.key") as cloud:
        change = [(API, f"localhost:{cloud.server_port}")] if allowed else []
        with Envoy("forward-proxy", change) as proxy:
            address = proxy_address or proxy.address("forward_proxy")
            settings = ("--upstream-proxy", f"http://{address}", "--upstream-ca", ca)
            with mesh(program, cloud.url, *settings, *SINGLE) as (envoy, _), Client(envoy.address("over_tcp")) as client:
                yield cloud, client, proxy


def calls_reach_the_cloud_through_both(program):
    with stage(program) as (cloud, client, proxy):
        certificate = cloud.certificate(DONE)
        for _ in range(20):
            assert (answer := client.attach(certificate)).code is grpc.StatusCode.OK, answer
        assert len(cloud.arrivals[certificate]) == 20, cloud.arrivals
        tunnels = proxy.stat("http.forward_proxy.downstream_cx_upgrades_total")
        assert tunnels >= 1, tunnels
        assert proxy.stat("cluster.named_host.upstream_cx_total") == tunnels
        throttled = cloud.certificate((429, {"retry-after": "6"}))
        answer = client.attach(throttled)
        assert (answer.code.name, answer.reason) == ("RESOURCE_EXHAUSTED", "HTTP_429"), answer
        assert answer.details["RetryInfo"].retry_delay.seconds == 6, answer
        return f"20 calls, tunnels: {tunnels}"


def a_host_that_is_not_listed_is_not_reached(program):
    with stage(program, allowed=False) as (cloud, client, proxy):
        certificate = cloud.certificate(DONE)
        answer = client.attach(certificate)
        assert (answer.code.name, answer.reason) == ("UNAVAILABLE", "UPSTREAM_UNREACHABLE"), answer
        assert answer.outcome == "not_sent", answer
        assert cloud.arrivals[certificate] == [], "the cloud was asked"
        assert proxy.stat("http.forward_proxy.no_route") >= 1
        return answer.message


def the_clouds_certificate_is_verified_through_the_tunnel(program):
    with tempfile.TemporaryDirectory() as folder:
        other = Authority(Path(folder), "other")
        with stage(program, ca=other.path) as (cloud, client, _):
            certificate = cloud.certificate(DONE)
            answer = client.attach(certificate)
            assert (answer.code.name, answer.reason) == ("UNAVAILABLE", "UPSTREAM_UNREACHABLE"), answer
            assert cloud.arrivals[certificate] == [], "the cloud was asked"
            return answer.message


def a_proxy_that_does_not_listen_is_an_error_with_nothing_sent(program):
    with Place() as nobody, stage(program, proxy_address=nobody.address) as (cloud, client, _):
        certificate = cloud.certificate(DONE)
        answer = client.attach(certificate)
        assert (answer.code.name, answer.reason) == ("UNAVAILABLE", "UPSTREAM_UNREACHABLE"), answer
        assert answer.outcome == "not_sent" and cloud.arrivals[certificate] == [], (answer, cloud.arrivals)


def a_tunnel_that_breaks_in_a_call_leaves_its_outcome_unknown(program):
    with stage(program) as (cloud, client, proxy):
        certificate = cloud.certificate(DONE)
        cloud.open.clear()
        call = client.start_attach(certificate)
        eventually(lambda: cloud.arrivals[certificate], "the request reaches the cloud")
        proxy.kill()
        answer = client.ended(call)
        assert (answer.code.name, answer.reason) == ("UNAVAILABLE", "UPSTREAM_CONNECTION_LOST"), answer
        assert answer.outcome == "unknown" and answer.metadata["grpc-retry-pushback-ms"] == "-1", answer
        assert len(cloud.arrivals[certificate]) == 1, cloud.arrivals


CHECKS = [
    calls_reach_the_cloud_through_both,
    a_host_that_is_not_listed_is_not_reached,
    the_clouds_certificate_is_verified_through_the_tunnel,
    a_proxy_that_does_not_listen_is_an_error_with_nothing_sent,
    a_tunnel_that_breaks_in_a_call_leaves_its_outcome_unknown,
]
