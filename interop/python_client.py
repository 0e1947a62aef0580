"""The gateway checked with Python's gRPC, without generated code.

    python_client.py GATEWAY_HOST:PORT http://CLOUD_HOST:PORT

Every function that takes `gateway` and `cloud` is a check, named after what must hold. Both are fresh when the checks
begin, and the checks run in the order of this file.
"""

import inspect
import sys
import threading
import traceback
import uuid

import grpc
from grpc import StatusCode as Code
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

from gateway import (
    AUDITORS_TOKEN, CERTIFICATE, CERTIFICATE_DONE_BUT_TIMES_OUT, CERTIFICATE_FAULTY, CERTIFICATE_THROTTLED,
    CERTIFICATE_WITH_CA, DOMAIN, INSTANCES, PROJECT, SERVICE, TIMEOUT, TOKEN, Cloud, Gateway,
)

EXAMPLE = [{"domain": DOMAIN, "instance_ids": INSTANCES}]
MAX_MESSAGE_SIZE = 4 * 1024 * 1024


def equal(actual, expected):
    assert actual == expected, f"{actual!r} instead of {expected!r}"


def refused_by_gateway(answer, code, reason, details=()):
    equal((answer.code, answer.info.reason, answer.info.domain), (code, reason, "apig-grpc-gateway"))
    equal(set(answer.details), {"ErrorInfo", *details})
    assert "apig-request-id" not in answer.metadata, "the cloud has been asked"


def refused_by_cloud(answer, code, error_code, http_status, details=()):
    reason = error_code.replace(".", "_")
    equal((answer.code, answer.info.reason, answer.info.domain), (code, reason, "apig.huaweicloud.com"))
    equal(answer.info.metadata["error_code"], error_code)
    equal(answer.info.metadata["http_status"], str(http_status))
    equal(set(answer.details), {"ErrorInfo", "RequestInfo", "Help", *details})
    assert answer.message, "there is no message"
    cloud_id = answer.metadata["apig-request-id"]
    equal((answer.info.metadata["request_id"], answer.details["RequestInfo"].request_id), (cloud_id, cloud_id))
    assert answer.details["Help"].links[0].url.startswith("https://"), "Help has no link"


# Discovery


def services(gateway, version):
    """Both versions of reflection have the same messages, so one set of classes does for both."""
    call = gateway.channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    request = reflection_pb2.ServerReflectionRequest(list_services="*")
    [response] = call(iter([request]), timeout=TIMEOUT)
    return {service.name for service in response.list_services_response.service}


def both_versions_of_reflection_list_the_same_services(gateway, cloud):
    listed = services(gateway, "v1")
    equal(services(gateway, "v1alpha"), listed)
    equal(set(gateway.descriptors.get_services()), listed)
    assert {SERVICE, "grpc.health.v1.Health"} <= listed, listed


def reflection_describes_the_method_and_its_fields(gateway, cloud):
    methods = [method.name for method in gateway.method.containing_service.methods]
    bindings = ["AttachDomains", "DetachDomains", "ListAttachedDomains"]
    certificates = [f"{verb}Certificate" for verb in ("Get", "Create", "Update", "Delete")]
    equal(methods, [*bindings, "ListCertificates", *certificates, "AttachCertificates", "DetachCertificates"])
    equal((gateway.method.client_streaming, gateway.method.server_streaming), (False, False))
    fields = gateway.method.input_type.fields
    equal([(f.number, f.name) for f in fields], [(1, "project_id"), (2, "certificate_id"), (3, "domains")])
    fields = gateway.method.input_type.fields_by_name["domains"].message_type.fields
    equal(
        [(f.number, f.name, f.has_presence) for f in fields],
        [(1, "domain", False), (2, "instance_ids", False), (3, "verified_client_certificate_enabled", True)],
    )
    equal(gateway.method.output_type.fields, [])


def health_serves_every_name_that_it_knows(gateway, cloud):
    health = health_pb2_grpc.HealthStub(gateway.channel)
    for name in ["", SERVICE, "liveness", "readiness"]:
        answer = health.Check(health_pb2.HealthCheckRequest(service=name), timeout=TIMEOUT)
        equal((name, answer.status), (name, health_pb2.HealthCheckResponse.SERVING))


