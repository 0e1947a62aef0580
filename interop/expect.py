"""Expectations of a case, and the differences between them and an answer."""

import csv
import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

CATALOGUE = Path(__file__).parent.parent / "data/error-codes.tsv"
GATEWAY_DOMAIN, CLOUD_DOMAIN = "apig-grpc-gateway", "apig.huaweicloud.com"
# A request id of the cloud's, in every scripted answer.
CLOUD_ID = "cloud-7f3a9b"


@dataclass(frozen=True)
class Matching:
    """Text that a pattern describes as a whole."""

    pattern: str

    def __repr__(self):
        return f"text that matches {self.pattern!r}"


@dataclass(frozen=True)
class OneOf:
    """Any of several values."""

    values: tuple

    def __repr__(self):
        return " or ".join(map(repr, self.values))


# Some text.
TEXT = Matching(r"(?s).+")
UUID_V7 = Matching(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


@dataclass(frozen=True)
class Expected:
    """What a client sees. `details` are all that there are, by type; `metadata` is a part of headers and trailers, with
    `None` for a key that must be absent; fields that are `None` are not compared."""

    code: object = "OK"
    message: object = None
    details: dict | None = None
    response: object = None
    metadata: dict = field(default_factory=dict)
    statuses: object = None
    services: object = None


def ok(response=None, **metadata):
    return Expected("OK", "", {}, {} if response is None else response, {"x-request-id": TEXT, **dashed(metadata)})


def dashed(metadata):
    return {name.replace("_", "-"): value for name, value in metadata.items()}


def of_gateway(code, reason, details=(), message=TEXT, **metadata):
    """An error of the gateway's own; `metadata` is a part of that of ErrorInfo."""
    return Expected(
        code, message, {"ErrorInfo": {"reason": reason, "domain": GATEWAY_DOMAIN, "metadata": Part(metadata)}, **dict(details)},
        metadata={"x-request-id": TEXT, "apig-request-id": None},
    )


def of_cloud(code, error_code, http_status, details=(), message=TEXT, request_id=CLOUD_ID, pushback=None, **metadata):
    """An error of the cloud. `metadata` is the rest of ErrorInfo's, beside that which every such error has."""
    reason = re.sub("[.-]", "_", error_code) if error_code else f"HTTP_{http_status}"
    info = {"http_status": str(http_status), "request_id": request_id, **metadata}
    if error_code:
        rows = catalogue()
        row = rows.get((error_code, str(http_status))) or rows[error_code, "*"]
        info = {"error_code": error_code, "advice": row["advice"], "plane": row["plane"], **info}
    return Expected(code, message, {
        "ErrorInfo": {"reason": reason, "domain": CLOUD_DOMAIN, "metadata": info},
        "RequestInfo": {"requestId": request_id},
        "Help": {"links": [{"description": TEXT, "url": Matching("https://.+")}]},
        **dict(details),
    }, metadata={"x-request-id": TEXT, "apig-request-id": request_id, "grpc-retry-pushback-ms": pushback})


@cache
def catalogue():
    with CATALOGUE.open() as file:
        rows = csv.DictReader((line for line in file if not line.startswith("#")), delimiter="\t", quoting=csv.QUOTE_NONE)
        return {(row["code"], row["status"]): row for row in rows}


class Part(dict):
    """Members that must be there, beside others."""


def differences(expected, answer):
    """Pairs of a field and what differs in it."""
    metadata = {}
    for key, value in [*(answer.get("headers") or ()), *(answer.get("trailers") or ())]:
        metadata.setdefault(key.lower(), value)
    seen = {
        "code": answer.get("code"), "message": answer.get("message"), "response": answer.get("response"),
        "statuses": answer.get("statuses"), "services": answer.get("services"),
    }
    for name, value in seen.items():
        wanted = getattr(expected, name)
        if wanted is not None:
            yield from compare(name, wanted, value)
    if expected.details is not None:
        yield from compare("details", expected.details, details_by_type(answer.get("details") or []))
    yield from compare("metadata", Part(expected.metadata), metadata)


def details_by_type(details):
    by_type = {}
    for detail in details:
        detail = dict(detail)
        name = detail.pop("@type", "no @type").removeprefix("type.googleapis.com/google.rpc.")
        by_type[f"{name}, once more" if name in by_type else name] = detail
    return by_type


def compare(path, expected, seen):
    if isinstance(expected, OneOf):
        found = [list(compare(path, value, seen)) for value in expected.values]
        yield from [] if [] in found else min(found, key=len)
    elif isinstance(expected, Matching):
        if not isinstance(seen, str) or not re.fullmatch(expected.pattern, seen):
            yield path, expected, seen
    elif isinstance(expected, set):
        missing = expected - set(seen or ())
        if missing:
            yield path, f"also {sorted(missing)}", seen
    elif isinstance(expected, dict) and isinstance(seen, dict):
        unexpected = [] if isinstance(expected, Part) else seen.keys() - expected.keys()
        for name in [*expected, *sorted(unexpected)]:
            yield from compare(f"{path}.{name}", expected.get(name), seen.get(name))
    elif isinstance(expected, list) and isinstance(seen, list) and len(expected) == len(seen):
        for at, (one, other) in enumerate(zip(expected, seen)):
            yield from compare(f"{path}[{at}]", one, other)
    elif expected != seen or isinstance(expected, bool) != isinstance(seen, bool):
        yield path, expected, seen


def shown(value):
    """A value of a difference; large ones by their ends."""
    text = repr(value)
    return text if len(text) <= 4_000 else f"{text[:200]} … {text[-200:]} ({len(text)} characters)"
