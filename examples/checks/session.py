"""A running example: domain names in, lines out."""

import queue
import re
import shlex
import subprocess
import threading
import time

# For a slow machine, and for a build; no check waits for it to pass.
TIMEOUT = 300


class Session:
    """Lines are grouped by the domain that they are about: in `printed`, what follows the line with the ids."""

    def __init__(self, language, folder, environment, variables):
        self.name, self.rest, self.lines = language.name, [], queue.Queue()
        self.ids, self.printed, self.current = {}, {}, None
        self.process = subprocess.Popen(
            shlex.split(language.run), cwd=folder, env=environment | variables, text=True, bufsize=1,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for line in self.process.stdout:
            self.lines.put(line.rstrip("\n"))
        self.lines.put(None)

    def send(self, *domains):
        self.process.stdin.write("".join(f"{domain}\n" for domain in domains))
        self.process.stdin.flush()

    def wait_for(self, wanted):
        """Takes lines until one matches the pattern `wanted` from its beginning, or to the end if that is `None`."""
        end = time.monotonic() + TIMEOUT
        while True:
            try:
                line = self.lines.get(timeout=max(0, end - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"'{wanted}' did not come:\n{self.output()}") from None
            if line is None:
                self.lines.put(None)
                assert wanted is None, f"it ended before '{wanted}':\n{self.output()}"
                return
            self.sort(line)
            if wanted is not None and re.match(wanted, line):
                return

    def sort(self, line):
        called = re.fullmatch(r"(\S+): x-request-id (\S+), traceparent (\S+)", line)
        if called:
            self.current = called[1]
            self.ids[self.current], self.printed[self.current] = called.groups()[1:], []
        elif self.current and line.startswith(f"{self.current}: "):
            self.printed[self.current].append(line.removeprefix(f"{self.current}: "))
        elif self.current and line.startswith("  "):
            self.printed[self.current].append(line.strip())
        else:
            self.rest.append(line)

    def output(self):
        blocks = (f"{domain}: {lines}" for domain, lines in self.printed.items())
        return "\n".join([*self.rest[-20:], *blocks])

    def end(self):
        """Closes its input; gives its exit code."""
        self.process.stdin.close()
        self.wait_for(None)
        return self.process.wait(TIMEOUT)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        # The process that `npm` or `go run` has started may outlive it, and is in its group.
        subprocess.run(["kill", "-KILL", "--", f"-{self.process.pid}"], check=False, capture_output=True)
        self.process.wait()
        self.reader.join()
        self.process.stdout.close()
