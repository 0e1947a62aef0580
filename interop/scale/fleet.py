"""The emulated cloud and a fleet of gateways: processes on loopback."""

import asyncio
import json
import os
import re
import socket
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WORK = ROOT / "target/scale"

PROJECT = "73d69ae0cfcf460190522d06b60f05ad"
INSTANCE = "f0fa1789-3b76-433b-a787-9892951c620e"

# For a slow machine; no check waits for it to pass.
TIMEOUT = 60


class Program:
    """A process whose output is kept in target/scale."""

    def __init__(self, name, command):
        self.name, self.command = name, [str(part) for part in command]
        self.log_path, self.process = WORK / "logs" / f"{name}.log", None
        self.fault = None

    async def start(self, pattern):
        """Waits for a line with this pattern; gives the match."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("APIG_GATEWAY_")}
        self.process = await asyncio.create_subprocess_exec(
            *self.command, env=inherited, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self.matched = asyncio.get_running_loop().create_future()
        self.reader = asyncio.create_task(self.read(re.compile(pattern)))
        return await asyncio.wait_for(asyncio.shield(self.matched), TIMEOUT)

    async def read(self, pattern):
        with self.log_path.open("w", buffering=1) as log:
            async for line in self.process.stdout:
                text = line.decode()
                try:
                    log.write(text)
                except OSError as fault:
                    # A full disk. Reading goes on: the end of a process with a full pipe is not noticed.
                    self.fault = fault
                if not self.matched.done() and (found := pattern.search(text)):
                    self.matched.set_result(found)
        if not self.matched.done():
            self.matched.set_exception(AssertionError(f"{self.name} does not start: {self.log_path.read_text()[-2000:]}"))

    async def stop(self):
        """SIGTERM, and a good end."""
        self.process.terminate()
        code = await asyncio.wait_for(self.process.wait(), TIMEOUT)
        await self.reader
        assert not self.fault, f"{self.name}: {self.fault}"
        assert code == 0, f"{self.name}: exit code {code}: {self.log_path.read_text()[-2000:]}"

    async def kill(self):
        if self.process and self.process.returncode is None:
            self.process.kill()
            await self.process.wait()


class Place:
    """A port that stays ours between two gateways that listen at it: it is bound, and nobody listens."""

    def __init__(self):
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.socket.getsockname()[1]}"


class Fleet:
    """Gateways at places of their own, each with a port of the recorder as its cloud and IAM."""

    def __init__(self, program, recorder, size, settings):
        self.program, self.recorder, self.settings = program, recorder, settings
        self.places = [Place() for _ in range(size)]
        self.gateways, self.ports, self.count = [None] * size, [None] * size, 0
        self.password = WORK / "password"
        self.password.write_text("demo-operator-password")

    async def start(self, number):
        port = await self.recorder.add()
        cloud = f"http://127.0.0.1:{port}"
        self.count += 1
        gateway = Program(f"gateway-{self.count:02}", [
            self.program, "serve", "--listen", self.places[number].address, "--admin-listen", "off", "--upstream", cloud,
            "--iam-endpoint", cloud, "--credentials", "password", "--user-name", "operator", "--account-name", "demo-account",
            "--password-file", self.password, "--project-id", PROJECT, "--log-format", "json", *self.settings,
        ])
        self.gateways[number], self.ports[number] = gateway, port
        await gateway.start(r'"message":"serving"')

    async def replace(self, number):
        """Drains a gateway, and waits until its successor has sent a call to the cloud."""
        await self.gateways[number].stop()
        await self.start(number)
        port = self.ports[number]
        await self.recorder.wait_for(lambda: self.recorder.of(("read", "change"), port=port), f"calls at {self.gateways[number].name}")

    @property
    def target(self):
        """All addresses, as a headless service resolves to them."""
        return "ipv4:" + ",".join(place.address for place in self.places)

    async def kill(self):
        for gateway in self.gateways:
            if gateway:
                await gateway.kill()
        for place in self.places:
            place.socket.close()


def world(workers, sharers):
    """The emulator's own world, with a certificate and a domain for each worker, and one certificate for all sharers."""
    text = (ROOT / "crates/emulator/src/world.toml").read_text()
    for name in [*(f"worker-{number}" for number in range(workers)), "shared"]:
        text += f'\n[[certificates]]\nid = "{name}"\nname = "{name}"\nproject = "{PROJECT}"\nhas_trusted_root_ca = false\n'
    for name in [*(f"worker-{number}" for number in range(workers)), *(f"sharer-{number}" for number in range(sharers))]:
        text += (f'\n[[domains]]\nid = "{name}"\nname = "{name}.example.com"\nproject = "{PROJECT}"\n'
                 f'group_id = "92f4b6d08a3e4c71b5d9e0f7a1c8263d"\ngroup_name = "storefront"\ninstances = ["{INSTANCE}"]\n')
    path = WORK / "world.toml"
    path.write_text(text)
    return path


def service_config():
    """The policy of examples/service-config.json, with the calls spread over all addresses."""
    config = json.loads((ROOT / "examples/service-config.json").read_text())
    return json.dumps({**config, "loadBalancingConfig": [{"round_robin": {}}]})
