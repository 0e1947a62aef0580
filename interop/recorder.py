"""A cloud that accepts every request, records it, and answers as it is told to."""

import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Recorded:
    """One request, with path and query as they were sent."""

    verb: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes

    @property
    def content_type(self):
        """Without parameters such as `charset`."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()


class Recorder(ThreadingHTTPServer):
    """For one caller at a time."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Recording)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.status, self.answer, self.requests = 204, None, []

    def answers(self, status, answer):
        """From now on; `answer` is encoded as JSON, `None` is no body."""
        self.status, self.answer = status, answer

    def take(self):
        """The requests since the last time."""
        taken, self.requests = self.requests, []
        return taken


class Recording(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Without it, the body of an answer waits for the peer to acknowledge the head.
    wbufsize = -1
    disable_nagle_algorithm = True

    def record(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        path, _, query = self.path.partition("?")
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.requests.append(Recorded(self.command, path, query, headers, body))
        self.send_response(self.server.status)
        answer = b"" if self.server.answer is None else json.dumps(self.server.answer).encode()
        if answer:
            self.send_header("content-type", "application/json")
        if self.server.status != 204:
            self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)
        self.wfile.flush()

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = record

    def log_message(self, *_):
        pass


@contextmanager
def recorder():
    cloud = Recorder()
    thread = threading.Thread(target=cloud.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield cloud
    finally:
        cloud.shutdown()
        cloud.server_close()
