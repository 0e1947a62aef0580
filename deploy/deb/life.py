"""The life of an installed service, with this program in systemd's place: it reads the unit's file, gives the service the user,
credentials, sockets and limits that the unit asks for, and is told about start and stop.

    life.py UPGRADE.deb

What it can't stand in for is the sandbox; in its place the system calls of the service are compared with the unit's filter.
"""

import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from contextlib import ExitStack
from pathlib import Path

NAME = "apig-grpc-gateway"
PROGRAM = f"/usr/bin/{NAME}"
SETTINGS = Path(f"/etc/{NAME}")
CREDENTIALS = Path(f"/run/credentials/{NAME}.service")
# Of the range of DynamicUser=.
USER = 61999
TOKEN = "demo-operator-token"
NAMED = ["--project-id", "73d69ae0cfcf460190522d06b60f05ad", "--certificate-id", "a27be832f2e9441c8127fe48e3b5ac67"]
ATTACH = ["attach", *NAMED, "--domain", "www.example.com", "--instance-id", "f0fa1789-3b76-433b-a787-9892951c620e"]
READ = ["attached", *NAMED]
# For a slow machine; no check waits for it to pass.
TIMEOUT = 60
CALLERS = 4


def unit():
    """The settings of the installed service, each with the list of its values."""
    settings = {}
    for line in Path(f"/usr/lib/systemd/system/{NAME}.service").read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            key, value = line.split("=", 1)
            settings.setdefault(key, []).append(value)
    return settings


def load_credentials(settings):
    """Copies files, and files of folders, as LoadCredential= does."""
    shutil.rmtree(CREDENTIALS, ignore_errors=True)
    CREDENTIALS.mkdir(parents=True)
    for entry in settings["LoadCredential"]:
        name, path = entry.split(":", 1)
        path = Path(path)
        files = {f"{name}_{file.name}": file for file in path.iterdir()} if path.is_dir() else {name: path}
        for copy, file in files.items():
            shutil.copyfile(file, CREDENTIALS / copy)
            os.chmod(CREDENTIALS / copy, 0o400)
            os.chown(CREDENTIALS / copy, USER, USER)
    os.chmod(CREDENTIALS, 0o500)
    os.chown(CREDENTIALS, USER, USER)


def forget_credentials():
    shutil.rmtree(CREDENTIALS, ignore_errors=True)
    if CREDENTIALS.parent.exists() and not any(CREDENTIALS.parent.iterdir()):
        CREDENTIALS.parent.rmdir()


class Service:
    """The service, with the sockets that a socket unit would hold for it."""

    def __init__(self, folder, listener=None):
        self.settings = unit()
        self.listener = listener
        self.manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        path = folder / "notify"
        path.unlink(missing_ok=True)
        self.manager.bind(str(path))
        os.chmod(path, 0o777)
        self.manager.settimeout(TIMEOUT)
        self.log = folder / "log"
        self.environment = {"PATH": "/usr/bin:/bin", "NOTIFY_SOCKET": str(path), "CREDENTIALS_DIRECTORY": str(CREDENTIALS)}

    def start(self, *before):
        assert self.settings["Type"] == ["notify"] and self.settings["DynamicUser"] == ["yes"]
        load_credentials(self.settings)
        [line] = self.settings["ExecStart"]
        command = line.replace("${CREDENTIALS_DIRECTORY}", str(CREDENTIALS)).split()
        drop = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--no-new-privs", "--bounding-set=-all",
                "--inh-caps=-all", "--ambient-caps=-all"]
        # The shell has the process id that every program after it keeps.
        shell = ["/bin/sh", "-c", 'exec 3<&0 </dev/null; LISTEN_PID=$$ exec "$@"', "sh"] if self.listener else []
        passed = {"LISTEN_FDS": "1", "LISTEN_FDNAMES": "grpc"} if self.listener else {}

        def prepare():
            os.umask(int(self.settings["UMask"][0], 8))
            limit = int(self.settings["LimitNOFILE"][0])
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

        with open(self.log, "ab") as log:
            self.process = subprocess.Popen([*before, *shell, *drop, *command], env={**self.environment, **passed}, cwd="/",
                                            preexec_fn=prepare, stdin=self.listener or subprocess.DEVNULL, stdout=log, stderr=log)
        assert self.told() == "READY=1"

    def told(self):
        try:
            return self.manager.recv(256).decode()
        except TimeoutError:
            raise AssertionError(f"no notification; the log: {self.log.read_text()}") from None

    def reload(self):
        assert self.settings["ExecReload"] == ["/bin/kill -s HUP $MAINPID"]
        os.kill(self.process.pid, signal.SIGHUP)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        assert self.told() == "STOPPING=1"
        assert self.process.wait(int(self.settings["TimeoutStopSec"][0])) == 0, self.log.read_text()


