"""A load of unary calls until it is told to stop; counts every status.

    load.py ADDRESS

The first line of standard input is a JSON list with an entry for each worker: its calls in turn, each as a list of method and
base64 of the request.
Prints the number of ended calls now and then, and at the end {"statuses": {...}, "methods": {...}, "failures": [...]}.
A second line, or the end of the input, ends it when the calls in progress have ended.
"""

import asyncio
import base64
import itertools
import json
import sys
from collections import Counter

from grpc import aio

TIMEOUT = 60
TOKEN = "demo-operator-token"


async def main(address):
    workers = json.loads(sys.stdin.readline())
    statuses, methods, failures, stop = Counter(), Counter(), [], asyncio.Event()
    loop = asyncio.get_running_loop()
    # Not `wait_for`: the thread has to end before the program can.
    told = loop.run_in_executor(None, sys.stdin.readline)
    told.add_done_callback(lambda _: stop.set())

    async def work(calls):
        for method, request in itertools.cycle(calls):
            if stop.is_set():
                return
            code, text = "OK", ""
            try:
                await stubs[method](request, timeout=TIMEOUT, metadata=(("x-auth-token", TOKEN),))
            except aio.AioRpcError as error:
                code, text = error.code().name, error.details()
                if len(failures) < 10:
                    failures.append(f"{method}: {code}: {text}")
            statuses[code] += 1
            methods[method] += 1
            if statuses.total() % 100 == 0:
                print(statuses.total(), flush=True)

    async with aio.insecure_channel(address) as channel:
        calls = [[(method, base64.b64decode(request)) for method, request in worker] for worker in workers]
        stubs = {method: channel.unary_unary(method) for worker in calls for method, _ in worker}
        await asyncio.gather(*(work(worker) for worker in calls))
    print(json.dumps({"statuses": statuses, "methods": methods, "failures": failures}), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
