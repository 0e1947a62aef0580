"""The vendor's SDKs, called by the names of the .proto: of its methods, and of the fields of their requests."""

import re
from urllib.parse import parse_qsl

import huaweicloudsdkapig.v2 as apig
import huaweicloudsdkroma.v2 as roma
from google.protobuf.timestamp_pb2 import Timestamp
from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkcore.sdk_request import SdkRequest
from huaweicloudsdkcore.signer.signer import Signer

FAMILIES = {"apic": (roma, roma.RomaClient), "apigw": (apig, apig.ApigClient)}

METHODS = {
    "AttachDomains": "BatchAssociateDomainsV2",
    "DetachDomains": "BatchDisassociateDomainsV2",
    "ListAttachedDomains": "ListAttachedDomainsV2",
    "ListCertificates": "ListCertificatesV2",
    "GetCertificate": "ShowDetailsOfCertificateV2",
    "CreateCertificate": "CreateCertificateV2",
    "UpdateCertificate": "UpdateCertificateV2",
    "DeleteCertificate": "DeleteCertificateV2",
    "AttachCertificates": "BatchAssociateCertsV2",
    "DetachCertificates": "BatchDisassociateCertsV2",
}


def token_credentials(token, project):
    """A token in place of a signature, which the SDK does not offer; it takes no other class than its own."""

    def sign_request(request):
        request.header_params["X-Auth-Token"] = token
        Signer.process_request_uri(request)
        return request

    # The SDK asks the machine for keys if it has none.
    credentials = BasicCredentials("-", "-", project)
    credentials.sign_request = sign_request
    return credentials


class Vendor:
    def __init__(self, family, endpoint, credentials):
        self.models, client = FAMILIES[family]
        self.client = client.new_builder().with_credentials(credentials).with_endpoints([endpoint]).build()

    def call(self, method, fields):
        name = METHODS[method]
        function = re.sub(r"(?<!^)(?=[A-Z])", "_", name.removesuffix("V2")).lower() + "_v2"
        return getattr(self.client, function)(self.request(name, fields))

    def request(self, name, fields):
        request = getattr(self.models, f"{name}Request")
        outside = {field: value for field, value in fields.items() if field in request.attribute_map}
        if "body" in request.openapi_types:
            inside = {field: value for field, value in fields.items() if field not in outside}
            outside["body"] = self.model(request.openapi_types["body"], inside)
        else:
            outside = fields
        return request(**outside)

    def model(self, name, value):
        """`value` as the SDK's type of that name: models are made of dicts."""
        listed = re.fullmatch(r"list\[(.*)\]", name)
        if listed:
            return [self.model(listed[1], entry) for entry in value]
        model = getattr(self.models, name, None)
        if model is None:
            return value
        # Raises for a field that the SDK does not have.
        return model(**{field: self.model(model.openapi_types.get(field, ""), entry) for field, entry in value.items()})

    def request_fields(self, method):
        """All fields of a request, with those of messages inside it as `domains.domain`."""
        return self._fields(f"{METHODS[method]}Request", "body")

    def response_fields(self, method):
        return self._fields(f"{METHODS[method]}Response", None)

    def _fields(self, name, flattened):
        fields = set()
        for field, kind in getattr(self.models, name).openapi_types.items():
            inner = re.sub(r"^list\[(.*)\]$", r"\1", kind)
            inside = self._fields(inner, None) if hasattr(self.models, inner) else set()
            if field == flattened:
                fields |= inside
            else:
                fields |= {field, *(f"{field}.{each}" for each in inside)}
        return fields


def plain(model):
    """An answer of the SDK as dicts and lists, without the fields that are not there."""
    if isinstance(model, list):
        return [plain(entry) for entry in model]
    if not hasattr(model, "openapi_types"):
        return model
    values = {field: plain(getattr(model, field)) for field in model.openapi_types}
    return {field: value for field, value in values.items() if value is not None}


def plain_message(message):
    """A message of the gateway in the same form, with times as text."""
    values = {}
    for field, value in message.ListFields():
        if field.message_type is None:
            values[field.name] = list(value) if field.is_repeated else value
        else:
            values[field.name] = [plain_message(entry) for entry in value] if field.is_repeated else plain_message(value)
    if message.DESCRIPTOR.full_name == Timestamp.DESCRIPTOR.full_name:
        return Timestamp(**values).ToJsonString()
    return values


def comparable(answer, descriptor):
    """An answer of the SDK with times in one form, and without the zeros that its message can't tell from no value."""
    values = {}
    for name, value in answer.items():
        field = descriptor.fields_by_name.get(name)
        if field is None:
            values[name] = value
        elif field.message_type is None:
            if field.has_presence or value not in ("", 0, False, []):
                values[name] = value
        elif field.message_type.full_name == Timestamp.DESCRIPTOR.full_name:
            # Text, as long as `dateutil` is not installed.
            time = Timestamp()
            time.FromJsonString(value)
            values[name] = time.ToJsonString()
        elif field.is_repeated and value:
            values[name] = [comparable(entry, field.message_type) for entry in value]
    return values


def signature(credentials, recorded):
    """The `Authorization` that the SDK gives to a request with the headers that were signed."""
    signed = recorded.headers["authorization"].partition("SignedHeaders=")[2].partition(",")[0].split(";")
    request = SdkRequest(
        method=recorded.verb, schema="http", host=recorded.headers["host"], resource_path=recorded.path,
        query_params=parse_qsl(recorded.query, keep_blank_values=True, strict_parsing=bool(recorded.query)),
        header_params={name: recorded.headers[name] for name in signed}, body=recorded.body,
    )
    return Signer(credentials).sign(request).header_params["Authorization"]