class Callers:
    """Programs that call one after the other, until they are stopped.

    A process that ends closes connections whose handshake is not complete. Libraries connect again and so do these programs: at
    most once a call.
    """

    def __init__(self, program, target):
        self.command = [program, *READ, "--target", target]
        self.done, self.repeats, self.failures = 0, 0, []
        self.lock, self.stopped, self.moved = threading.Lock(), threading.Event(), threading.Condition()
        self.threads = [threading.Thread(target=self.run) for _ in range(CALLERS)]
        for thread in self.threads:
            thread.start()

    def run(self):
        while not self.stopped.is_set():
            result = self.call()
            is_broken = result.returncode != 0 and "transport error" in result.stdout + result.stderr
            if is_broken:
                result = self.call()
            with self.moved:
                self.repeats += is_broken
                self.done += 1
                if result.returncode:
                    self.failures.append(result.stdout + result.stderr)
                self.moved.notify_all()

    def call(self):
        return subprocess.run(self.command, capture_output=True, text=True, timeout=TIMEOUT)

    def more(self, number):
        """Waits for as many further calls."""
        with self.moved:
            wanted = self.done + number
            assert self.moved.wait_for(lambda: self.done >= wanted, TIMEOUT)

    def stop(self):
        self.stopped.set()
        for thread in self.threads:
            thread.join()
        assert not self.failures, self.failures[0]
        return self.done, self.repeats


def port():
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(4096)
    return listener, listener.getsockname()[1]


def free_port():
    listener, number = port()
    listener.close()
    return number


def call(program, target, *arguments):
    return subprocess.run([program, *arguments, "--target", target], capture_output=True, text=True, timeout=TIMEOUT)


def allowed_calls(settings):
    """The system calls of the unit's filter."""
    def members(group):
        if not group.startswith("@"):
            return {group}
        listed = subprocess.run(["systemd-analyze", "syscall-filter", group], capture_output=True, text=True, check=True)
        names = [line.strip() for line in listed.stdout.splitlines()[1:] if line.strip() and not line.strip().startswith("#")]
        return set().union(*(members(name) for name in names))

    allowed = set()
    for line in settings["SystemCallFilter"]:
        denies, groups = line.startswith("~"), line.removeprefix("~").split()
        for group in groups:
            allowed = allowed - members(group) if denies else allowed | members(group)
    return allowed


