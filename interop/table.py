"""The table of cases and clients: every client makes the calls of every case, over TCP and over a Unix socket.

    table.py GATEWAY_PROGRAM [--clients NAME,...] [--cases TEXT]

Prints the table and every difference, and compares docs/clients.md with the page that the run makes. The options choose
clients, and the cases whose names have the text; the page is left alone then.
"""

import argparse
import signal
import sys
import tempfile
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import page
from case import Cannot, run
from client import KINDS, ROOT, Client, ClientFailed, Kind
from expect import shown
from rows import calls, catalogue, connections, seed, services
from stage import Stage, make_certificates

WORK = ROOT / "target/interop"
PAGE = ROOT / "docs/clients.md"
TRANSPORTS = {"tcp": "TCP", "unix": "Unix socket"}
GROUPS = {
    "Errors of the emulated cloud": seed.CASES,
    "Errors of the catalogue, and of the gateway": catalogue.CASES,
    "Messages and metadata": calls.MESSAGES,
    "Time": calls.TIME,
    "Standard services": services.CASES,
    "Connections": connections.CASES,
}
# Every type of detail that the gateway sends.
DETAILS = {
    "BadRequest", "ErrorInfo", "Help", "PreconditionFailure", "QuotaFailure", "RequestInfo", "ResourceInfo", "RetryInfo",
}
# Columns at a time. A column waits more than it computes.
AT_ONCE = 4


@dataclass
class Column:
    kind: Kind
    transport: str
    # By the case's name: `ok`, `FAILED`, `-` where the case is not for the transport, or why the client can't.
    cells: dict[str, str]
    differences: list[tuple[str, str, object, object]]
    seconds: float = 0

    @property
    def title(self):
        return f"{self.kind.title}, {TRANSPORTS[self.transport]}"


class Connected(Client):
    """The client of a column."""

    def __init__(self, kind, work):
        super().__init__(kind, work)
        self.kind = kind


def column_of(program, folder, number, kind, transport, cases):
    column = Column(kind, transport, {}, [])
    client = Connected(kind, WORK)
    begin = time.monotonic()
    sockets = Path(folder) / f"{number}"
    sockets.mkdir()
    try:
        with Stage(program, sockets, Path(folder), number, transport) as stage:
            for case in cases:
                column.cells[case.name] = cell(case, stage, client, column)
        column.differences += [("-", "the logs of the gateways", "no such line", fault) for fault in stage.faults()]
    except Exception:
        # Not of a case: the surroundings broke down.
        column.differences.append(("-", "the run", "an end", traceback.format_exc()))
    finally:
        client.close()
    column.seconds = time.monotonic() - begin
    return column


def cell(case, stage, client, column):
    if stage.transport not in case.transports:
        return "-"
    try:
        differences = run(case, stage, client)
    except Cannot as reason:
        return str(reason)
    except ClientFailed as failure:
        differences = [("the run", "an answer", str(failure))]
    except Exception:
        differences = [("the run", "an end", traceback.format_exc())]
    column.differences += [(case.name, *difference) for difference in differences]
    return "FAILED" if differences else "ok"


def table(program, kinds, cases):
    columns = [(kind, transport) for kind in kinds for transport in TRANSPORTS]
    # Short: the path of a Unix socket has 107 bytes at most.
    with tempfile.TemporaryDirectory(prefix="interop-") as folder:
        make_certificates(folder)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            running = [
                pool.submit(column_of, program, folder, number, *column, cases) for number, column in enumerate(columns)
            ]
            return [future.result() for future in running]


def print_table(columns, cases):
    """With a letter for each reason, which are listed below it."""
    reasons = []
    width = max(len(case.name) for case in cases)
    titles = [f"{column.kind.name}/{column.transport}" for column in columns]
    print(" " * width, *titles, sep="  ")
    for case in cases:
        cells = []
        for column in columns:
            text = column.cells.get(case.name, "FAILED")
            if text not in ("ok", "FAILED", "-"):
                if text not in reasons:
                    reasons.append(text)
                text = f"({reasons.index(text) + 1})"
            cells.append(text)
        print(case.name.ljust(width), *[text.ljust(len(title)) for text, title in zip(cells, titles)], sep="  ")
    for number, reason in enumerate(reasons):
        print(f"({number + 1}) {reason}")


def print_differences(columns):
    for column in columns:
        for case, field, expected, seen in column.differences:
            print(f"FAILED - {case}; {column.title}; {field}\n    expected: {shown(expected)}")
            print(f"    seen: {seen if field == 'the run' else shown(seen)}")


def check_cases(cases):
    names = [case.name for case in cases]
    assert len(set(names)) == len(names), f"twice: {[name for name in names if names.count(name) > 1]}"
    expected = [call.expected.details for case in cases for call in case.calls]
    missing = DETAILS - {name for details in expected if isinstance(details, dict) for name in details}
    assert not missing, f"no case has {missing}"


def main():
    # Ends by an exception, so that gateways are ended too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    parser = argparse.ArgumentParser()
    parser.add_argument("program", type=Path)
    parser.add_argument("--clients", default="")
    parser.add_argument("--cases", default="")
    chosen = parser.parse_args()
    cases = [case for group in GROUPS.values() for case in group]
    check_cases(cases)
    cases = [case for case in cases if chosen.cases in case.name]
    kinds = [kind for kind in KINDS if not chosen.clients or kind.name in chosen.clients.split(",")]
    prepared = [kind for kind in kinds if (WORK / kind.directory / "prepared").exists()]

    columns = table(chosen.program.resolve(), prepared, cases)
    print_table(columns, cases)
    print_differences(columns)
    cells = [text for column in columns for text in column.cells.values()]
    # Differences of no case are of a column as a whole.
    failed = sum(text == "FAILED" for text in cells) + sum("-" in [each[0] for each in column.differences] for column in columns)
    for kind in kinds:
        if kind not in prepared:
            print(f"NOT CHECKED - the client {kind.name} is not prepared")
    if failed or prepared != KINDS or chosen.cases:
        print("NOT CHECKED - docs/clients.md: it needs a run with all clients and cases that succeeds")
    else:
        failed += page.is_stale(PAGE, WORK / "clients.md", columns, GROUPS)
    print("; ".join(f"{column.title}: {column.seconds:.0f} s" for column in columns), file=sys.stderr)
    print(f"table: {cells.count('ok')} ok, {failed} failed, of {len(cases)} cases and {len(columns)} columns")
    return 1 if failed or not cells else 0


if __name__ == "__main__":
    sys.exit(main())
