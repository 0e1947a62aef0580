"""The details of an error, by type."""

import grpc
from google.rpc import error_details_pb2 as rpc
from grpc_status import rpc_status


def print_details(error: grpc.RpcError) -> None:
    status = rpc_status.from_call(error)
    if status is None:
        print("  no details: not the gateway's error; the change may have been made if the client was connected")
        return
    for detail in status.details:
        if detail.Unpack(info := rpc.ErrorInfo()):
            print(f"  ErrorInfo: {info.reason} of {info.domain}")
            for key, value in info.metadata.items():
                print(f"  ErrorInfo: {key} = {value}")
        elif detail.Unpack(request := rpc.BadRequest()):
            for violation in request.field_violations:
                print(f"  BadRequest: {violation.field}: {violation.description}")
        elif detail.Unpack(resource := rpc.ResourceInfo()):
            print(f"  ResourceInfo: {resource.resource_type} {resource.resource_name}")
        elif detail.Unpack(quota := rpc.QuotaFailure()):
            for violation in quota.violations:
                print(f"  QuotaFailure: {violation.subject}: {violation.description}")
        elif detail.Unpack(precondition := rpc.PreconditionFailure()):
            for violation in precondition.violations:
                print(f"  PreconditionFailure: {violation.type} of {violation.subject}: {violation.description}")
        elif detail.Unpack(retry := rpc.RetryInfo()):
            print(f"  RetryInfo: {retry.retry_delay.ToMilliseconds()} ms")
        elif detail.Unpack(cloud := rpc.RequestInfo()):
            print(f"  RequestInfo: {cloud.request_id}")
        elif detail.Unpack(help := rpc.Help()):
            for link in help.links:
                print(f"  Help: {link.url}")
