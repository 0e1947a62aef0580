"""Runs the files of an image as a container runtime does with a read-only root and the image's user: probes it, calls it, drains it.

    run.py ROOT IMAGE.json PROGRAM

The program outside plays the cloud and the caller.
"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

TOKEN = "demo-operator-token"
CALL = ["attach", "--project-id", "73d69ae0cfcf460190522d06b60f05ad", "--certificate-id", "a27be832f2e9441c8127fe48e3b5ac67",
        "--domain", "www.example.com", "--instance-id", "f0fa1789-3b76-433b-a787-9892951c620e"]
# For a slow machine; no check waits for it to pass.
TIMEOUT = 60
# Mounts of the runtime: the host's names, the processes of the container, and the root, read-only.
ENTER = r"""
set -e
root=$1 user=$2
shift 2
mkdir -p "$root/proc" "$root/etc"
touch "$root/etc/hosts" "$root/etc/resolv.conf"
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount --bind /etc/hosts "$root/etc/hosts"
mount --bind /etc/resolv.conf "$root/etc/resolv.conf"
mount -o remount,bind,ro "$root"
cd "$root"
exec setpriv --no-new-privs chroot --userspec="$user" --groups= . "$@"
"""


class Image:
    def __init__(self, root, description):
        config = json.loads(Path(description).read_text())["Docker"]["config"]
        self.root, self.config = root, config
        self.command = config["Entrypoint"] + config["Cmd"]
        assert self.command == ["/usr/bin/apig-grpc-gateway", "serve"], self.command
        assert config["User"] == "65532:65532" and set(config["ExposedPorts"]) == {"50051/tcp", "9464/tcp"}, config
        assert config["Labels"]["org.opencontainers.image.licenses"] == "Apache-2.0", config
        self.probe = config["Healthcheck"]["Test"]
        assert self.probe[0] == "CMD", self.probe

    def start(self, command, environment, **options):
        # No network namespace: the ports are those of this machine.
        enter = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private", "sh", "-c", ENTER, "sh"]
        return subprocess.Popen([*enter, self.root, self.config["User"], *command], env={"PATH": os.environ["PATH"], **environment},
                                text=True, **options)

    def run(self, command, environment):
        process = self.start(command, environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        output, _ = process.communicate(timeout=TIMEOUT)
        return process.returncode, output


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def inside(process):
    """The process id of the program, the only child of `unshare`."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert len(children) == 1, children
    return int(children[0])


def main(root, description, program):
    image = Image(root, description)
    with ExitStack() as stack, tempfile.TemporaryDirectory() as folder:
        cloud = subprocess.Popen([program, "emulator", "--listen", "127.0.0.1:0"], stdout=subprocess.PIPE,
                                 stderr=subprocess.DEVNULL, text=True)
        stack.callback(cloud.wait)
        stack.callback(cloud.terminate)
        port = re.search(r"http://127.0.0.1:(\d+)", cloud.stdout.readline()).group(1)

        number = free_port()
        # The cloud by its name, which the C library of the image has to resolve.
        environment = {
            "APIG_GATEWAY_UPSTREAM": f"http://localhost:{port}", "APIG_GATEWAY_LISTEN": f"127.0.0.1:{number}",
            "APIG_GATEWAY_ADMIN_LISTEN": "off", "APIG_GATEWAY_CREDENTIALS": "token", "APIG_GATEWAY_TOKEN": TOKEN,
            "APIG_GATEWAY_TARGET": f"http://127.0.0.1:{number}",
        }
        log = Path(folder) / "log"
        with open(log, "w") as output:
            process = image.start(image.command, environment, stdout=output, stderr=output)
        stack.callback(process.kill)

        began = time.monotonic()
        while (probed := image.run(image.probe[1:], environment))[0] != 0:
            assert time.monotonic() - began < TIMEOUT and process.poll() is None, (probed, log.read_text())
        print("probed:", probed[1].strip())

        gateway = inside(process)
        status = Path(f"/proc/{gateway}/status").read_text()
        assert re.search(r"^Uid:\s+65532\s+65532\s+65532\s+65532$", status, re.MULTILINE), status
        assert re.search(r"^CapEff:\s+0+$", status, re.MULTILINE), status
        mounts = Path(f"/proc/{gateway}/mountinfo").read_text().splitlines()
        roots = [line.split()[5] for line in mounts if line.split()[4] == "/"]
        assert roots and "ro" in roots[-1].split(","), mounts
        print("user 65532 without capabilities, read-only root")

        called = subprocess.run([program, *CALL, "--target", f"http://127.0.0.1:{number}"], capture_output=True, text=True)
        assert called.returncode == 0, called.stderr
        print("called")

        # The certificates of public CAs are found: without any, the client of the cloud can't be set up.
        found = image.start(image.command, {"APIG_GATEWAY_REGION": "cn-north-4", "APIG_GATEWAY_ADMIN_LISTEN": "off",
                                            "APIG_GATEWAY_LISTEN": f"127.0.0.1:{free_port()}", "APIG_GATEWAY_LOG_FORMAT": "json"},
                            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        said = []
        while not any('"serving"' in line for line in said):
            said.append(found.stderr.readline())
            assert said[-1], said
        os.kill(inside(found), signal.SIGTERM)
        assert found.wait(TIMEOUT) == 0

        shell, output = image.run(["/bin/sh", "-c", "true"], environment)
        assert shell != 0, output
        print("no shell")

        os.kill(gateway, getattr(signal, image.config.get("StopSignal", "SIGTERM")))
        assert process.wait(TIMEOUT) == 0, log.read_text()
        assert '"drained"' in log.read_text(), log.read_text()
        print("drained")


if __name__ == "__main__":
    main(*sys.argv[1:])