def health_of_an_unknown_service_is_not_found(gateway, cloud):
    health = health_pb2_grpc.HealthStub(gateway.channel)
    try:
        answer = health.Check(health_pb2.HealthCheckRequest(service="nobody"), timeout=TIMEOUT)
    except grpc.RpcError as refusal:
        return equal(refusal.code(), Code.NOT_FOUND)
    raise AssertionError(f"answered {answer}")


# Success


def the_documented_example_is_bound_in_the_cloud(gateway, cloud):
    equal(gateway.attach(EXAMPLE).code, Code.OK)
    bound = cloud.bindings(CERTIFICATE)
    assert {(DOMAIN, instance) for instance in INSTANCES} <= set(bound), bound


def the_callers_request_id_is_kept_and_the_clouds_returned(gateway, cloud):
    for domains, code in [(EXAMPLE, Code.OK), ([{"domain": "no-dots-in-it"}], Code.INVALID_ARGUMENT)]:
        answer = gateway.attach(domains, metadata=[("x-request-id", "interop-7.a/b=c")])
        equal((answer.code, answer.metadata["x-request-id"]), (code, "interop-7.a/b=c"))
        assert answer.metadata["apig-request-id"] not in ("", "interop-7.a/b=c"), answer.metadata


def a_request_id_that_is_missing_or_odd_is_made_anew(gateway, cloud):
    for metadata in [(), [("x-request-id", "two words")], [("x-request-id", "x" * 129)]]:
        made = gateway.attach(EXAMPLE, metadata=metadata).metadata["x-request-id"]
        equal(uuid.UUID(made).version, 7)


def verification_of_clients_is_told_apart_when_absent_false_and_true(gateway, cloud):
    place = ("www.example.com", INSTANCES[0])
    # Absent, the cloud decides; this certificate has a root CA, so it switches verification on.
    for asked, bound in [(False, False), (None, True), (False, False), (True, True)]:
        entry = {"domain": place[0], "instance_ids": [place[1]], "verified_client_certificate_enabled": asked}
        equal(gateway.attach([entry], certificate_id=CERTIFICATE_WITH_CA).code, Code.OK)
        equal(cloud.bindings(CERTIFICATE_WITH_CA)[place]["verified_client_certificate_enabled"], bound)


def without_instances_every_instance_of_the_domain_is_bound(gateway, cloud):
    equal(gateway.attach([{"domain": "www.example.com"}], certificate_id=CERTIFICATE_WITH_CA).code, Code.OK)
    bound = cloud.bindings(CERTIFICATE_WITH_CA)
    equal({instance for domain, instance in bound if domain == "www.example.com"}, set(INSTANCES))


# What the gateway refuses


def every_violation_is_named_by_its_path(gateway, cloud):
    answer = gateway.attach(
        [{"domain": "good.example.com", "instance_ids": ["good", ".."]}, {"domain": ""}, {"domain": "white space"},
         {"domain": "x" * 254}],
        project_id="a/b",
        certificate_id="",
    )
    refused_by_gateway(answer, Code.INVALID_ARGUMENT, "INVALID_REQUEST", ["BadRequest"])
    equal(sorted(answer.violations), [
        "certificate_id", "domains[0].instance_ids[1]", "domains[1].domain", "domains[2].domain", "domains[3].domain",
        "project_id",
    ])
    equal(answer.info.metadata["outcome"], "not_sent")


def a_request_without_project_and_domains_is_refused(gateway, cloud):
    answer = gateway.attach([], project_id="")
    refused_by_gateway(answer, Code.INVALID_ARGUMENT, "INVALID_REQUEST", ["BadRequest"])
    equal(sorted(answer.violations), ["domains", "project_id"])


def a_thousand_violations_still_fit_into_the_headers_of_an_answer(gateway, cloud):
    answer = gateway.attach([{"domain": "white space"}] * 1000)
    refused_by_gateway(answer, Code.INVALID_ARGUMENT, "INVALID_REQUEST", ["BadRequest"])
    equal(answer.info.metadata["violations"], "1000")


def a_call_without_a_token_is_unauthenticated(gateway, cloud):
    refused_by_gateway(gateway.attach(EXAMPLE, token=None), Code.UNAUTHENTICATED, "TOKEN_MISSING")


