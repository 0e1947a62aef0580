"""Clients of the interop protocol: programs under interop/clients that read requests and print answers, a line of JSON each."""

import json
import queue
import re
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
HERE = ROOT / "interop/clients"

# For a slow machine; no call of a case takes as long.
TIMEOUT = 90


class ClientFailed(Exception):
    """The client program itself failed, and not the call."""


@dataclass(frozen=True)
class Kind:
    """A column of the table: the program, and the file that has the version of its library, with a pattern that finds it;
    without a file, the pattern is the version."""

    name: str
    title: str
    directory: str
    library: str
    file: str
    pattern: str
    arguments: tuple[str, ...] = ()
    note: str = ""

    @property
    def version(self):
        if not self.file:
            return self.pattern
        text = (ROOT / "interop" / self.file).read_text()
        return re.search(self.pattern, text, re.DOTALL)[1]


KINDS = [
    Kind("python", "Python", "python", "grpcio", "requirements.txt", r"grpcio==(\S+)"),
    Kind("asyncio", "Python asyncio", "python", "grpcio, `grpc.aio`", "requirements.txt", r"grpcio==(\S+)", ("--asyncio",)),
    Kind("go", "Go", "go", "grpc-go", "clients/go/go.mod", r"google\.golang\.org/grpc v(\S+)"),
    Kind("java", "Java", "java", "grpc-java", "clients/java/pom.xml", r"<grpc>(\S+?)</grpc>"),
    Kind("node", "Node", "node", "`@grpc/grpc-js`", "clients/node/package.json", r'"@grpc/grpc-js": "(\S+?)"'),
    Kind("rust", "Rust", "rust", "tonic", "clients/rust/Cargo.toml", r'\ntonic = .*?"=?([\d.]+)"'),
    Kind("ruby", "Ruby", "ruby", "grpc (C core)", "", "of Debian"),
    Kind("grpcurl", "grpcurl", "grpcurl", "grpcurl", "clients/grpcurl/prepare", r"version=v(\S+)"),
    Kind("buf_curl", "buf curl", "buf_curl", "`buf curl`", "requirements.txt", r"buf-bin==(\S+)",
         note="prints details in base64: the run decodes them"),
]


class Client:
    """A running client. After a failure it is started anew, so that one case does not take the others along."""

    def __init__(self, kind, work):
        self.command = [HERE / kind.directory / "run", work / kind.directory, *kind.arguments]
        self.log = work / f"{kind.name}.log"
        self.process = None

    def start(self):
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, encoding="utf-8"
            )
        self.lines = queue.SimpleQueue()
        threading.Thread(target=self.read, args=(self.process, self.lines), daemon=True).start()

    @staticmethod
    def read(process, lines):
        for line in process.stdout:
            lines.put(line)
        lines.put("")

    def ask(self, request):
        self.send(request)
        return self.receive()

    def send(self, request):
        if self.process is None:
            self.start()
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            self.fail("it has ended")

    def receive(self):
        try:
            line = self.lines.get(timeout=TIMEOUT)
        except queue.Empty:
            self.fail(f"no answer in {TIMEOUT} s")
        if not line:
            self.fail("it ended without an answer")
        answer = json.loads(line)
        if "failed" in answer:
            raise ClientFailed(answer["failed"])
        return answer

    def fail(self, text):
        self.close()
        raise ClientFailed(f"{text}; {self.log} has its output")

    def close(self):
        if self.process is not None:
            process, self.process = self.process, None
            try:
                process.stdin.close()
                process.wait(5)
            except (BrokenPipeError, subprocess.TimeoutExpired):
                process.kill()
                process.wait()
