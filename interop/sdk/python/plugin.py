"""A plugin for buf and protoc that writes Python messages, their types (.pyi) and gRPC stubs.

grpcio-tools has its own protoc, and the generator of stubs is built into it: no program of its own that buf could start.

A plugin gets descriptors with `json_name` on each field. protoc compiles .proto files without it, and it is part of the file that
generated code registers: with it, a file of Google's would conflict with the published package.
"""

import sys
import tempfile
from pathlib import Path

from google.protobuf.compiler.plugin_pb2 import CodeGeneratorRequest, CodeGeneratorResponse
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from grpc_tools import protoc


def derived(name):
    """The name for JSON that a field without `json_name` has."""
    first, *rest = name.split("_")
    return first + "".join(part[:1].upper() + part[1:] for part in rest)


def clear_derived(fields):
    for field in fields:
        if field.json_name == derived(field.name):
            field.ClearField("json_name")


def clear_derived_below(messages):
    for message in messages:
        clear_derived([*message.field, *message.extension])
        clear_derived_below(message.nested_type)


def main():
    request = CodeGeneratorRequest.FromString(sys.stdin.buffer.read())
    for file in request.proto_file:
        clear_derived(file.extension)
        clear_derived_below(file.message_type)
    response = CodeGeneratorResponse(supported_features=CodeGeneratorResponse.FEATURE_PROTO3_OPTIONAL)
    with tempfile.TemporaryDirectory() as folder:
        descriptors, out = Path(folder, "descriptors"), Path(folder, "out")
        out.mkdir()
        descriptors.write_bytes(FileDescriptorSet(file=request.proto_file).SerializeToString())
        code = protoc.main(["protoc", f"--descriptor_set_in={descriptors}", f"--python_out={out}", f"--pyi_out={out}",
                            f"--grpc_python_out={out}", *request.file_to_generate])
        if code != 0:
            # protoc has said why on standard error.
            response.error = f"protoc ended with exit code {code}"
        for path in sorted(out.rglob("*.py*")):
            response.file.add(name=path.relative_to(out).as_posix(), content=path.read_text())
    sys.stdout.buffer.write(response.SerializeToString())


main()
