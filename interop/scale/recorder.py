"""A reverse proxy before the emulated cloud, with a port for each gateway: records every request, and loses answers when told to."""

import asyncio
import re
import time
from dataclasses import dataclass

# The largest head: an IAM token has several kB.
LARGEST_HEAD = 64 * 1024


@dataclass
class Request:
    port: int
    kind: str  # iam, read or change
    call: str  # the caller's x-request-id
    began: float
    # The cloud's status; none while it works, or if it could not be reached.
    status: int | None = None
    is_lost: bool = False

    @property
    def is_made(self):
        """Whether the cloud made the change."""
        return self.kind == "change" and self.status == 204


class Recorder:
    def __init__(self, cloud_port):
        self.cloud_port, self.requests, self.servers = cloud_port, [], []
        self.moved = asyncio.Condition()
        # Each so many changes, the answer is lost.
        self.lose_every, self.changes = None, 0
        # The longest time in which this process did not run: requests of that time seem to arrive at its end.
        self.lag = 0.0

    async def add(self):
        """A port for one more gateway."""
        server = await asyncio.start_server(self.serve, "127.0.0.1", 0, limit=LARGEST_HEAD)
        self.servers.append(server)
        return server.sockets[0].getsockname()[1]

    async def watch_lag(self, interval=0.05):
        last = time.monotonic()
        while True:
            await asyncio.sleep(interval)
            now = time.monotonic()
            self.lag, last = max(self.lag, now - last - interval), now

    async def close(self):
        for server in self.servers:
            server.close()

    async def wait_for(self, condition, what, timeout=60):
        """Waits until a condition on the requests is true."""
        async def wait():
            async with self.moved:
                await self.moved.wait_for(condition)
        try:
            await asyncio.wait_for(wait(), timeout)
        except TimeoutError:
            raise AssertionError(f"not within {timeout} s: {what}") from None

    def of(self, kind, since=0.0, until=float("inf"), port=None):
        return [one for one in self.requests
                if one.kind in kind and since <= one.began < until and (port is None or one.port == port)]

    async def serve(self, reader, writer):
        cloud = None
        try:
            cloud = await asyncio.open_connection("127.0.0.1", self.cloud_port, limit=LARGEST_HEAD)
            while await self.exchange(reader, writer, *cloud):
                pass
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            # A peer has left, or the run is over.
            pass
        finally:
            for stream in (writer, cloud and cloud[1]):
                if stream:
                    stream.close()

    async def exchange(self, reader, writer, cloud_reader, cloud_writer):
        """One request; whether the connection goes on."""
        head, body = await message(reader)
        verb, path, _ = head.split(b"\r\n", 1)[0].split(b" ")
        found = re.search(rb"^x-request-id: *(.*?)\r$", head, re.MULTILINE | re.IGNORECASE)
        kind = "iam" if path.startswith(b"/v3/") else "read" if verb == b"GET" else "change"
        request = Request(writer.get_extra_info("sockname")[1], kind, found[1].decode() if found else "", time.monotonic())
        self.requests.append(request)
        cloud_writer.write(head + body)
        await cloud_writer.drain()
        head, body = await message(cloud_reader)
        request.status = int(head.split(b" ", 2)[1])
        if self.lose_every and request.is_made:
            self.changes += 1
            request.is_lost = self.changes % self.lose_every == 0
        async with self.moved:
            self.moved.notify_all()
        if request.is_lost:
            return False
        writer.write(head + body)
        await writer.drain()
        return True


async def message(reader):
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"^content-length: *(\d+)\r$", head, re.MULTILINE | re.IGNORECASE)
    return head, await reader.readexactly(int(length[1])) if length else b""
