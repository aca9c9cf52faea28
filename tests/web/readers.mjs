// A few real browser clients under node, for tests/e2e: each joins a room and keeps what it is told. Run as
//
//   node --experimental-websocket readers.mjs URL COUNT ROOMS
//
// Says "ready" when all are in; at each line on standard input, one line of JSON: of each client its messages in the
// order of their coming, and how often it was told bye, gap, and was in.

import {createInterface} from "node:readline";

import {Belfry} from "../../src/web/belfry.js";

const [url, count, rooms] = process.argv.slice(2);
const readers = [];

function read(number) {
    const reader = {room: number % Number(rooms), got: [], byes: 0, gaps: 0, joins: 0, recovered: 0};
    const belfry = new Belfry(url, {onBye: () => reader.byes++});
    const room = belfry.join(`load:${reader.room}`, {
        onMessage: (message) => reader.got.push(Number(/seq=(\d+);/.exec(message.data)[1])),
        onGap: () => reader.gaps++,
        onJoin: (joined) => {
            reader.joins++;
            if (joined.recovered) reader.recovered++;
        },
    });
    readers.push(reader);
    return room.joined;
}

await Promise.all(Array.from({length: Number(count)}, (_, number) => read(number)));
console.log("ready");
for await (const _ of createInterface({input: process.stdin})) console.log(JSON.stringify(readers));
process.exit(0);
