"""The metrics of a gateway, read by a strict parser of OpenMetrics 1.0 and held against the calls and the cloud's requests.

    openmetrics.py GATEWAY_PROGRAM
"""

import sys
import traceback
import urllib.request
from collections import Counter

import grpc
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from gateway import Gateway, Program, SERVICE, TIMEOUT
from scripted_cloud import CUT, Answer, scripted_cloud

CONTENT_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLS = "rpc_server_call_duration_seconds"
REQUESTS = "http_client_request_duration_seconds"
# A success, refusals, a repeat, an answer that is none, and a lost one.
SCRIPT = [
    Answer(), Answer(404, {"error_code": "APIG.3020", "error_msg": "m"}), Answer(503, None, {"Retry-After": "0"}), Answer(),
    Answer(400, {"error_code": "APIG.2012", "error_msg": "m"}), Answer(200, b"<html>"), CUT, Answer(),
]
NUMBER_OF_CALLS = 9


def scrape(admin):
    with urllib.request.urlopen(f"http://{admin}/metrics", timeout=TIMEOUT) as response:
        assert response.headers["content-type"] == CONTENT_TYPE, response.headers["content-type"]
        text = response.read().decode()
    assert text.endswith("# EOF\n")
    # Raises at everything that the standard forbids: names, units, suffixes, order, duplicates, buckets, exemplars.
    return {family.name: family for family in text_string_to_metric_families(text)}


def counts(family, label):
    found = Counter()
    for sample in family.samples:
        if sample.name == f"{family.name}_count":
            found[sample.labels[label]] += int(sample.value)
    return found


def call(gateway, traceparent):
    fields = {"project_id": "p", "certificate_id": "c", "domains": [{"domain": "www.example.com"}]}
    if traceparent is None:
        return gateway.call("AttachDomains", fields)[0].code.name
    return traced(gateway, fields, traceparent)


def traced(gateway, fields, traceparent):
    class Adding(grpc.UnaryUnaryClientInterceptor):
        def intercept_unary_unary(self, continuation, details, request):
            metadata = [*(details.metadata or ()), ("traceparent", traceparent)]
            return continuation(details._replace(metadata=metadata), request)

    plain, gateway.channel = gateway.channel, grpc.intercept_channel(gateway.channel, Adding())
    try:
        return gateway.call("AttachDomains", fields)[0].code.name
    finally:
        gateway.channel = plain


def reconciles(program):
    with scripted_cloud() as cloud:
        settings = ["--upstream", cloud.url, "--read-back", "false", "--max-requests-per-second", "1000"]
        ports = ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--log-format", "json"]
        running = Program([program, "serve", *ports, *settings])
        try:
            serving = running.event("serving")
            assert CALLS not in scrape(serving["admin"]), "a call before the first one"
            gateway = Gateway(serving["address"])
            cloud.plays(SCRIPT)
            codes = Counter()
            for number in range(NUMBER_OF_CALLS):
                flags = {1: "01", 2: "00"}.get(number)
                codes[call(gateway, flags and f"00-{TRACE}-00f067aa0ba902b7-{flags}")] += 1
            requests = len(cloud.take())
            families = scrape(serving["admin"])
            assert running.stop() == 0
        finally:
            running.kill()
    told = counts(families[CALLS], "rpc_response_status_code")
    assert told == codes and codes.total() == NUMBER_OF_CALLS, (told, codes)
    methods = counts(families[CALLS], "rpc_method")
    assert methods == {f"{SERVICE}/AttachDomains": NUMBER_OF_CALLS}, methods
    statuses = counts(families[REQUESTS], "http_response_status_code")
    played = Counter("none" if answer is CUT else str(answer.status) for answer in SCRIPT)
    played[str(SCRIPT[-1].status)] += requests - len(SCRIPT)
    assert statuses == played and statuses.total() == requests == NUMBER_OF_CALLS + 1, (statuses, played, requests)
    samples = families[CALLS].samples
    exemplars = [sample.exemplar for sample in samples if sample.exemplar]
    # One call was recorded; the library's bucket of it has the exemplar.
    assert [exemplar.labels for exemplar in exemplars] == [{"trace_id": TRACE}], exemplars
    assert exemplars[0].timestamp and 0 < exemplars[0].value < TIMEOUT, exemplars
    for name, kind, unit in [
        ("apig_gateway_build_info", "gauge", ""), ("process_resident_memory_bytes", "gauge", "bytes"),
        ("process_cpu_seconds", "counter", "seconds"), ("process_start_time_seconds", "gauge", "seconds"),
        ("process_open_fds", "gauge", ""), ("process_max_fds", "gauge", ""), (CALLS, "histogram", "seconds"),
    ]:
        family = families[name]
        assert (family.type, family.unit) == (kind, unit) and family.documentation, family


def main(program):
    try:
        reconciles(program)
        print("ok - openmetrics: a strict parser reads the metrics, which are those of the calls and of the cloud")
        return 0
    except Exception:
        print(f"FAILED - openmetrics: the metrics\n{traceback.format_exc()}")
        return 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