def an_unknown_method_is_unimplemented(gateway, cloud):
    for method in [f"{SERVICE}/DetachEverything", "nobody.v1.Nothing/Do"]:
        equal(gateway.send(gateway.Request(), method=method).code, Code.UNIMPLEMENTED)


def a_deadline_that_is_too_short_is_exceeded(gateway, cloud):
    # The message is held back until then: a call on loopback is over before the shortest deadline that clients send.
    call = gateway.channel.stream_unary(f"/{SERVICE}/AttachDomains", response_deserializer=bytes)
    past = threading.Event()
    try:
        answer = call((past.wait(TIMEOUT) for _ in range(1)), timeout=0.2, metadata=[("x-auth-token", TOKEN)])
    except grpc.RpcError as refusal:
        return equal(refusal.code(), Code.DEADLINE_EXCEEDED)
    finally:
        past.set()
    raise AssertionError(f"answered {answer}")


def message_of_size(gateway, size):
    """The wrong domain fills the message up, so that whoever reads it must answer INVALID_ARGUMENT."""
    request = gateway.Request(domains=[{"domain": "x" * size}])
    request.domains[0].domain = "x" * (2 * size - request.ByteSize())
    equal(request.ByteSize(), size)
    return request


def a_message_is_read_up_to_4_mib_and_no_further(gateway, cloud):
    equal(gateway.send(message_of_size(gateway, MAX_MESSAGE_SIZE)).code, Code.INVALID_ARGUMENT)
    for size in [MAX_MESSAGE_SIZE + 1, 2 * MAX_MESSAGE_SIZE]:
        answer = gateway.send(message_of_size(gateway, size))
        refused_by_gateway(answer, Code.RESOURCE_EXHAUSTED, "INVALID_REQUEST")


def a_message_that_unpacks_to_more_than_4_mib_is_refused(gateway, cloud):
    answer = gateway.send(message_of_size(gateway, 2 * MAX_MESSAGE_SIZE), compression=grpc.Compression.Gzip)
    refused_by_gateway(answer, Code.RESOURCE_EXHAUSTED, "INVALID_REQUEST")


def gzip_is_accepted_and_an_unknown_compression_unimplemented(gateway, cloud):
    # Padding by repetition: clients send a message as it is when packing does not make it smaller.
    packed = [{"domain": DOMAIN, "instance_ids": INSTANCES * 50}]
    equal(gateway.attach(packed, compression=grpc.Compression.Gzip).code, Code.OK)
    equal(gateway.attach(packed, compression=grpc.Compression.Deflate).code, Code.UNIMPLEMENTED)


# What the cloud refuses


def apig_2012_a_domain_name_of_a_wrong_form(gateway, cloud):
    answer = gateway.attach([{"domain": "no-dots-in-it", "instance_ids": INSTANCES}])
    refused_by_cloud(answer, Code.INVALID_ARGUMENT, "APIG.2012", 400, ["BadRequest"])
    equal(answer.message, "Invalid parameter value,parameterName:domain_id. Please refer to the support documentation")
    equal(answer.violations, ["domain_id"])


def apig_2011_a_parameter_that_is_a_field_is_named_by_its_path(gateway, cloud):
    answer = gateway.attach([{**EXAMPLE[0], "verified_client_certificate_enabled": True}])
    refused_by_cloud(answer, Code.INVALID_ARGUMENT, "APIG.2011", 400, ["BadRequest"])
    equal(answer.violations, ["domains[0].verified_client_certificate_enabled"])


def apig_1002_a_token_that_the_cloud_does_not_know(gateway, cloud):
    refused_by_cloud(gateway.attach(EXAMPLE, token="stale-token"), Code.UNAUTHENTICATED, "APIG.1002", 401)


def a_token_of_30_kib_reaches_the_cloud(gateway, cloud):
    answer = gateway.attach(EXAMPLE, token="x" * 30 * 1024)
    refused_by_cloud(answer, Code.UNAUTHENTICATED, "APIG.1002", 401)


def apig_1005_a_user_who_may_not_attach(gateway, cloud):
    refused_by_cloud(gateway.attach(EXAMPLE, token=AUDITORS_TOKEN), Code.PERMISSION_DENIED, "APIG.1005", 403)


