#!/usr/bin/python3
"""URL ROOM TEXT: joins the room, publishes the text and prints it when it comes back. In the machine."""

import asyncio
import json
import sys

import websockets


async def say(url, room, text):
    async with websockets.connect(url, subprotocols=["belfry.v1.json"], open_timeout=30) as connection:
        await connection.send(json.dumps({"type": "join", "id": 1, "room": room}))
        while True:
            message = json.loads(await connection.recv())
            if message["type"] == "error":
                return message["message"]
            if message["type"] == "ok" and message["id"] == 1:
                await connection.send(json.dumps({"type": "publish", "id": 2, "room": room, "data": text}))
            if message["type"] == "message":
                print(message["data"])
                return None


sys.exit(asyncio.run(asyncio.wait_for(say(*sys.argv[1:]), 60)))
