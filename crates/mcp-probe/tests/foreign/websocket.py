"""Guide 002's kind of WebSocket server: messages of its own, of which a ping is one. Prints its port."""

import asyncio
import json
import os

from websockets.asyncio.server import serve


async def handle(socket):
    async for text in socket:
        message = json.loads(text)
        if message.get("type") == "ping":
            await socket.send(json.dumps({"type": "pong", "id": message["id"]}))
        elif "TALKATIVE" in os.environ:
            await socket.send(json.dumps({"type": "error", "error": "unknown message type"}))


async def main():
    async with serve(handle, "127.0.0.1", 0) as server:
        print(f"port {server.sockets[0].getsockname()[1]}", flush=True)
        await server.serve_forever()


asyncio.run(main())
