"""Whether the gateway sends to the cloud the requests of the vendor's own SDKs, and reads the same from its answers.

    same_request.py GATEWAY_PROGRAM

Each call is made once with the SDK of ROMA Connect or of the dedicated gateway, and once over gRPC, before a server that
records both. `cases.py` lists the calls, and each difference with its reason; a difference that does not show is a
failure.
"""

import copy
import sys
import traceback
from contextlib import ExitStack

from cases import CASES, IDS, NO_BODY, PROJECT, REFUSALS, UNSAFE_IDS, answer, comparison
from gateway import Gateway, gateway_before
from scripted_cloud import scripted_cloud
from vendor import FAMILIES, METHODS, BasicCredentials, Vendor, comparable, plain, plain_message, signature

ACCESS, SECRET = "SAMEREQUESTKEY000001", "same-request-secret-key"


def equal(name, actual, expected):
    assert actual == expected, f"{name}: {actual!r} instead of {expected!r}"


class Stage:
    """Both clients of one API family, and the cloud that records their requests."""

    def __init__(self, family, cloud, signing, passing):
        self.family, self.cloud, self.gateway, self.passing = family, cloud, Gateway(signing), Gateway(passing)
        self.vendors = {}

    def vendor(self, project=PROJECT):
        """The SDK takes the project with the credentials."""
        if project not in self.vendors:
            self.vendors[project] = Vendor(self.family, self.cloud.url, self.credentials(project))
        return self.vendors[project]

    @staticmethod
    def credentials(project=PROJECT):
        return BasicCredentials(ACCESS, SECRET, project)

    def sent_by_vendor(self, method, fields, project=PROJECT):
        response = self.vendor(project).call(method, fields)
        [recorded] = self.cloud.take()
        return recorded, response

    def sent_by_gateway(self, method, fields, token=None):
        """Signed by the gateway, or else with the caller's token."""
        gateway = self.gateway if token is None else self.passing
        done, response = gateway.call(method, fields, token=token)
        equal("status", (done.code.name, done.message), ("OK", ""))
        [recorded] = self.cloud.take()
        return recorded, response


def same(case, theirs, ours):
    """The same request, but for the differences that the case has, each of which must show."""
    expected, actual = comparison(theirs), comparison(ours)
    for difference in case.differences:
        before = copy.deepcopy(expected)
        difference.change(expected)
        assert expected != before, f"{case.title}: does not differ: {difference.reason}"
    NO_BODY.change(expected)
    for part, value in vars(expected).items():
        equal(f"{case.title}: {part}", getattr(actual, part), value)


def fields_of(descriptor):
    """Names, with those of messages inside as `domains.domain`; but a time is a value."""
    fields = set()
    for field in descriptor.fields:
        fields.add(field.name)
        if field.message_type and not field.message_type.full_name.startswith("google.protobuf."):
            fields |= {f"{field.name}.{each}" for each in fields_of(field.message_type)}
    return fields


def fields_in(value):
    """The same of the fields of a call."""
    fields = set()
    for name, inner in value.items():
        fields.add(name)
        for entry in inner if isinstance(inner, list) else ():
            fields |= {f"{name}.{each}" for each in fields_in(entry)} if isinstance(entry, dict) else set()
    return fields


# The checks of a method


def has_the_fields_of_the_sdk(stage, method):
    descriptor = stage.gateway.input_of(method)
    known = stage.vendor().request_fields(method)
    equal("fields of the .proto", fields_of(descriptor), {"project_id", *known})
    # Otherwise a field could get lost unnoticed.
    equal("fields of the first call", fields_in(CASES[method][0].fields), known)


def sends_the_request_of_the_sdk(stage, method):
    for case in CASES[method]:
        stage.cloud.answers(*answer(method, stage.family))
        theirs, _ = stage.sent_by_vendor(method, case.fields)
        fields = {"project_id": PROJECT, **case.fields}
        ours, _ = stage.sent_by_gateway(method, fields)
        same(case, theirs, ours)
        equal(f"{case.title}: signature", ours.headers["authorization"], signature(stage.credentials(), ours))
        ours, _ = stage.sent_by_gateway(method, case.fields)
        same(case, theirs, ours)
        ours, _ = stage.sent_by_gateway(method, fields, "a-token")
        same(case, theirs, ours)
        equal(f"{case.title}: token", ours.headers["x-auth-token"], "a-token")


