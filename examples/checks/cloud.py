"""A cloud that answers by the domain name in the request, and notes each request."""

import json
import threading
import time
from collections import defaultdict
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

CLOUD_REQUEST_ID = "0123456789abcdef0123456789abcdef"


@dataclass
class Answer:
    status: int = 204
    headers: tuple = ()
    error_code: str = ""

    def body(self):
        if not self.error_code:
            return b""
        error = {"error_code": self.error_code, "error_msg": "as the script says", "request_id": CLOUD_REQUEST_ID}
        return json.dumps(error).encode()


# Closes the connection without an answer.
CUT = None
# Answers when the cloud ends.
SILENT = object()
PAUSE = (("Retry-After", "1"),)

# By the first label of the name, one answer after the other; the last one stays. Other names are attached.
SCRIPT = {
    "missing": [Answer(404, error_code="APIG.3020")],
    "quota": [Answer(403, error_code="APIG.3100")],
    "expired": [Answer(400, error_code="APIG.2102")],
    "pause": [Answer(503, PAUSE), Answer()],
    "limit": [Answer(429, PAUSE, "APIG.0308")],
    "cut": [CUT],
    "bad-gateway": [Answer(502)],
    "fault": [Answer(500, error_code="APIG.9999")],
    "silent": [SILENT],
}


@dataclass
class Arrival:
    time: float
    headers: dict


class Cloud(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Scripted)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.lock, self.ended = threading.Lock(), threading.Event()
        self.arrivals = defaultdict(list)

    def __enter__(self):
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.shutdown()
        self.server_close()

    def next(self, domain, headers):
        answers = SCRIPT.get(domain.partition(".")[0], [Answer()])
        with self.lock:
            seen = self.arrivals[domain]
            seen.append(Arrival(time.monotonic(), headers))
            return answers[min(len(seen), len(answers)) - 1]


class Scripted(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        headers = {name.lower(): value for name, value in self.headers.items()}
        answer = self.server.next(body["domains"][0]["domain"], headers)
        if answer is SILENT:
            self.server.ended.wait()
        if answer in (CUT, SILENT):
            self.close_connection = True
            return
        body = answer.body()
        self.send_response(answer.status)
        for name, value in answer.headers:
            self.send_header(name, value)
        if answer.status != 204:
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass
