"""A sample of the catalogue of the cloud's errors, with every type of detail; and errors of the gateway's own."""

from case import Case
from expect import CLOUD_ID, Matching, Part, compare, of_cloud, of_gateway
from gateway import CERTIFICATE, DOMAIN, PROJECT
from rows.seed import attach, bad_request, precondition, quota, resource, retry
from scripted_cloud import CUT, Answer

ID = {"x-request-id": CLOUD_ID}


def error(status, error_code, text, **headers):
    """A response of the cloud with an error."""
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, {"error_code": error_code, "error_msg": text, "request_id": CLOUD_ID}, {**ID, **headers})


def case(name, answer, expected, **options):
    return Case(name, [attach(expected, **options)], script=[answer], requests=1)


def row(code, status, error_code, text, details=(), retry_after=None, message=None, **expected):
    answer = error(status, error_code, text, **({"retry_after": retry_after} if retry_after else {}))
    title = f"{error_code} under {status}: {code}" + "".join(f", {name}" for name in dict(details))
    return case(title, answer, of_cloud(code, error_code, status, details, message or text, **expected))


def page_of_somebody():
    return Answer(200, b"<html>Please log in</html>", {"content-type": "text/html"})


def connection_lost(stage):
    yield from compare("path", f"/v2/{PROJECT}/apic/certificates/{CERTIFICATE}/domains/attach",
                       stage.scripted.requests[0].path)


CASES = [
    row("INVALID_ARGUMENT", 400, "APIG.2012", "Invalid parameter value,parameterName:certificate_id",
        bad_request("certificate_id")),
    row("NOT_FOUND", 404, "APIG.3021", "The certificate does not exist", resource("certificate", CERTIFICATE)),
    row("ALREADY_EXISTS", 400, "APIG.2050", "The domain is bound on this port", resource("domain", DOMAIN)),
    row("PERMISSION_DENIED", 401, "APIG.1005", "No permissions to request this method"),
    row("PERMISSION_DENIED", 403, "APIG.1005", "No permissions to request this method"),
    row("FAILED_PRECONDITION", 400, "APIG.2103", "The certificate does not match the domain",
        precondition("CERTIFICATE_NAME_MISMATCH", f"certificates/{CERTIFICATE}")),
    row("ABORTED", 409, "APIG.3500", "Another change is in progress", retry("3s"), retry_after="3", pushback="3000"),
    row("RESOURCE_EXHAUSTED", 429, "APIG.0308",
        "The throttling threshold has been reached: policy user over ratelimit,limit:5,time:1 minute",
        {**retry("7s"), **quota("requests:user")}, retry_after="7", pushback="7000",
        quota_limit="5", quota_policy="user", quota_window="60s"),
    row("RESOURCE_EXHAUSTED", 400, "APIC.7402", "Too many tags", quota("tags-per-instance")),
    row("UNIMPLEMENTED", 404, "APIG.0101", "The API does not exist"),
    row("INTERNAL", 500, "APIG.9999", "System error.", outcome="unknown"),
    case("503 without an error code: UNAVAILABLE, RetryInfo", Answer(503, headers={**ID, "retry-after": "2"}),
         of_cloud("UNAVAILABLE", "", 503, retry("2s"), pushback="2000")),
    case("502 with a page in HTML: UNAVAILABLE, the outcome is unknown",
         Answer(502, b"<html>Bad Gateway</html>", {**ID, "content-type": "text/html"}),
         of_cloud("UNAVAILABLE", "", 502, outcome="unknown", pushback="-1")),
    case("an error message of 2,000 bytes is cut at 1,024", error(400, "APIG.2011", "é" * 1_000),
         of_cloud("INVALID_ARGUMENT", "APIG.2011", 400, message=Matching("é{510,511}…"))),
    # Errors of the gateway's own.
    case("UPSTREAM_PROTOCOL_ERROR: 200 with a login page", page_of_somebody(),
         of_gateway("INTERNAL", "UPSTREAM_PROTOCOL_ERROR", http_status="200", outcome="unknown")),
    case("UPSTREAM_REDIRECT: a redirect is not followed", Answer(302, headers={"location": "http://127.0.0.1:9/"}),
         of_gateway("INTERNAL", "UPSTREAM_REDIRECT")),
    Case("UPSTREAM_CONNECTION_LOST: the outcome is unknown",
         [attach(of_gateway("UNAVAILABLE", "UPSTREAM_CONNECTION_LOST", outcome="unknown"))],
         script=[CUT], then=connection_lost),
    Case("UPSTREAM_UNREACHABLE: nothing was sent",
         [attach(of_gateway("UNAVAILABLE", "UPSTREAM_UNREACHABLE", {"RetryInfo": Part()}, outcome="not_sent"))],
         gateway="unreachable"),
]
