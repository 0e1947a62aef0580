"""The documented errors, of the emulated cloud."""

from case import Case, call
from expect import TEXT, UUID_V7, Expected, Matching, Part, compare, of_cloud, of_gateway, ok
from gateway import (
    AUDITORS_TOKEN, CERTIFICATE, CERTIFICATE_DONE_BUT_TIMES_OUT, CERTIFICATE_FAULTY, CERTIFICATE_THROTTLED,
    CERTIFICATE_WITH_CA, DOMAIN, INSTANCES, PROJECT,
)

EXAMPLE = [{"domain": DOMAIN, "instance_ids": INSTANCES}]
FLAG = "verified_client_certificate_enabled"


def request(certificate_id=CERTIFICATE, domains=EXAMPLE, project_id=PROJECT):
    return {"project_id": project_id, "certificate_id": certificate_id, "domains": domains}


def attach(expected, certificate_id=CERTIFICATE, domains=EXAMPLE, project_id=PROJECT, **options):
    return call("AttachDomains", request(certificate_id, domains, project_id), expected, **options)


def case(name, *calls):
    return Case(name, list(calls), gateway="emulator")


def refused(*arguments, **options):
    return of_cloud(*arguments, request_id=TEXT, **options)


def bound(certificate_id, domain, flags):
    """That exactly these instances have a binding of the domain, with these flags; `None` is any."""
    def then(stage):
        rows = stage.emulator.bindings(certificate_id)
        seen = {instance: row[FLAG] for (name, instance), row in rows.items() if name == domain}
        expected = {instance: seen.get(instance) if flag is None else flag for instance, flag in flags.items()}
        yield from compare("bindings", sorted(expected), sorted(seen))
        yield from compare("bindings", expected, seen)

    return then


def resource(kind, name):
    return {"ResourceInfo": {
        "resourceType": kind, "resourceName": name, "owner": f"projects/{PROJECT}", "description": TEXT,
    }}


def bad_request(*fields):
    return {"BadRequest": {"fieldViolations": [{"field": field, "description": TEXT} for field in fields]}}


def precondition(kind, subject):
    return {"PreconditionFailure": {"violations": [{"type": kind, "subject": subject, "description": TEXT}]}}


def quota(subject):
    return {"QuotaFailure": {"violations": [{"subject": subject, "description": TEXT}]}}


def retry(delay):
    return {"RetryInfo": {"retryDelay": delay}}


def flag_is_told_apart():
    """Absent, the cloud decides; this certificate has a root CA, so it switches verification on."""
    domain, instance = "www.example.com", INSTANCES[0]
    return [
        attach(ok(), CERTIFICATE_WITH_CA, [{"domain": domain, "instance_ids": [instance], **asked}],
               then=bound(CERTIFICATE_WITH_CA, domain, {instance: seen}))
        for asked, seen in [({FLAG: False}, False), ({}, True), ({FLAG: False}, False), ({FLAG: True}, True)]
    ]


ODD_IDS = [[], [("x-request-id", "two words")], [("x-request-id", "x" * 129)]]
KEPT_ID = [("x-request-id", "interop-7.a/b=c")]
KEPT = {"x-request-id": "interop-7.a/b=c", "apig-request-id": Matching("(?!interop).+")}

DONE = (CERTIFICATE_DONE_BUT_TIMES_OUT, [{"domain": "api.example.com", "instance_ids": [INSTANCES[0]]}])
SHOWS_DONE = bound(CERTIFICATE_DONE_BUT_TIMES_OUT, "api.example.com", {INSTANCES[0]: None})

