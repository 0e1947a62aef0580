"""pool.yaml: mutual TLS from Envoy to two gateways, their rules, and health checks."""

import time
from contextlib import ExitStack, contextmanager

import grpc

from certificates import DEPLOY, GATEWAY, READER, STRANGER, Authority
from client import SERVICE, Client
from cloud import DONE, scripted_cloud
from stage import EXAMPLES, GATEWAY_PORTS, WORK, Emulator, Envoy, Gateway, Place, eventually

TLS = WORK / "tls"
UNREACHABLE = "failed_active_health_check"

CALLERS = {"service": DEPLOY, "reader": READER, "stranger": STRANGER}


def certificates():
    authority = Authority(TLS, "mesh")
    # The host name is for clients without Envoy.
    authority.issue("gateway", GATEWAY, "localhost")
    for name, identity in CALLERS.items():
        authority.issue(name, identity)


class Pool:
    """Two places, a gateway at each, and Envoys before them."""

    def __init__(self, program, upstream, *settings, drain_delay="0s"):
        if not (TLS / "ca.pem").exists():
            certificates()
        self.program, self.upstream, self.settings = program, upstream, settings
        # The one of the configuration where the check is about it.
        if drain_delay is not None:
            self.settings += ("--drain-delay", drain_delay)
        self.stack = ExitStack()

    def __enter__(self):
        self.places = [self.stack.enter_context(Place()) for _ in GATEWAY_PORTS]
        self.config = TLS / "policy.toml"
        self.config.write_text((EXAMPLES / "policy.toml").read_text().replace("/etc/mesh/tls", str(TLS)))
        try:
            self.gateways = [self.stack.enter_context(self.gateway(place)) for place in self.places]
        except BaseException:
            self.stack.close()
            raise
        return self

    def __exit__(self, *problem):
        return self.stack.__exit__(*problem)

    def gateway(self, place):
        return Gateway(self.program, place, self.upstream, "--config", self.config, *self.settings)

    @contextmanager
    def envoy(self, caller="service", change=(), **options):
        """An Envoy with a caller's certificate, when both gateways are healthy."""
        ports = [(f"port_value: {port}", f"port_value: {place.port}") for port, place in zip(GATEWAY_PORTS, self.places)]
        files = [("/etc/mesh/tls/service.", f"{TLS}/{caller}."), ("/etc/mesh/tls/", f"{TLS}/")]
        with Envoy("pool", [*ports, *files, *change], **options) as envoy:
            eventually(lambda: not any(envoy.hosts("gateways").values()), lambda: envoy.hosts("gateways"))
            yield envoy

    def tls(self, caller):
        """For a client without Envoy."""
        return [(TLS / name).read_bytes() for name in ("ca.pem", f"{caller}.pem", f"{caller}.key")]


# Mutual TLS


def the_rules_decide_by_the_spiffe_id_of_the_callers_certificate(program):
    with Emulator(program) as cloud, Pool(program, cloud.url) as pool:
        seen = {}
        for caller in CALLERS:
            with pool.envoy(caller) as envoy, Client(envoy.address("gateways")) as client:
                seen[caller] = [(one.code.name, one.reason) for one in (client.attach(), client.get())]
    denied = ("PERMISSION_DENIED", "CALLER_NOT_ALLOWED")
    allowed = ("OK", "-")
    expected = {"service": [allowed, allowed], "reader": [denied, allowed], "stranger": [denied, denied]}
    assert seen == expected, seen


