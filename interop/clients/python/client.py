"""Python's gRPC as a client of the interop protocol: `client.py [--asyncio]`."""

import asyncio
import json
import sys
import threading
import traceback

import grpc
from grpc import aio
from grpc_health.v1 import health_pb2_grpc

import protocol


class Sync:
    def __init__(self):
        self.channels = {}

    def channel(self, request):
        key = protocol.channel_key(request)
        if key not in self.channels:
            options = protocol.channel_options(request)
            tls = request.get("tls")
            self.channels[key] = (
                grpc.secure_channel(request["target"], protocol.credentials(tls), options) if tls
                else grpc.insecure_channel(request["target"], options)
            )
        return self.channels[key]

    def answer(self, request):
        return getattr(self, request["action"])(self.channel(request), request)

    def call(self, channel, request):
        method = protocol.Method(request)
        stub = channel.unary_unary(method.path, method.serializer, method.deserializer)
        call = stub.future(method.message, **protocol.call_options(request))
        if "cancel_after_ms" in request:
            threading.Timer(request["cancel_after_ms"] / 1000, call.cancel).start()
        try:
            return protocol.answered(call.result(), call.initial_metadata(), call.trailing_metadata())
        except grpc.RpcError:
            return protocol.refused(call)
        except grpc.FutureCancelledError:
            return protocol.refused(call)

    def health(self, channel, request):
        stub = health_pb2_grpc.HealthStub(channel)
        try:
            response = stub.Check(protocol.health_request(request), **protocol.call_options(request))
        except grpc.RpcError as error:
            return protocol.refused(error)
        return {"code": "OK", "statuses": [protocol.status_name(response)]}

    def watch(self, channel, request):
        stream = health_pb2_grpc.HealthStub(channel).Watch(protocol.health_request(request))
        statuses = []
        try:
            for response in stream:
                statuses.append(protocol.status_name(response))
                if len(statuses) == request["count"]:
                    stream.cancel()
                    break
        except grpc.RpcError as error:
            return {**protocol.refused(error), "statuses": statuses}
        return {"code": "OK", "statuses": statuses}

    def reflect(self, channel, request):
        call = channel.stream_stream(*protocol.reflection_arguments(request["version"]))
        try:
            [response] = call(iter([protocol.LIST_SERVICES]))
        except grpc.RpcError as error:
            return protocol.refused(error)
        return {"code": "OK", "services": protocol.service_names(response)}


class Asyncio:
    def __init__(self):
        self.channels = {}

    def channel(self, request):
        key = protocol.channel_key(request)
        if key not in self.channels:
            options = protocol.channel_options(request)
            tls = request.get("tls")
            self.channels[key] = (
                aio.secure_channel(request["target"], protocol.credentials(tls), options) if tls
                else aio.insecure_channel(request["target"], options)
            )
        return self.channels[key]

    async def answer(self, request):
        return await getattr(self, request["action"])(self.channel(request), request)

    async def call(self, channel, request):
        method = protocol.Method(request)
        stub = channel.unary_unary(method.path, method.serializer, method.deserializer)
        call = stub(method.message, **protocol.call_options(request))
        if "cancel_after_ms" in request:
            asyncio.get_running_loop().call_later(request["cancel_after_ms"] / 1000, call.cancel)
        try:
            response = await call
            return protocol.answered(response, await call.initial_metadata(), await call.trailing_metadata())
        except aio.AioRpcError as error:
            return protocol.refused(error)
        except asyncio.CancelledError:
            return {"code": (await call.code()).name, "message": await call.details(), "details": []}

    async def health(self, channel, request):
        stub = health_pb2_grpc.HealthStub(channel)
        try:
            response = await stub.Check(protocol.health_request(request), **protocol.call_options(request))
        except aio.AioRpcError as error:
            return protocol.refused(error)
        return {"code": "OK", "statuses": [protocol.status_name(response)]}

    async def watch(self, channel, request):
        stream = health_pb2_grpc.HealthStub(channel).Watch(protocol.health_request(request))
        statuses = []
        try:
            async for response in stream:
                statuses.append(protocol.status_name(response))
                if len(statuses) == request["count"]:
                    stream.cancel()
                    break
        except aio.AioRpcError as error:
            return {**protocol.refused(error), "statuses": statuses}
        return {"code": "OK", "statuses": statuses}

    async def reflect(self, channel, request):
        call = channel.stream_stream(*protocol.reflection_arguments(request["version"]))
        try:
            [response] = [response async for response in call([protocol.LIST_SERVICES])]
        except aio.AioRpcError as error:
            return protocol.refused(error)
        return {"code": "OK", "services": protocol.service_names(response)}


def failed():
    return {"failed": traceback.format_exc()}


def reply(answer):
    print(json.dumps(answer), flush=True)


def sync_main():
    client = Sync()
    for line in sys.stdin:
        try:
            answer = client.answer(json.loads(line))
        except Exception:
            answer = failed()
        reply(answer)


async def async_main():
    client = Asyncio()
    # The event loop goes on while no request comes: connections live there.
    while line := await asyncio.to_thread(sys.stdin.readline):
        try:
            answer = await client.answer(json.loads(line))
        except Exception:
            answer = failed()
        reply(answer)


if __name__ == "__main__":
    if sys.argv[1:] == ["--asyncio"]:
        asyncio.run(async_main())
    else:
        sync_main()
