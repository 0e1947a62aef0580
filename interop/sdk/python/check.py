"""Generated Python code beside googleapis-common-protos in one program.

    check.py DESCRIPTOR_SET GENERATED_FROM_GOOGLE_API

The folder has the code generated from the vendored files. Prints a line for each check. A file that is registered twice with
different contents raises.
"""

import importlib.util
import sys
from importlib.resources import files
from pathlib import Path

from google.api import annotations_pb2, field_behavior_pb2, http_pb2, resource_pb2
from google.protobuf import descriptor_pb2, descriptor_pool
from google.rpc import error_details_pb2

# The published packages come first, so that ours are what would conflict.
from huaweicloud.apic.v2 import certificate_service_pb2 as pb
from huaweicloud.apic.v2 import certificate_service_pb2_grpc as stubs

PUBLISHED = {module.DESCRIPTOR.name: module.DESCRIPTOR for module in
             (annotations_pb2, field_behavior_pb2, http_pb2, resource_pb2, error_details_pb2)}


def bare(message):
    """A file without comments and without the names for JSON, which compilers derive and only some of them write."""
    file = descriptor_pb2.FileDescriptorProto.FromString(message.SerializeToString())
    file.ClearField("source_code_info")

    def clear(messages):
        for inner in messages:
            for field in [*inner.field, *inner.extension]:
                field.ClearField("json_name")
            clear(inner.nested_type)

    clear(file.message_type)
    for field in file.extension:
        field.ClearField("json_name")
    return file


def registered(descriptor):
    file = descriptor_pb2.FileDescriptorProto()
    descriptor.CopyToProto(file)
    return file


def ours(path):
    return {file.name: file for file in descriptor_pb2.FileDescriptorSet.FromString(Path(path).read_bytes()).file}


def vendored_files_are_the_published_ones(compiled):
    vendored = {name for name in compiled if name.startswith(("google/api/", "google/rpc/"))}
    assert vendored == set(PUBLISHED), vendored
    for name in sorted(vendored):
        assert bare(compiled[name]) == bare(registered(PUBLISHED[name])), f"{name} is not the published file"
        text = files("google").joinpath(name.removeprefix("google/")).read_bytes()
        assert Path("proto", name).read_bytes() == text, f"proto/{name} is not a copy"


def code_of_vendored_files_loads_beside_the_published_ones(_):
    for name in PUBLISHED:
        path = Path(GENERATED, name.replace(".proto", "_pb2.py"))
        spec = importlib.util.spec_from_file_location(f"vendored_{path.stem}", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        assert module.DESCRIPTOR.name == name and module.DESCRIPTOR.pool is descriptor_pool.Default()


def generated_code_has_the_options_of_the_published_packages(compiled):
    service = pb.DESCRIPTOR.services_by_name["CertificateService"]
    rule = service.methods_by_name["AttachDomains"].GetOptions().Extensions[annotations_pb2.http]
    assert rule.post == "/v2/{project_id}/apic/certificates/{certificate_id}/domains/attach" and rule.body == "*"
    fields = pb.AttachDomainsRequest.DESCRIPTOR.fields_by_name
    behaviors = fields["domains"].GetOptions().Extensions[field_behavior_pb2.field_behavior]
    assert list(behaviors) == [field_behavior_pb2.REQUIRED], behaviors
    reference = fields["project_id"].GetOptions().Extensions[resource_pb2.resource_reference]
    assert reference.type == "apic.huaweicloud.com/Project", reference
    assert bare(compiled[pb.DESCRIPTOR.name]) == bare(registered(pb.DESCRIPTOR))


def a_message_survives_the_wire(_):
    request = pb.AttachDomainsRequest(project_id="p", certificate_id="c", domains=[{"domain": "www.example.com"}])
    assert pb.AttachDomainsRequest.FromString(request.SerializeToString()) == request
    assert callable(stubs.CertificateServiceStub)


SET, GENERATED = sys.argv[1:]
compiled = ours(SET)
for check in (vendored_files_are_the_published_ones, code_of_vendored_files_loads_beside_the_published_ones,
              generated_code_has_the_options_of_the_published_packages, a_message_survives_the_wire):
    check(compiled)
    print(f"ok - python: {check.__name__.replace('_', ' ')}")