def a_forged_x_forwarded_client_cert_is_never_believed(program):
    forged = [("x-forwarded-client-cert", f"By={GATEWAY};Hash={'0' * 64};URI={DEPLOY}")]
    # Envoy removes the header by default; here it passes on a caller's own.
    codec = "                codec_type: HTTP2\n"
    forward = [(codec, codec + "                forward_client_cert_details: ALWAYS_FORWARD_ONLY\n")]
    with scripted_cloud() as cloud, Pool(program, cloud.url) as pool:
        certificate = cloud.certificate(DONE)
        with pool.envoy("stranger", forward) as envoy, Client(envoy.address("gateways")) as client:
            answers = [client.attach(certificate, metadata=forged)]
            with pool.envoy("stranger") as default, Client(default.address("gateways")) as other:
                answers.append(other.attach(certificate, metadata=forged))
            with Client(f"localhost:{pool.places[0].port}", pool.tls("stranger")) as direct:
                answers.append(direct.attach(certificate, metadata=forged))
        for answer in answers:
            assert (answer.code.name, answer.reason) == ("PERMISSION_DENIED", "CALLER_NOT_ALLOWED"), answer
        assert cloud.arrivals[certificate] == [], "the cloud was asked"
        # Nor does it take a right away.
        with pool.envoy("service", forward) as envoy, Client(envoy.address("gateways")) as client:
            answer = client.attach(certificate, metadata=[("x-forwarded-client-cert", f"URI={STRANGER}")])
        assert answer.code is grpc.StatusCode.OK, answer
        assert len(cloud.arrivals[certificate]) == 1, cloud.arrivals


def envoy_rejects_a_gateway_with_another_spiffe_id(program):
    other = [(f'exact: "{GATEWAY}"', f'exact: "{STRANGER}"')]
    with scripted_cloud() as cloud, Pool(program, cloud.url) as pool:
        certificate = cloud.certificate(DONE)
        with pool.envoy() as envoy, Client(envoy.address("gateways")) as known:
            ports = [(f"port_value: {port}", f"port_value: {place.port}")
                     for port, place in zip(GATEWAY_PORTS, pool.places)]
            with Envoy("pool", [*ports, ("/etc/mesh/tls/", f"{TLS}/"), *other]) as strict:
                with Client(strict.address("gateways"), described_by=known) as client:
                    answer = client.attach(certificate)
                assert strict.stat("cluster.gateways.ssl.fail_verify_san") > 0
        assert (answer.code.name, answer.reason) == ("UNAVAILABLE", "-"), answer
        assert cloud.arrivals[certificate] == [], "the cloud was asked"


# Health checks


def a_draining_gateway_gets_no_new_call(program):
    notes = []
    # The one of the configuration, and the other that a gateway takes away at the start of its drain.
    for service in ("readiness", SERVICE):
        change = [("service_name: readiness", f"service_name: {service}")]
        with Emulator(program) as cloud, Pool(program, cloud.url, drain_delay=None) as pool:
            with pool.envoy(change=change) as envoy, Client(envoy.address("gateways")) as client:
                notes.append(f"{drained_without_calls(pool, envoy, client):.1f} s")
    return f"noticed after {' and '.join(notes)}"


def drained_without_calls(pool, envoy, client):
    """The seconds until Envoy notices that the first gateway drains."""
    def hosts():
        return envoy.hosts("gateways")

    port = pool.places[0].port
    for _ in range(20):
        assert client.get().code is grpc.StatusCode.OK
    pool.gateways[0].terminate()
    began = time.monotonic()
    eventually(lambda: UNREACHABLE in hosts()[port], hosts)
    noticed = time.monotonic() - began
    assert pool.gateways[0].process.poll() is None, "it ended before Envoy noticed"
    served = envoy.host_stat("gateways", port, "rq_total")
    for _ in range(50):
        assert client.get().code is grpc.StatusCode.OK
    assert envoy.host_stat("gateways", port, "rq_total") == served, "it has had calls"
    assert not hosts()[pool.places[1].port], hosts()
    pool.gateways[0].wait()
    return noticed


CHECKS = [
    the_rules_decide_by_the_spiffe_id_of_the_callers_certificate,
    a_forged_x_forwarded_client_cert_is_never_believed,
    envoy_rejects_a_gateway_with_another_spiffe_id,
    a_draining_gateway_gets_no_new_call,
]
