"""A relay before a gateway: it counts the bytes of the client, and reports when given bytes have passed towards the client."""

import socket
import threading
from contextlib import contextmanager


def family_and_address(target):
    if target.startswith("unix:"):
        return socket.AF_UNIX, target.removeprefix("unix:")
    host, _, port = target.rpartition(":")
    return socket.AF_INET, (host, int(port))


class Relay:
    def __init__(self, target, listen, wanted=b""):
        self.behind, self.wanted = family_and_address(target), wanted
        family, address = family_and_address(listen)
        self.listener = socket.socket(family, socket.SOCK_STREAM)
        self.listener.bind(address)
        self.listener.listen()
        name = self.listener.getsockname()
        self.target = listen if family == socket.AF_UNIX else f"{name[0]}:{name[1]}"
        self.has_passed, self.sockets, self.of_client = threading.Event(), [self.listener], 0
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            family, address = self.behind
            gateway = socket.socket(family, socket.SOCK_STREAM)
            gateway.connect(address)
            self.sockets += [client, gateway]
            threading.Thread(target=self.copy, args=(client, gateway, None), daemon=True).start()
            threading.Thread(target=self.copy, args=(gateway, client, self.wanted), daemon=True).start()

    def copy(self, source, sink, wanted):
        seen = b""
        try:
            while data := source.recv(65536):
                if wanted is None:
                    self.of_client += len(data)
                sink.sendall(data)
                if wanted and wanted in (seen := seen[-len(wanted):] + data):
                    self.has_passed.set()
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def close(self):
        # Ends the waiting of the threads, which `close` alone does not.
        for each in self.sockets:
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            each.close()


@contextmanager
def relay(target, listen, wanted=b""):
    between = Relay(target, listen, wanted)
    try:
        yield between
    finally:
        between.close()
