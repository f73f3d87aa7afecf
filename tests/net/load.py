"""Chat traffic on connections that are kept and on new ones. Writes one JSON line for each request.

Three kinds: `whole` answers, `brief` streams that end at once (what the time to the first token is measured by), and
`stream`s of two seconds (what is under way when something happens).

A request that ends without a byte of an answer on a connection that had one before is sent once more on a new one, as
every HTTP client does: the server may close an idle connection at the moment it is used. `again` says when that was and
on which connection, so that a node that had no reason to close it is found.
"""

import argparse
import asyncio
import json
import random
import signal
import sys
import time

WORDS = 40


class Broken(Exception):
    """What became of a request: whether any of its answer came, and whether its connection is of use still."""

    def __init__(self, why, answered, is_kept=False):
        super().__init__(why)
        self.why, self.answered, self.is_kept = why, answered, is_kept


class Connection:
    def __init__(self, reader, writer):
        self.reader, self.writer, self.used = reader, writer, 0
        self.port = writer.get_extra_info("sockname")[1]

    @property
    def stale(self):
        return self.reader.at_eof() or self.writer.is_closing()

    def close(self):
        self.writer.close()


async def connect(host, port):
    try:
        return Connection(*await asyncio.wait_for(asyncio.open_connection(host, port), 5))
    except (OSError, asyncio.TimeoutError) as error:
        raise Broken(f"connect: {error!r}", False) from error


async def exchange(conn, key, model, stream):
    """Sends one request and reads its whole answer; gives the time of the first content."""
    conn.used += 1
    body = json.dumps({"model": model, "stream": bool(stream), "messages": [{"role": "user", "content": "hello"}]})
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nhost: troupe\r\ncontent-type: application/json\r\n"
        f"authorization: Bearer {key}\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    answered = False
    try:
        conn.writer.write(head.encode() + body.encode())
        await conn.writer.drain()
        head = await conn.reader.readuntil(b"\r\n\r\n")
        answered = True
        lines = head.decode().split("\r\n")
        status = int(lines[0].split(" ")[1])
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        first, parts = None, []
        if "content-length" in headers:
            parts.append(await conn.reader.readexactly(int(headers["content-length"])))
            first = time.time()
        elif headers.get("transfer-encoding") == "chunked":
            while True:
                size = int(await conn.reader.readuntil(b"\r\n"), 16)
                chunk = (await conn.reader.readexactly(size + 2))[:size]
                if not size:
                    break
                first = first or time.time()
                parts.append(chunk)
        else:
            raise Broken("an answer without a length", True)
        if headers.get("connection", "").lower() == "close":
            conn.close()
    except (OSError, EOFError, asyncio.IncompleteReadError, ValueError) as error:
        raise Broken(f"{type(error).__name__}: {error}", answered) from error
    check(status, b"".join(parts).decode(), stream)
    return first


def check(status, text, stream):
    if status != 200:
        # The whole answer came: clients keep the connection, also if what it says is an error.
        raise Broken(f"status {status}: {text[:200]}", True, is_kept=True)
    want = [f"w{n}" for n in range(WORDS if stream == "stream" else 10)]
    if not stream:
        words = json.loads(text)["choices"][0]["message"]["content"].split()
    else:
        events = [line[6:] for line in text.split("\n") if line.startswith("data: ")]
        if not events or events[-1] != "[DONE]":
            raise Broken("the stream broke off", True)
        pieces = [json.loads(event)["choices"] for event in events[:-1]]
        words = "".join(piece[0]["delta"].get("content") or "" for piece in pieces if piece).split()
    if words != want:
        raise Broken(f"{len(words)} of {len(want)} words, or in another order", True)


async def worker(args, model, kind, stop, out):
    stream = kind if kind != "whole" else None
    model += f"+words={WORDS}+drip=50ms" if kind == "stream" else ""
    conn = None
    while not stop.is_set():
        # Some clients come anew each time; more of those whose requests are few, so that no node is without.
        if conn and (conn.stale or random.random() < (0.25 if kind == "stream" else 0.1)):
            conn.close()
            conn = None
        line = {"kind": kind, "began": time.time(), "again": None}
        try:
            while True:
                conn = conn or await connect(args.host, args.port)
                line["port"], reused = conn.port, conn.used > 0
                try:
                    first = await asyncio.wait_for(exchange(conn, args.key, model, stream), 30)
                    line.update(ok=True, first=first)
                    break
                except Broken as broken:
                    if not broken.is_kept:
                        conn.close()
                        conn = None
                    if broken.answered or not reused or line["again"]:
                        raise
                    line["again"] = {"port": line["port"], "began": line["began"], "ended": time.time(), "why": broken.why}
        except (Broken, asyncio.TimeoutError) as error:
            line.update(ok=False, why=getattr(error, "why", "no whole answer within 30 s"))
            if conn and not getattr(error, "is_kept", False):
                conn.close()
                conn = None
        line["ended"] = time.time()
        out.write(json.dumps(line) + "\n")
        if not line["ok"]:
            await asyncio.sleep(0.2)
        elif kind != "stream":
            await asyncio.sleep(args.pause)


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--key", required=True)
    parser.add_argument("--whole", type=int, default=10)
    parser.add_argument("--brief", type=int, default=6)
    parser.add_argument("--streams", type=int, default=18)
    parser.add_argument("--pause", type=float, default=0.04)
    parser.add_argument("--mixed", action="store_true", help="every second client's calls are translated for their provider")
    args = parser.parse_args()
    stop = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    model = lambda number: "translated" if args.mixed and number % 2 else "chat"
    kinds = {"whole": args.whole, "brief": args.brief, "stream": args.streams}
    await asyncio.gather(*(
        worker(args, model(number), kind, stop, sys.stdout) for kind, count in kinds.items() for number in range(count)))
    sys.stdout.flush()


asyncio.run(main())