def apig_3020_a_domain_that_does_not_exist(gateway, cloud):
    answer = gateway.attach([{"domain": "nobody.example.com", "instance_ids": INSTANCES}])
    refused_by_cloud(answer, Code.NOT_FOUND, "APIG.3020", 404, ["ResourceInfo"])
    resource = answer.details["ResourceInfo"]
    equal((resource.resource_type, resource.resource_name), ("domain", "nobody.example.com"))
    equal(resource.owner, f"projects/{PROJECT}")


def apig_3025_a_certificate_that_does_not_exist(gateway, cloud):
    answer = gateway.attach(EXAMPLE, certificate_id="nobodys")
    refused_by_cloud(answer, Code.NOT_FOUND, "APIG.3025", 404, ["ResourceInfo"])
    resource = answer.details["ResourceInfo"]
    equal((resource.resource_type, resource.resource_name), ("certificate", "nobodys"))


def apig_3030_an_instance_that_does_not_exist(gateway, cloud):
    answer = gateway.attach([{"domain": DOMAIN, "instance_ids": [INSTANCES[0], "nobodys"]}])
    refused_by_cloud(answer, Code.NOT_FOUND, "APIG.3030", 404, ["ResourceInfo"])
    resource = answer.details["ResourceInfo"]
    equal((resource.resource_type, resource.resource_name), ("instance", "nobodys"))


def apig_2051_a_domain_that_has_another_certificate(gateway, cloud):
    equal(gateway.attach(EXAMPLE).code, Code.OK)
    answer = gateway.attach(EXAMPLE, certificate_id=CERTIFICATE_WITH_CA)
    refused_by_cloud(answer, Code.FAILED_PRECONDITION, "APIG.2051", 400, ["PreconditionFailure"])
    [violation] = answer.details["PreconditionFailure"].violations
    equal(violation.type, "DOMAIN_HAS_OTHER_CERTIFICATE")
    equal(violation.subject, f"certificates/{CERTIFICATE_WITH_CA}")
    assert violation.description, "the violation has no description"


def apig_0308_too_many_requests(gateway, cloud):
    answer = gateway.attach(EXAMPLE, certificate_id=CERTIFICATE_THROTTLED)
    refused_by_cloud(answer, Code.RESOURCE_EXHAUSTED, "APIG.0308", 429, ["RetryInfo", "QuotaFailure"])
    equal(answer.details["RetryInfo"].retry_delay.ToMilliseconds(), 2000)
    equal(answer.metadata["grpc-retry-pushback-ms"], "2000")
    [violation] = answer.details["QuotaFailure"].violations
    assert violation.subject and violation.description, violation


def apig_9999_a_fault_leaves_the_outcome_unknown(gateway, cloud):
    answer = gateway.attach(EXAMPLE, certificate_id=CERTIFICATE_FAULTY)
    refused_by_cloud(answer, Code.INTERNAL, "APIG.9999", 500)
    equal((answer.message, answer.info.metadata["outcome"]), ("System error.", "unknown"))


def a_504_leaves_the_outcome_unknown_and_this_one_was_done(gateway, cloud):
    certificate, place = CERTIFICATE_DONE_BUT_TIMES_OUT, ("api.example.com", INSTANCES[0])
    answer = gateway.attach([{"domain": place[0], "instance_ids": [place[1]]}], certificate_id=certificate)
    refused_by_cloud(answer, Code.DEADLINE_EXCEEDED, "APIG.0201", 504)
    equal(answer.info.metadata["outcome"], "unknown")
    equal(set(cloud.bindings(certificate)), {place})


def main(gateway_address, cloud_url):
    gateway, cloud = Gateway(gateway_address), Cloud(cloud_url)
    failed = 0
    for name, check in list(globals().items()):
        if not inspect.isfunction(check) or list(inspect.signature(check).parameters) != ["gateway", "cloud"]:
            continue
        title = "python: " + name.replace("_", " ")
        try:
            check(gateway, cloud)
            print(f"ok - {title}", flush=True)
        except Exception:
            failed += 1
            print(f"FAILED - {title}", flush=True)
            traceback.print_exc()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
