"""Every method called with grpcurl, which learns the API by reflection: the JSON that it is given reaches the cloud, and
the cloud's answer comes back whole.

    grpcurl_calls.py GATEWAY_PROGRAM GRPCURL
"""

import json
import subprocess
import sys
import traceback
from urllib.parse import parse_qsl

from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message_factory import GetMessageClass

from cases import CASES, PROJECT, answer
from gateway import SERVICE, TIMEOUT, Gateway, gateway_before
from recorder import recorder

FAMILY = "apigw"


def equal(name, actual, expected):
    assert actual == expected, f"{name}: {actual!r} instead of {expected!r}"


def call(grpcurl, address, method, fields):
    # The request by standard input: a private key on a command line is there for all to read.
    done = subprocess.run(
        [grpcurl, "-plaintext", "-max-time", str(TIMEOUT), "-H", "x-auth-token: a-token", "-d", "@", address,
         f"{SERVICE}/{method}"],
        input=json.dumps(fields), capture_output=True, text=True, timeout=2 * TIMEOUT,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def all_goes_there_and_back(grpcurl, address, cloud, described):
    fields = {"project_id": PROJECT, **CASES[described.name][0].fields}
    status, sent = answer(described.name, FAMILY)
    cloud.answers(status, sent)
    shown = call(grpcurl, address, described.name, fields)
    [recorded] = cloud.take()

    # Every field is in the query, in the body or in the path.
    segments = recorded.path.split("/")
    query = {name: type(fields[name])(value) for name, value in parse_qsl(recorded.query)}
    body = json.loads(recorded.body) if recorded.body else {}
    elsewhere = {name: value for name, value in fields.items() if name not in query and name not in body}
    equal("query and body", {**query, **body, **elsewhere}, fields)
    assert all(value in segments for value in elsewhere.values()), f"{elsewhere} in {recorded.path}"

    # Raises for a field that the API does not have.
    message = ParseDict(sent or {}, GetMessageClass(described.output_type)())
    equal("answer", shown, MessageToDict(message))


def main(program, grpcurl):
    failed = 0
    with recorder() as cloud, gateway_before(program, "--upstream", cloud.url, "--api-family", FAMILY) as (address, _):
        for described in Gateway(address).method.containing_service.methods:
            title = f"grpcurl: the fields of {described.name} and of its answer arrive"
            try:
                all_goes_there_and_back(grpcurl, address, cloud, described)
                print(f"ok - {title}", flush=True)
            except Exception:
                failed += 1
                print(f"FAILED - {title}", flush=True)
                traceback.print_exc()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
