"""A cloud on loopback that answers by a script, and records every request."""

import json
import select
import socket
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# For a slow machine; nothing waits for it to pass.
TIMEOUT = 30


@dataclass(frozen=True)
class Answer:
    """A response; `body` is JSON unless it is bytes, and `None` is no body."""

    status: int = 204
    body: object = None
    headers: dict[str, str] = field(default_factory=dict)


# The end of the connection in place of an answer.
CUT = "cut"
# No answer until the script is released, and a success then. The gateway may end the request before.
HELD = "held"


@dataclass
class Recorded:
    """One request, with path and query as they were sent."""

    verb: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes
    time: float

    @property
    def content_type(self):
        """Without parameters such as `charset`."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()


class ScriptedCloud(ThreadingHTTPServer):
    """Its script is for one caller at a time; the last entry of the script stands for all later requests."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.changed = threading.Condition()
        self.plays([Answer()])

    def plays(self, script):
        """Begins a script, and with it the record of requests."""
        with self.changed:
            self.script, self.requests = list(script), []
            self.is_released, self.abandoned = False, 0

    def answers(self, status, body):
        self.plays([Answer(status, body)])

    def take(self):
        """The requests since the last time."""
        with self.changed:
            taken, self.requests = self.requests, []
            return taken

    def next(self, recorded):
        with self.changed:
            self.requests.append(recorded)
            self.changed.notify_all()
            return self.script.pop(0) if len(self.script) > 1 else self.script[0]

    def release(self):
        with self.changed:
            self.is_released = True

    def abandon(self):
        with self.changed:
            self.abandoned += 1
            self.changed.notify_all()

    def waits_for(self, what, count):
        """Waits until so many `requests` have come, or so many were `abandoned` by the gateway; returns their number."""
        def now():
            return self.abandoned if what == "abandoned" else len(self.requests)

        with self.changed:
            self.changed.wait_for(lambda: now() >= count, TIMEOUT)
            return now()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Without it, the body of an answer waits for the peer to acknowledge the head.
    wbufsize = -1
    disable_nagle_algorithm = True

    def handle_request(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        path, _, query = self.path.partition("?")
        headers = {name.lower(): value for name, value in self.headers.items()}
        answer = self.server.next(Recorded(self.command, path, query, headers, body, time.monotonic()))
        if answer is HELD:
            answer = self.held()
        if answer is CUT:
            self.close_connection = True
            return
        self.send(answer)

    def held(self):
        """Waits for the release, or else for the gateway to close the connection."""
        while not self.server.is_released:
            readable, _, _ = select.select([self.connection], [], [], 0.01)
            # Nothing else may come: the gateway does not pipeline requests.
            if readable and self.connection.recv(1, socket.MSG_PEEK) == b"":
                self.server.abandon()
                return CUT
        return Answer()

    def send(self, answer):
        body = answer.body
        if not isinstance(body, bytes):
            body = b"" if body is None else json.dumps(body).encode()
        self.send_response(answer.status)
        if body:
            self.send_header("content-type", "application/json")
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if answer.status != 204:
            self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_request

    def log_message(self, *_):
        pass


@contextmanager
def scripted_cloud():
    cloud = ScriptedCloud()
    thread = threading.Thread(target=cloud.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield cloud
    finally:
        cloud.release()
        cloud.shutdown()
        cloud.server_close()


@contextmanager
def nobody():
    """The URL of a cloud that can't be reached. The port is taken, so that nobody else comes to listen there."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"
