"""A program that has certificates to attach, and calls one after the other: the cloud itself by the vendor's SDK, or a gateway by
grpcio, each as a user would write it.

    caller.py sdk|grpcio TARGET CALLS

It makes a tenth of the calls and prints `ready`; a line on standard input starts the measured calls; it prints one line of JSON,
times in microseconds. `grpcio` needs the generated code on PYTHONPATH.
"""

import json
import sys
import time

PROJECT = "73d69ae0cfcf460190522d06b60f05ad"
CERTIFICATE = "a27be832f2e9441c8127fe48e3b5ac67"
DOMAIN = "apigtest.example.com"


def by_sdk(cloud):
    from huaweicloudsdkcore.auth.credentials import BasicCredentials
    from huaweicloudsdkroma.v2 import (
        AttachOrDetachDomainInfo, AttachOrDetachDomainsReqBody, BatchAssociateDomainsV2Request, RomaClient,
    )
    credentials = BasicCredentials("BENCHKEY", "bench-secret", PROJECT)
    client = RomaClient.new_builder().with_credentials(credentials).with_endpoints([cloud]).build()

    def call():
        body = AttachOrDetachDomainsReqBody(domains=[AttachOrDetachDomainInfo(domain=DOMAIN)])
        client.batch_associate_domains_v2(BatchAssociateDomainsV2Request(certificate_id=CERTIFICATE, body=body))
    return call


def by_grpcio(gateway):
    import grpc
    from huaweicloud.apic.v2.certificate_service_pb2 import AttachDomainsRequest, AttachOrDetachDomainInfo
    from huaweicloud.apic.v2.certificate_service_pb2_grpc import CertificateServiceStub
    stub = CertificateServiceStub(grpc.insecure_channel(gateway))

    def call():
        stub.AttachDomains(AttachDomainsRequest(
            project_id=PROJECT, certificate_id=CERTIFICATE, domains=[AttachOrDetachDomainInfo(domain=DOMAIN)]))
    return call


def main():
    way, target, calls = sys.argv[1], sys.argv[2], int(sys.argv[3])
    call = {"sdk": by_sdk, "grpcio": by_grpcio}[way](target)
    for _ in range(calls // 10):
        call()
    print("ready", flush=True)
    sys.stdin.readline()
    took = []
    before = time.process_time()
    for _ in range(calls):
        began = time.perf_counter()
        call()
        took.append(time.perf_counter() - began)
    cpu = time.process_time() - before
    took.sort()
    print(json.dumps({"calls": calls, "cpu": cpu / calls * 1e6, "p50": took[calls // 2] * 1e6,
                      "p99": took[calls * 99 // 100] * 1e6}), flush=True)


if __name__ == "__main__":
    main()
