"""pool.yaml: outlier detection in an outage of the cloud, and of a gateway."""

import grpc

from client import Client
from cloud import scripted_cloud
from pool import Pool
from stage import EXAMPLES, Emulator, eventually

EJECTED = "failed_outlier_check"

# The circuit breaker opens during the check.
OUTAGE = ("--max-attempts", "1", "--breaker-threshold", "5")


def without(section):
    """A change of pool.yaml: without a section of its cluster."""
    lines = (EXAMPLES / "pool.yaml").read_text().split("\n")
    begin = lines.index(f"      {section}:")
    end = next(at for at in range(begin + 1, len(lines)) if not lines[at].startswith("       ") and lines[at].strip())
    return "\n".join(lines[begin:end]), ""


def an_outage_of_the_cloud_ejects_no_gateway(program):
    with scripted_cloud() as cloud:
        certificate = cloud.certificate((503, {}))
        with Pool(program, cloud.url, *OUTAGE) as pool, pool.envoy() as envoy:
            with Client(envoy.address("gateways")) as client:
                reasons = set()
                for _ in range(60):
                    answer = client.attach(certificate)
                    assert answer.code is grpc.StatusCode.UNAVAILABLE, answer
                    reasons.add(answer.reason)
            assert reasons == {"HTTP_503", "CIRCUIT_OPEN"}, reasons
            assert not any(envoy.hosts("gateways").values()), envoy.hosts("gateways")
            assert envoy.stat("cluster.gateways.outlier_detection.ejections_enforced_total") == 0


def with_fewer_settings_an_outage_ejects_gateways(program):
    """Why the configuration has so many zeros."""
    section, _ = without("outlier_detection")
    notes = []
    for percent, expected in ((50, 1), (100, 2)):
        change = [(section, f"      outlier_detection: {{ max_ejection_percent: {percent} }}\n")]
        with scripted_cloud() as cloud:
            certificate = cloud.certificate((503, {}))
            with Pool(program, cloud.url, *OUTAGE) as pool, pool.envoy(change=change) as envoy:
                with Client(envoy.address("gateways")) as client:
                    answers = [client.attach(certificate) for _ in range(60)]
                ejected = sum(EJECTED in flags for flags in envoy.hosts("gateways").values())
        assert ejected == expected, (percent, ejected)
        # Envoy uses all hosts when too few are healthy.
        assert all(answer.reason != "-" for answer in answers), answers
        notes.append(f"{ejected} of 2 with {percent} %")
    return ", ".join(notes)


def a_dead_gateway_is_ejected_without_a_failed_call(program):
    # As in a mesh without health checks by Envoy, such as Istio.
    with Emulator(program) as cloud, Pool(program, cloud.url) as pool:
        with pool.envoy(change=[without("health_checks")]) as envoy, Client(envoy.address("gateways")) as client:
            assert client.attach().code is grpc.StatusCode.OK
            pool.gateways[0].kill()
            calls = 0
            while EJECTED not in envoy.hosts("gateways")[pool.places[0].port]:
                answer = client.get()
                assert answer.code is grpc.StatusCode.OK, answer
                calls += 1
                assert calls < 1_000, "never ejected"
            assert envoy.stat("cluster.gateways.outlier_detection.ejections_enforced_consecutive_local_origin_failure") == 1
            with pool.gateway(pool.places[0]):
                eventually(lambda: not any(envoy.hosts("gateways").values()), lambda: envoy.hosts("gateways"))
                before = envoy.host_stat("gateways", pool.places[0].port, "rq_success")
                for _ in range(20):
                    assert client.get().code is grpc.StatusCode.OK
                assert envoy.host_stat("gateways", pool.places[0].port, "rq_success") > before
    return f"after {calls} calls, and used again after its restart"


CHECKS = [
    an_outage_of_the_cloud_ejects_no_gateway,
    with_fewer_settings_an_outage_ejects_gateways,
    a_dead_gateway_is_ejected_without_a_failed_call,
]
