"""Namespaces in which the addresses of the documents are free, with certificates and programs for them."""

import fcntl
import os
import socket
import struct
import subprocess
import threading
from collections import deque

NAMESPACES = ["--net", "--mount", "--propagation", "private"]
# Linux: net/if.h, bits/ioctls.h.
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1


def isolate(command):
    """Goes on as the command in new namespaces; returns where they can't be made."""
    for user in ([], ["--user", "--map-root-user"]):
        unshare = ["unshare", *user, *NAMESPACES]
        try:
            # What `enter` needs, too.
            allowed = subprocess.run([*unshare, "mount", "-t", "tmpfs", "tmpfs", "/run"], capture_output=True, timeout=20)
        except (OSError, subprocess.TimeoutExpired):
            continue
        if allowed.returncode == 0:
            os.execvp("unshare", [*unshare, *command])


def enter(folder, hosts):
    """Sets up the namespaces: loopback, an empty /run with the directory of the socket, an empty /usr/local/share, and names of hosts."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sh14x", b"lo", 0)
        _, flags = struct.unpack("16sh14x", fcntl.ioctl(any_socket, SIOCGIFFLAGS, request))
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | IFF_UP))
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True)
    os.mkdir("/run/apig")
    # Manual pages are written there.
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/usr/local/share"], check=True)
    lines = ["127.0.0.1 localhost", *(f"{address} {name}" for name, address in hosts.items())]
    (folder / "hosts").write_text("\n".join(lines) + "\n")
    subprocess.run(["mount", "--bind", folder / "hosts", "/etc/hosts"], check=True)


def certificates(folder):
    """A CA, the certificates of gateway and client, and one to upload, under the names that the documents use."""
    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True, timeout=60)

    new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    openssl("req", "-x509", *new_key, "-keyout", "ca-key.pem", "-out", "ca.pem", "-days", "2", "-subj", "/CN=CA")
    leaves = [
        ("gateway.pem", "gateway-key.pem", "DNS:gateway.example.org"),
        ("client.pem", "client-key.pem", "URI:spiffe://example.org/ns/prod/sa/deploy"),
        ("chain.pem", "key.pem", "DNS:www.example.com,DNS:api.example.com"),
    ]
    for certificate, key, name in leaves:
        openssl("req", *new_key, "-keyout", key, "-out", "request.pem", "-subj", "/CN=leaf")
        (folder / "extensions").write_text(f"subjectAltName={name}\n")
        openssl("x509", "-req", "-in", "request.pem", "-CA", "ca.pem", "-CAkey", "ca-key.pem", "-CAcreateserial",
                "-days", "1", "-extfile", "extensions", "-out", certificate)


class Program:
    """A running command of the gateway's program: entered when it serves, and ended with exit code 0."""

    def __init__(self, command, folder, environment, timeout):
        self.command, self.folder, self.environment, self.timeout = command, folder, environment, timeout

    def __enter__(self):
        self.process = subprocess.Popen(self.command, cwd=self.folder, env=self.environment, text=True,
                                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.serves, self.last = False, deque(maxlen=20)
        # Set at the end of the output, too.
        self.known = threading.Event()
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()
        if not (self.known.wait(self.timeout) and self.serves):
            self.process.kill()
            raise RuntimeError(f"{self.command} does not serve: {list(self.last)}")
        return self

    def read(self):
        for line in self.process.stdout:
            self.last.append(line)
            if '"message":"serving"' in line or " serves http://" in line:
                self.serves = True
                self.known.set()
        self.known.set()

    def __exit__(self, *_):
        self.process.terminate()
        try:
            code = self.process.wait(self.timeout)
        finally:
            self.process.kill()
        self.reader.join(self.timeout)
        if code != 0:
            raise RuntimeError(f"{self.command} ended with exit code {code}: {list(self.last)}")
