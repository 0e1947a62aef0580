"""Runs the checks: every function in the list CHECKS of a module is one, named after what must hold."""

import argparse
import shutil
import signal
import sys
import time
import traceback

import drain
import forward_proxy
import inbound
import outages
import pool
import retries
import sidecar
from stage import WORK

SUBJECTS = {
    "sidecar": sidecar, "pool": pool, "retries": retries, "outages": outages, "inbound": inbound,
    "forward proxy": forward_proxy, "drain": drain,
}


def arguments():
    parser = argparse.ArgumentParser(prog="interop/mesh/run")
    parser.add_argument("binary")
    parser.add_argument("--calls", type=int, default=10_000, help="calls while gateways are swapped")
    parser.add_argument("--swaps", type=int, default=4, help="swaps of a gateway")
    parser.add_argument("--only", default="", help="run only checks with this text in their title")
    return parser.parse_args()


def main():
    # Ends by an exception, so that every program is ended too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    told = arguments()
    drain.CALLS, drain.SWAPS = told.calls, told.swaps
    for folder in ("logs", "envoy", "tls"):
        shutil.rmtree(WORK / folder, ignore_errors=True)
    passed = failed = 0
    for subject, module in SUBJECTS.items():
        for check in module.CHECKS:
            title = f"mesh, {subject}: " + check.__name__.replace("_", " ")
            if told.only not in title:
                continue
            began = time.monotonic()
            try:
                note = check(told.binary)
                passed += 1
                print(f"ok - {title}" + (f" ({note})" if note else ""), flush=True)
            except Exception:
                failed += 1
                print(f"FAILED - {title}", flush=True)
                traceback.print_exc(file=sys.stdout)
            print(f"{title}: {time.monotonic() - began:.1f} s", file=sys.stderr)
    print(f"{passed} passed, {failed} failed")
    return 0 if passed and not failed else 1


if __name__ == "__main__":
    sys.exit(main())
