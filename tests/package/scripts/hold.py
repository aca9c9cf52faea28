#!/usr/bin/python3
"""A WebSocket client for as long as standard input is open: joins chat:1 at the URL given and prints each message that
it gets as a line, `closed CODE` at the end. In the machine."""

import asyncio
import json
import ssl
import sys

import websockets


async def hold(url):
    context = ssl._create_unverified_context() if url.startswith("wss:") else None
    async with websockets.connect(url, subprotocols=["belfry.v1.json"], ssl=context) as connection:
        await connection.send(json.dumps({"type": "join", "id": 1, "room": "chat:1"}))
        end = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        try:
            while True:
                receive = asyncio.ensure_future(connection.recv())
                await asyncio.wait([receive, end], return_when=asyncio.FIRST_COMPLETED)
                if not receive.done():
                    receive.cancel()
                    return
                print(receive.result(), flush=True)
        except websockets.ConnectionClosed as closed:
            print("closed", closed.code, flush=True)


asyncio.run(hold(sys.argv[1]))