CASES = [
    case("the documented example", attach(ok(apig_request_id=TEXT), then=bound(CERTIFICATE, DOMAIN, dict.fromkeys(INSTANCES)))),
    case("the caller's request id is kept, and the cloud's returned",
         attach(Expected("OK", "", metadata=KEPT), metadata=KEPT_ID),
         attach(Expected("INVALID_ARGUMENT", metadata=KEPT), domains=[{"domain": "no-dots-in-it"}], metadata=KEPT_ID)),
    case("a request id that is missing or odd is made anew",
         *[attach(ok(x_request_id=UUID_V7), metadata=odd) for odd in ODD_IDS]),
    case("an optional flag is told apart when absent, false and true", *flag_is_told_apart()),
    case("without instances every instance of the domain is bound",
         attach(ok(), CERTIFICATE_WITH_CA, [{"domain": "www.example.com"}],
                then=bound(CERTIFICATE_WITH_CA, "www.example.com", dict.fromkeys(INSTANCES)))),
    case("BadRequest names every field that the gateway refuses", attach(
        of_gateway("INVALID_ARGUMENT", "INVALID_REQUEST", bad_request(
            "project_id", "certificate_id", "domains[0].instance_ids[1]", "domains[1].domain", "domains[2].domain",
            "domains[3].domain",
        ), outcome="not_sent"),
        "", [{"domain": "good.example.com", "instance_ids": ["good", ".."]}, {"domain": ""}, {"domain": "white space"},
             {"domain": "x" * 254}], "a/b",
    )),
    case("a request without project and domains is refused", attach(
        of_gateway("INVALID_ARGUMENT", "INVALID_REQUEST", bad_request("project_id", "domains"), outcome="not_sent"),
        domains=[], project_id="",
    )),
    case("a thousand violations fit into the headers of an answer", attach(
        of_gateway("INVALID_ARGUMENT", "INVALID_REQUEST", {"BadRequest": Part()}, violations="1000"),
        domains=[{"domain": "white space"}] * 1000,
    )),
    case("a call without a token", attach(of_gateway("UNAUTHENTICATED", "TOKEN_MISSING"), token=None)),
    case("APIG.2012: a domain name of a wrong form", attach(
        refused("INVALID_ARGUMENT", "APIG.2012", 400, bad_request("domain_id"),
                "Invalid parameter value,parameterName:domain_id. Please refer to the support documentation"),
        domains=[{"domain": "no-dots-in-it", "instance_ids": INSTANCES}],
    )),
    case("APIG.2011: a parameter that is a field is named by its path", attach(
        refused("INVALID_ARGUMENT", "APIG.2011", 400, bad_request(f"domains[0].{FLAG}")),
        domains=[{**EXAMPLE[0], FLAG: True}],
    )),
    case("APIG.1002: a token that the cloud does not know",
         attach(refused("UNAUTHENTICATED", "APIG.1002", 401), token="stale-token")),
    case("a token of 30 KiB reaches the cloud",
         attach(refused("UNAUTHENTICATED", "APIG.1002", 401), token="x" * 30 * 1024)),
    case("APIG.1005: a user who may not attach",
         attach(refused("PERMISSION_DENIED", "APIG.1005", 403), token=AUDITORS_TOKEN)),
    case("APIG.3020: a domain that does not exist", attach(
        refused("NOT_FOUND", "APIG.3020", 404, resource("domain", "nobody.example.com")),
        domains=[{"domain": "nobody.example.com", "instance_ids": INSTANCES}],
    )),
    case("APIG.3025: a certificate that does not exist", attach(
        refused("NOT_FOUND", "APIG.3025", 404, resource("certificate", "nobodys")), "nobodys",
    )),
    case("APIG.3030: an instance that does not exist", attach(
        refused("NOT_FOUND", "APIG.3030", 404, resource("instance", "nobodys")),
        domains=[{"domain": DOMAIN, "instance_ids": [INSTANCES[0], "nobodys"]}],
    )),
    case("APIG.2051: a domain that has another certificate", attach(ok()), attach(
        refused("FAILED_PRECONDITION", "APIG.2051", 400,
                precondition("DOMAIN_HAS_OTHER_CERTIFICATE", f"certificates/{CERTIFICATE_WITH_CA}")),
        CERTIFICATE_WITH_CA,
    )),
    case("APIG.0308: too many requests", attach(
        refused("RESOURCE_EXHAUSTED", "APIG.0308", 429, {**retry("2s"), **quota("requests:user")}, pushback="2000",
                quota_limit="100", quota_policy="user", quota_window="60s"),
        CERTIFICATE_THROTTLED,
    )),
    case("APIG.9999: a fault leaves the outcome unknown", attach(
        refused("INTERNAL", "APIG.9999", 500, message="System error.", outcome="unknown"),
        CERTIFICATE_FAULTY,
    )),
    case("APIG.0201: a 504 leaves the outcome unknown, and this change was made", attach(
        refused("DEADLINE_EXCEEDED", "APIG.0201", 504, outcome="unknown"), *DONE, then=SHOWS_DONE,
    )),
    Case("a look-up confirms a change whose outcome is unknown", [attach(ok(apig_outcome="confirmed"), *DONE, then=SHOWS_DONE)],
         gateway="emulator, with look-ups"),
]