def reads_the_answer_as_the_sdk_does(stage, method):
    descriptor = stage.gateway.method.containing_service.methods_by_name[method].output_type
    status, sent = answer(method, stage.family)
    known = stage.vendor().response_fields(method)
    # A call with all fields known to the SDK, so that none can get lost.
    equal("fields of the answer", fields_in(sent or {}), known)
    assert known <= fields_of(descriptor), f"not in the .proto: {known - fields_of(descriptor)}"
    fields = CASES[method][0].fields
    for body in [sent, {}] if sent else [None]:
        stage.cloud.answers(status, body)
        _, theirs = stage.sent_by_vendor(method, fields)
        _, ours = stage.sent_by_gateway(method, fields)
        equal("answer", plain_message(ours), comparable(plain(theirs), descriptor))


def refuses_all_that_could_leave_its_place(stage, method):
    first = {"project_id": PROJECT, **CASES[method][0].fields}
    refusals = [
        ({**first, field: unsafe}, [field])
        for field in IDS if field in first
        for unsafe in UNSAFE_IDS
        if unsafe or not may_be_empty(method, field)
    ]
    refusals += [({"project_id": PROJECT, **refusal.fields}, refusal.violations) for refusal in REFUSALS[method]]
    for fields, violations in refusals:
        done, _ = stage.gateway.call(method, fields, token=None)
        equal(f"code of {fields}", done.code.name, "INVALID_ARGUMENT")
        equal(f"violations of {fields}", done.violations, violations)
        equal(f"requests of {fields}", stage.cloud.take(), [])


def may_be_empty(method, field):
    """The project is the default one then; the other takes part in a body, where an empty field is left out."""
    return field == "project_id" or (field == "instance_id" and method in ("CreateCertificate", "UpdateCertificate"))


def the_sdk_sends_them(stage, method):
    """They are differences, as long as the SDK does not refuse them as well."""
    for refusal in REFUSALS[method]:
        stage.cloud.answers(*answer(method, stage.family))
        stage.sent_by_vendor(method, refusal.fields)
    for field in IDS:
        fields = dict(CASES[method][0].fields)
        if field in fields or field == "project_id":
            project = "a/b" if field == "project_id" else PROJECT
            fields |= {} if field == "project_id" else {field: "a/b"}
            stage.cloud.answers(*answer(method, stage.family))
            recorded, _ = stage.sent_by_vendor(method, fields, project)
            sent = recorded.path + "?" + recorded.query + recorded.body.decode()
            assert "a%2Fb" in sent or "a/b" in sent, sent


CHECKS = (
    has_the_fields_of_the_sdk, sends_the_request_of_the_sdk, reads_the_answer_as_the_sdk_does,
    refuses_all_that_could_leave_its_place, the_sdk_sends_them,
)


def run(title, check, *arguments):
    try:
        check(*arguments)
        print(f"ok - {title}", flush=True)
        return 0
    except Exception:
        print(f"FAILED - {title}", flush=True)
        traceback.print_exc()
        return 1


def every_method_is_checked(stage):
    methods = [method.name for method in stage.gateway.method.containing_service.methods]
    equal("methods", (list(METHODS), list(CASES), list(REFUSALS)), (methods, methods, methods))


def main(program):
    failed = 0
    with ExitStack() as stack:
        cloud = stack.enter_context(scripted_cloud())

        def gateway(*settings, **options):
            settings = ["--upstream", cloud.url, "--project-id", PROJECT, *settings]
            return stack.enter_context(gateway_before(program, *settings, **options))[0]

        for family in FAMILIES:
            signing = gateway(
                "--api-family", family, "--credentials", "aksk", "--access-key-id", ACCESS,
                environment={"APIG_GATEWAY_SECRET_ACCESS_KEY": SECRET},
            )
            stage = Stage(family, cloud, signing, gateway("--api-family", family))
            title = f"same request, {family}: "
            failed += run(f"{title}every method is checked", every_method_is_checked, stage)
            for method in METHODS:
                for check in CHECKS:
                    failed += run(f"{title}{method} {check.__name__.replace('_', ' ')}", check, stage, method)
                    cloud.take()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