def main(upgrade):
    with ExitStack() as stack, tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        os.chmod(folder, 0o755)
        # Callers and the emulated cloud are not what is upgraded.
        program = str(folder / "caller")
        shutil.copy(PROGRAM, program)
        stack.callback(forget_credentials)

        cloud = subprocess.Popen([program, "emulator", "--listen", "127.0.0.1:0"], stdout=subprocess.PIPE,
                                 stderr=subprocess.DEVNULL, text=True)
        stack.callback(cloud.wait)
        stack.callback(cloud.terminate)
        upstream = re.search(r"http://\S+", cloud.stdout.readline()).group()

        packaged = SETTINGS / "gateway.toml"
        assert packaged.stat().st_mode & 0o777 == 0o600 and (SETTINGS / "secrets").stat().st_mode & 0o777 == 0o700
        checked = subprocess.run([PROGRAM, "check", "--config", packaged], capture_output=True, text=True)
        assert checked.returncode == 0, checked.stderr

        number = free_port()
        original = packaged.read_text()
        packaged.write_text("\n".join([
            f'upstream = "{upstream}"', f'listen = "127.0.0.1:{number}"', 'admin_listen = "off"', 'credentials = "token"',
            f'token_file = "{CREDENTIALS}/secrets_token"', ""]))
        (SETTINGS / "secrets/token").write_text(TOKEN)

        service = Service(folder)
        trace = folder / "trace"
        tracer = shutil.which("strace")
        assert tracer, "strace is missing"
        service.start(tracer, "--follow-forks", "--quiet=all", "--output", str(trace), "-D")
        target = f"http://127.0.0.1:{number}"
        result = call(program, target, *ATTACH)
        assert result.returncode == 0, result.stderr
        result = call(program, target, *READ)
        assert result.returncode == 0 and "www.example.com" in result.stdout, result.stderr
        status = Path(f"/proc/{service.process.pid}/status").read_text()
        assert re.search(rf"^Uid:\s+{USER}\s", status, re.MULTILINE), status
        service.reload()
        assert call(program, target, "health").returncode == 0
        service.stop()
        print("started from the unit, called, reloaded, stopped")

        # From the program's own start on: what setpriv and the shell do is no call of the service.
        lines = trace.read_text().splitlines()
        first = max(at for at, line in enumerate(lines) if f'execve("{PROGRAM}"' in line)
        used = {match.group(1) for line in lines[first:] if (match := re.match(r"\d+\s+(\w+)\(", line))}
        assert {"execve", "accept4", "socket", "exit_group"} <= used, used
        refused = used - allowed_calls(service.settings)
        assert not refused, f"the unit's filter refuses {sorted(refused)}"
        print(f"{len(used)} system calls, all within the unit's filter")

        # The tool of systemd itself.
        service = Service(folder)
        number = free_port()
        activate = ["systemd-socket-activate", f"--listen=127.0.0.1:{number}", "--fdname=grpc"]
        activate += [f"--setenv={key}={value}" for key, value in service.environment.items()]
        starting = threading.Thread(target=service.start, args=activate)
        starting.start()
        target = f"http://127.0.0.1:{number}"
        wait_for_listener(number)
        result = call(program, target, *READ)
        assert result.returncode == 0, result.stderr
        starting.join()
        service.stop()
        print("started by systemd-socket-activate at the first call")

        listener, number = port()
        stack.callback(listener.close)
        service = Service(folder, listener)
        service.start()
        callers = Callers(program, f"http://127.0.0.1:{number}")
        callers.more(20)
        # dpkg keeps the changed configuration without a question, as the package's own has not changed.
        subprocess.run(["dpkg", "--install", upgrade], check=True, capture_output=True)
        assert packaged.read_text() != original
        service.stop()
        service.start()
        callers.more(20)
        version = subprocess.run(["dpkg-query", "--show", "--showformat=${Version}", NAME], capture_output=True, text=True)
        assert version.stdout == "99.0.0-1", version
        service.stop()
        service.start()
        callers.more(20)
        done, repeats = callers.stop()
        service.stop()
        # Each caller has one connection, and there were two restarts.
        assert repeats <= 2 * CALLERS, f"{repeats} broken connections"
        print(f"upgraded and restarted under {done} calls, none refused, {repeats} connections broken in their handshake")


def wait_for_listener(number):
    """Waits until a port listens, and opens no connection, which would start the service."""
    suffix = f":{number:04X} 00000000:0000 0A"
    for _ in range(TIMEOUT * 100):
        if suffix in Path("/proc/net/tcp").read_text():
            return
        threading.Event().wait(0.01)
    raise AssertionError(f"nothing listens on port {number}")


if __name__ == "__main__":
    main(sys.argv[1])
