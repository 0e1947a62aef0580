"""A cloud that answers by a script for each certificate and counts the requests for changes; over HTTP or HTTPS."""

import ssl
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# What the cloud does: an HTTP status with headers, or nothing but ending the connection.
DONE = (204, {})
CUT = None


class Cloud(ThreadingHTTPServer):
    """Answers a certificate's changes by its script, and by the script's last entry from then on; others with success."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Scripted)
        self.scripts, self.arrivals, self.lock = {}, {}, threading.Lock()
        # Answers wait until it is set.
        self.open = threading.Event()
        self.open.set()

    def handle_error(self, request, client_address):
        """A peer that ends its connection, as one that rejects our certificate does, is no fault of ours."""

    def certificate(self, *script):
        """The id of a new certificate with this script."""
        with self.lock:
            identity = f"scripted-{len(self.scripts)}"
            self.scripts[identity], self.arrivals[identity] = list(script), []
        return identity

    def next(self, certificate):
        with self.lock:
            self.arrivals.setdefault(certificate, []).append(time.monotonic())
            script = self.scripts.get(certificate, [DONE])
            return script.pop(0) if len(script) > 1 else script[0]


class Scripted(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        answer = self.server.next(self.path.split("/certificates/")[1].split("/")[0])
        self.server.open.wait()
        if answer is CUT:
            self.close_connection = True
            return
        status, headers = answer
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@contextmanager
def scripted_cloud(certificate=None, key=None):
    cloud = Cloud()
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        # The handshake is made by the thread of the connection.
        cloud.socket = context.wrap_socket(cloud.socket, server_side=True, do_handshake_on_connect=False)
    host = "https://localhost" if certificate else "http://127.0.0.1"
    cloud.url = f"{host}:{cloud.server_port}"
    thread = threading.Thread(target=cloud.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield cloud
    finally:
        cloud.open.set()
        cloud.shutdown()
        cloud.server_close()
