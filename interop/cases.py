"""Calls of every method, the answers of the cloud to them, and the differences between our requests and the vendor's."""

import json
from dataclasses import dataclass, field
from types import SimpleNamespace

PROJECT = "73d69ae0cfcf460190522d06b60f05ad"
CERTIFICATE = "a27be832f2e9441c8127fe48e3b5ac67"
INSTANCES = ["f0fa1789-3b76-433b-a787-9892951c620e", "7d39549681c54d968ec2910da9da95cd"]
GROUP, DOMAIN_ID = "c77f5e81d9cb4424bf704ef2b0ac7600", "2c9eb1538a138432018a13ccccc00001"

# Every character that an id may have beside letters and digits.
STRANGE_ID = "-a.Z_0~"
# All that has a meaning in URLs and JSON, one to four bytes long in UTF-8.
STRANGE_TEXT = "a b+c%2Fd%&e=f/g?h#i;j:@,$[]{}|^`<>*~-._'()!\"\\\t\n\x7fé证书\u2028😀"
STRANGE_DOMAINS = ["*.example.com", "bücher.example", "a+b%2F%&c/d?e#f\"g\\h😀"]
UNSAFE_IDS = ["a b", "a+b", "a%2Fb", "a&b", "a/b", "é", "*.example.com", "..", "", "a" * 129]

PEM = "-----BEGIN CERTIFICATE-----\nMIIB+zCC/aE=\nAAAA\n-----END CERTIFICATE-----\n"
PEM_OF_WINDOWS = "Subject: \"é\"\tC:\\x\r\n" + PEM.replace("\n", "\r\n")
KEY = "-----BEGIN PRIVATE KEY-----\nMIGH+/==\n-----END PRIVATE KEY-----\n"


@dataclass
class Difference:
    """A request of ours that is not as the vendor's SDK writes it; `change` makes ours of the SDK's."""

    reason: str
    change: object


def without_empty(request):
    request.query = [(name, value) for name, value in request.query if value != ""]
    request.json = _without_empty(request.json)


def _without_empty(value):
    if isinstance(value, dict):
        return {name: _without_empty(inner) for name, inner in value.items() if inner not in ("", [])}
    return [_without_empty(inner) for inner in value] if isinstance(value, list) else value


def without_content_type(request):
    if request.json is None:
        request.content_type = ""


EMPTY = Difference(
    "an empty instance_ids is left out; and of the fields of a request only numbers and booleans have presence, so that an"
    " empty string is no value. The SDK sends both",
    without_empty,
)
NO_BODY = Difference(
    "a request without a body has no type of it (RFC 9110, 8.3). The SDK sends application/json",
    without_content_type,
)

@dataclass
class Case:
    title: str
    fields: dict
    differences: list = field(default_factory=list)


@dataclass
class Refusal:
    """A call that the SDK sends and that the gateway refuses: the fields at fault."""

    title: str
    fields: dict
    violations: list


def comparison(recorded):
    """The parts of a request that are compared; the query is encoded as it was sent."""
    pairs = [tuple(pair.split("=", 1)) for pair in recorded.query.split("&")] if recorded.query else []
    return SimpleNamespace(
        verb=recorded.verb, path=recorded.path, query=pairs, content_type=recorded.content_type,
        json=json.loads(recorded.body) if recorded.body else None,
    )


# Requests

BINDINGS = [
    Case("all fields", {"certificate_id": CERTIFICATE, "domains": [
        {"domain": "www.example.com", "instance_ids": INSTANCES, "verified_client_certificate_enabled": True},
        {"domain": "apigtest.xxx.com", "instance_ids": INSTANCES[:1], "verified_client_certificate_enabled": False},
    ]}),
    Case("required fields only", {"certificate_id": CERTIFICATE, "domains": [{"domain": "www.example.com"}]}),
    Case("a domain twice", {"certificate_id": CERTIFICATE, "domains": [{"domain": "www.example.com"}] * 2}),
    Case("false and empty", {"certificate_id": CERTIFICATE, "domains": [
        {"domain": "www.example.com", "instance_ids": [], "verified_client_certificate_enabled": False},
    ]}, [EMPTY]),
    Case("strange characters", {"certificate_id": STRANGE_ID, "domains": [
        {"domain": domain, "instance_ids": [STRANGE_ID]} for domain in STRANGE_DOMAINS
    ]}),
]

PAGE = {"offset": 20, "limit": 100}
BIG_PAGE = {"offset": 2**53 + 1, "limit": 500}
FORM = {"name": "cert_demo", "cert_content": PEM, "private_key": KEY}
OPTIONAL_FORM = {
    "type": "instance", "instance_id": INSTANCES[0], "trusted_root_ca": PEM, "algorithm_type": "SM2",
    "cert_content_sign": PEM, "private_key_sign": KEY,
}
FORMS = [
    Case("all fields", {**FORM, **OPTIONAL_FORM}),
    Case("required fields only", FORM),
    Case("values that are not known", {**FORM, "type": "any", "algorithm_type": "ANY"}),
    Case("empty text", {**FORM, **dict.fromkeys(OPTIONAL_FORM, "")}, [EMPTY]),
    Case("strange characters", {
        "name": STRANGE_TEXT, "cert_content": PEM_OF_WINDOWS, "private_key": KEY.replace("\n", "\r\n"),
        "instance_id": STRANGE_ID, "trusted_root_ca": PEM_OF_WINDOWS, "private_key_sign": STRANGE_TEXT,
    }),
]
FILTERS = ["name", "common_name", "signature_algorithm", "type", "algorithm_type"]
OF_A_DOMAIN = {"instance_id": INSTANCES[0], "group_id": GROUP, "domain_id": DOMAIN_ID}
BINDINGS_OF_A_DOMAIN = [
    Case("all fields", {**OF_A_DOMAIN, "certificate_ids": [CERTIFICATE], "verified_client_certificate_enabled": True}),
    Case("required fields only", {**OF_A_DOMAIN, "certificate_ids": [CERTIFICATE]}),
    Case("false, and two certificates", {
        **OF_A_DOMAIN, "certificate_ids": [CERTIFICATE, "b"], "verified_client_certificate_enabled": False,
    }),
    Case("strange characters", {**dict.fromkeys(OF_A_DOMAIN, STRANGE_ID), "certificate_ids": [STRANGE_ID]}),
]
ONE = [
    Case("all fields", {"certificate_id": CERTIFICATE}),
    Case("strange characters", {"certificate_id": STRANGE_ID}),
]

CASES = {
    "AttachDomains": BINDINGS,
    "DetachDomains": BINDINGS,
    "ListAttachedDomains": [
        Case("all fields", {"certificate_id": CERTIFICATE, **PAGE, "url_domain": "www.example.com"}),
        Case("required fields only", {"certificate_id": CERTIFICATE}),
        Case("zero and empty", {"certificate_id": CERTIFICATE, "offset": 0, "limit": 1, "url_domain": ""}, [EMPTY]),
        Case("strange characters", {"certificate_id": STRANGE_ID, **BIG_PAGE, "url_domain": STRANGE_TEXT}),
        Case("a wildcard", {"certificate_id": CERTIFICATE, "url_domain": STRANGE_DOMAINS[0]}),
    ],
    "ListCertificates": [
        Case("all fields", {
            "instance_id": INSTANCES[0], **PAGE, "name": "cert_demo", "common_name": "www.example.com",
            "signature_algorithm": "SHA256-RSA", "type": "instance", "algorithm_type": "RSA",
        }),
        Case("required fields only", {"instance_id": INSTANCES[0]}),
        Case("zero and empty", {
            "instance_id": INSTANCES[0], "offset": 0, "limit": 1, **dict.fromkeys(FILTERS, ""),
        }, [EMPTY]),
        Case("strange characters", {"instance_id": STRANGE_ID, **BIG_PAGE, **dict.fromkeys(FILTERS, STRANGE_TEXT)}),
        Case("a wildcard", {"instance_id": INSTANCES[0], "common_name": STRANGE_DOMAINS[0]}),
    ],
    "GetCertificate": ONE,
    "CreateCertificate": FORMS,
    "UpdateCertificate": [
        Case(case.title, {"certificate_id": CERTIFICATE, **case.fields}, case.differences) for case in FORMS
    ],
    "DeleteCertificate": ONE,
    "AttachCertificates": BINDINGS_OF_A_DOMAIN,
    "DetachCertificates": BINDINGS_OF_A_DOMAIN,
}

# Fields that hold ids, in every method; ids in lists are among the refusals below.
IDS = ["project_id", "certificate_id", "instance_id", "group_id", "domain_id"]

