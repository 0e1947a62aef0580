"""Callgrind: the instructions that a program executes in user space, and the functions that execute them."""

import contextlib
import re
import shutil
import subprocess

from rig.programs import WORK, Failed, Load, Upstream

# On connections that are there already, and after what only the first calls do.
CONNECTIONS, STREAMS = 4, 4
WARM_UP, CALLS = 1000, 4000


def missing():
    return [tool for tool in ("valgrind", "callgrind_control") if shutil.which(tool) is None]


def tell(program, what):
    """Has the running callgrind do something."""
    done = subprocess.run(["callgrind_control", what, str(program.process.pid)], capture_output=True, text=True, timeout=60)
    # It ends with 0 whatever happens.
    if "OK." not in done.stdout:
        raise Failed(f"callgrind_control {what}: {done.stdout}{done.stderr}")


class Counted:
    """Where the instructions of a call are."""

    def __init__(self):
        # By function: executed by itself, executed with all that it calls, and how often it is called.
        self.alone, self.within, self.calls = {}, {}, {}

    @property
    def total(self):
        return sum(self.alone.values())

    @property
    def allocations(self):
        names = ("malloc", "calloc", "realloc", "aligned_alloc", "posix_memalign", "mi_malloc", "mi_zalloc", "mi_realloc",
                 "mi_malloc_aligned", "mi_zalloc_aligned", "mi_realloc_aligned")
        return sum(self.calls.get(name, 0) for name in names)


def count(make, error=False):
    """Counts the instructions of a call."""
    with contextlib.ExitStack() as stack:
        upstream = stack.enter_context(Upstream())
        if error:
            upstream.answer("error")
        program = make(upstream)
        out = WORK / f"callgrind.{program.name}"
        for old in WORK.glob(f"{out.name}*"):
            old.unlink()
        program.under("valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", "--quiet")
        stack.enter_context(program)
        expect = {"expect": 5, "details": program.name == "gateway"} if error else {}
        load = Load(program, connections=CONNECTIONS, streams=STREAMS, warm_up=WARM_UP, calls=CALLS, **expect)
        with load:
            before = upstream.count()
            tell(program, "--zero")
            seen = load.go()
            tell(program, "--dump")
            if upstream.count() - before != seen["calls"] or seen["calls"] != CALLS:
                raise Failed(f"{program.name}: {seen['calls']} calls, and the upstream saw {upstream.count() - before}")
        # A dump's file has its number; what is written at the end, without one, is not of the calls.
        return read(WORK / f"{out.name}.1")


def read(path):
    """A file of callgrind's, for one call of many. https://valgrind.org/docs/manual/cl-format.html"""
    names, counted, function, callee, is_call = {}, Counted(), None, None, False

    def name(text):
        number, _, told = text.strip().partition(" ")
        if told:
            names[number] = plain_name(told)
        return names[number]

    def add(where, key, amount):
        where[key] = where.get(key, 0) + amount / CALLS

    with open(path, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if line.startswith("fn="):
                function = name(line[3:])
            elif line.startswith("cfn="):
                callee = name(line[4:])
            elif line.startswith("calls="):
                # The next line has what the callee spends.
                is_call = True
                add(counted.calls, callee, int(line[6:].split()[0]))
            elif function is not None and (line[:1].isdigit() or line[:1] in "+-*"):
                cost = int(line.split()[1])
                if not is_call:
                    add(counted.alone, function, cost)
                if callee != function or not is_call:
                    add(counted.within, function, cost)
                is_call = False
    return counted


def plain_name(name):
    """Without what differs from build to build: hashes, and the numbers that callgrind gives to recursions."""
    return re.sub(r"(::h[0-9a-f]{16}|'\d+| \[clone [^]]*\]|\.llvm\.\d+)", "", name)
