"""Relays connections to a port of its own, which it prints as `port N`, to a Unix socket: `relay.py PATH`."""

import contextlib
import socket
import socketserver
import sys
import threading


def copy(source, target):
    # One end has gone.
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


class Relay(socketserver.BaseRequestHandler):
    def handle(self):
        with socket.socket(socket.AF_UNIX) as upstream:
            upstream.connect(sys.argv[1])
            threading.Thread(target=copy, args=(self.request, upstream), daemon=True).start()
            copy(upstream, self.request)


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True


with Server(("127.0.0.1", 0), Relay) as server:
    print(f"port {server.server_address[1]}")
    server.serve_forever()