NO_DOMAIN = [
    Refusal("no domains", {"certificate_id": CERTIFICATE, "domains": []}, ["domains"]),
    Refusal("domains that are none", {"certificate_id": CERTIFICATE, "domains": [
        {"domain": domain, "instance_ids": ["a/b"]} for domain in ["", "a b", "a\n", "a" * 254]
    ]}, [f"domains[{at}].{name}" for at in range(4) for name in ["domain", "instance_ids[0]"]]),
]
NO_PAGE = [
    Refusal(f"offset {offset}, limit {limit}", {**target, "offset": offset, "limit": limit}, violations)
    for target in [{"certificate_id": CERTIFICATE}, {"instance_id": INSTANCES[0]}]
    for offset, limit, violations in [(-1, 0, ["offset", "limit"]), (0, -1, ["limit"]), (0, 501, ["limit"])]
]
NO_FORM = [
    Refusal("no content", dict.fromkeys(FORM, ""), list(FORM)),
    Refusal("no instance", {**FORM, "type": "instance"}, ["instance_id"]),
]
NO_CERTIFICATES = [
    Refusal("no certificates", {**OF_A_DOMAIN, "certificate_ids": []}, ["certificate_ids"]),
    Refusal("certificates that are none", {**OF_A_DOMAIN, "certificate_ids": ["a", "..", "a/b"]},
            ["certificate_ids[1]", "certificate_ids[2]"]),
]
REFUSALS = {
    "AttachDomains": NO_DOMAIN,
    "DetachDomains": NO_DOMAIN,
    "ListAttachedDomains": NO_PAGE[:3],
    "ListCertificates": NO_PAGE[3:],
    "GetCertificate": [],
    "CreateCertificate": NO_FORM,
    "UpdateCertificate": [
        Refusal(refusal.title, {"certificate_id": CERTIFICATE, **refusal.fields}, refusal.violations)
        for refusal in NO_FORM
    ],
    "DeleteCertificate": [],
    "AttachCertificates": NO_CERTIFICATES,
    "DetachCertificates": NO_CERTIFICATES,
}

# Answers

LISTED = {
    "id": CERTIFICATE, "name": "cert_证书", "type": "instance", "instance_id": INSTANCES[0], "project_id": PROJECT,
    "common_name": "*.example.com", "san": ["*.example.com", "example.com"], "not_after": "2031-08-16T06:36:13Z",
    "signature_algorithm": "SHA256-RSA", "create_time": "2021-08-26T07:27:06.304004Z",
    "update_time": "2021-08-26T07:27:06.304004123Z", "is_has_trusted_root_ca": False, "algorithm_type": "RSA",
}
CERTIFICATE_ANSWER = {
    **LISTED, "version": 3, "organization": ["O"], "organizational_unit": ["OU", "é"], "locality": ["L"],
    "state": ["ST"], "country": ["CN"], "not_before": "2021-08-18T06:36:13Z", "serial_number": "13010",
    "issuer": ["CA"],
}
ROW = {
    "url_domain": "www.example.com", "id": DOMAIN_ID, "status": 3, "min_ssl_version": "TLSv1.2",
    "is_http_redirect_to_https": False, "verified_client_certificate_enabled": True, "ssl_id": CERTIFICATE,
    "ssl_name": "cert_证书", "api_group_id": GROUP, "api_group_name": "group", "instance_id": INSTANCES[0],
}
PORTS = {"ingress_http_port": -1, "ingress_https_port": 49151}


def answer(method, family):
    """Status and JSON of a success, with every field that the SDK of the family knows; another row with few of them."""
    row = {**ROW, **PORTS} if family == "apigw" else ROW
    short_row = {"url_domain": "*.example.com", "id": "d", "status": 1, "min_ssl_version": "TLSv1.1", "ssl_id": None}
    short = {"id": "c", "name": "", "type": "global", "instance_id": "common", "san": [], "is_has_trusted_root_ca": None}
    return {
        "ListAttachedDomains": (200, {"size": 2, "total": 2**40, "bound_domains": [row, short_row]}),
        "ListCertificates": (200, {"size": 2, "total": 2, "certs": [LISTED, short]}),
        "GetCertificate": (200, CERTIFICATE_ANSWER),
        "CreateCertificate": (200, CERTIFICATE_ANSWER),
        "UpdateCertificate": (200, CERTIFICATE_ANSWER),
    }.get(method, (204, None))
