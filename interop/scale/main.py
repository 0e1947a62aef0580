"""Twenty gateways before one cloud, through its outages, with callers that compare the answers with the cloud's state.

    main.py GATEWAY_PROGRAM [--docs]
"""

import argparse
import asyncio
import json
import shutil
import signal
import sys
import time
import urllib.request
from contextlib import asynccontextmanager
from urllib.parse import urlparse

import report
from fleet import TIMEOUT, WORK, Fleet, Program, world
from load import CALL_TIMEOUT, Load
from recorder import Recorder

GATEWAYS = 20
# Of the cloud, in requests a second; each gateway gets its part.
QUOTA = 100
# More than the quota allows, so that the limit is always met.
WORKERS, SHARERS = 60, 10
# Renewed after 52 to 60 s.
TOKEN_LIFE = 70
BREAKER_THRESHOLD = 5

SETTINGS = [
    "--max-requests-per-second", QUOTA // GATEWAYS, "--breaker-threshold", BREAKER_THRESHOLD, "--drain-delay", "200ms",
]


class Stage:
    """One part of the run, for the table."""

    def __init__(self, title):
        self.title, self.began, self.ended, self.note = title, time.monotonic(), None, ""


class Run:
    def __init__(self, cloud, recorder, fleet, load):
        self.cloud, self.recorder, self.fleet, self.load, self.stages = cloud, recorder, fleet, load, []

    @asynccontextmanager
    async def stage(self, title):
        stage = Stage(title)
        print(f"{title} ...", file=sys.stderr, flush=True)
        yield stage
        for task in self.load.tasks if self.load else ():
            if task.done():
                # Callers work until the end: this raises the error of one that did not.
                await task
        stage.ended = time.monotonic()
        self.stages.append(stage)

    async def control(self, method, path, content=None):
        data = json.dumps(content).encode() if content else None
        request = urllib.request.Request(f"{self.cloud}/emulator/{path}", method=method, data=data, headers={"content-type": "application/json"})
        await asyncio.to_thread(lambda: urllib.request.urlopen(request, timeout=TIMEOUT).close())

    async def every_gateway(self, kind, what, since):
        """Waits until each gateway has had a success of the cloud that was asked for since a time."""
        def has_all():
            good = {one.port for one in self.recorder.of(kind, since) if one.status in (200, 201, 204)}
            return good >= set(self.fleet.ports)
        await self.recorder.wait_for(has_all, what)
        return time.monotonic() - since

    async def play(self):
        recorder, load, fleet = self.recorder, self.load, self.fleet

        async with self.stage("steady load over the quota") as steady:
            load.start(WORKERS)
            await asyncio.sleep(12)

        async with self.stage("the cloud answers 503") as outage:
            await self.control("PUT", "outages/api", {"status": 503})
            await asyncio.sleep(10)
            await self.control("DELETE", "outages/api")
        async with self.stage("the cloud is back") as back:
            await self.every_gateway(("read", "change"), "every gateway reaches the cloud again", outage.ended)
            back.note = f"all gateways after {time.monotonic() - back.began:.1f} s"

        async with self.stage("every 5th answer to a change is lost"):
            recorder.lose_every = 5
            await asyncio.sleep(6)
            recorder.lose_every = None
            # A look-up lasts up to 15 s.
            await load.settle()

        async with self.stage(f"{SHARERS} more callers change one certificate") as shared:
            await load.share(SHARERS, 6)
        conflicts = [one for one in recorder.of(("change",), shared.began) if one.status == 500]
        shared.note = f"`APIG.3500` {len(conflicts)} times, most of them repeated"

        async with self.stage("the tokens' end") as renewal:
            # Of those that were fetched at the start, which are dead by then, too.
            fetched = lambda: {one.port for one in recorder.of(("iam",), steady.began) if one.status == 201}
            await recorder.wait_for(lambda: fetched() >= set(fleet.ports), "every gateway renews its token")
            first = max(one.began for one in recorder.of(("iam",), until=steady.began))
            await asyncio.sleep(max(0.0, first + TOKEN_LIFE + 1 - time.monotonic()))
        times = [one.began for one in recorder.of(("iam",), steady.began)]
        renewal.note = f"renewals over {max(times) - min(times):.1f} s"

        async with self.stage("IAM answers 503, and all tokens are revoked") as without_iam:
            await self.control("PUT", "outages/iam", {"status": 503})
            await self.control("POST", "revoke")
            await asyncio.sleep(10)
            await self.control("DELETE", "outages/iam")
        async with self.stage("IAM is back") as iam_back:
            await self.every_gateway(("iam",), "every gateway has a token again", without_iam.ended)
            iam_back.note = f"all tokens after {time.monotonic() - iam_back.began:.1f} s"
        async with self.stage("after it"):
            await asyncio.sleep(2)

        async with self.stage("each gateway is drained and replaced") as swap:
            for number in range(GATEWAYS):
                await fleet.replace(number)
        async with self.stage("the end"):
            await load.stop()

        self.steady, self.outage, self.renewal, self.without_iam, self.iam_back, self.swap = steady, outage, renewal, without_iam, iam_back, swap


async def run(binary):
    shutil.rmtree(WORK / "logs", ignore_errors=True)
    (WORK / "logs").mkdir(parents=True)
    emulator = Program("emulator", [binary, "emulator", "--listen", "127.0.0.1:0", "--life", f"{TOKEN_LIFE}s", "--world",
                                    world(WORKERS, SHARERS), "--change-time", "20ms"])
    recorder = fleet = watching = None
    try:
        cloud = (await emulator.start(r"The emulated cloud serves (http://\S+)"))[1]
        recorder = Recorder(urlparse(cloud).port)
        watching = asyncio.create_task(recorder.watch_lag())
        fleet = Fleet(binary, recorder, GATEWAYS, SETTINGS)
        played = Run(cloud, recorder, fleet, None)
        async with played.stage("all gateways start at once"):
            await asyncio.gather(*(fleet.start(number) for number in range(GATEWAYS)))
            await played.every_gateway(("iam",), "every gateway has a token", 0.0)
        played.load = Load(fleet.target, fleet.places[0].address)
        await played.play()
        for program in (*fleet.gateways, emulator):
            await program.stop()
        return played
    finally:
        if fleet:
            await fleet.kill()
        if watching:
            watching.cancel()
            await recorder.close()
        await emulator.kill()


def main():
    # Ends by an exception, so that every program is ended too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    parser = argparse.ArgumentParser(prog="interop/scale/run")
    parser.add_argument("binary")
    parser.add_argument("--docs", action="store_true", help="write the table into docs/scaling.md")
    told = parser.parse_args()
    began = time.monotonic()
    played = asyncio.run(run(told.binary))
    limits = report.Limits(GATEWAYS, QUOTA, TOKEN_LIFE, BREAKER_THRESHOLD, CALL_TIMEOUT)
    failed = report.checks(played, limits)
    table = report.table(played)
    print(table)
    print(f"{len(report.CHECKS) - failed} passed, {failed} failed, {time.monotonic() - began:.0f} s")
    if told.docs and not failed:
        report.write(table, limits, WORKERS)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
