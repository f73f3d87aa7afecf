"""A cluster that lives on: mixed load, a fault every 20 s, and what the nodes that lived through it all have grown by.

The faults come by seed, each kind once before any comes again. Nodes that only faults without an end of the process strike
(SIGSTOP, cuts, no way to the providers) are the long-lived ones, half of the cluster rounded down; the others are killed, restarted and replaced too.

It ends with 1 when a request failed that no fault excuses, when a fault did not heal, or when a long-lived node grew: in
memory, descriptors, threads or tasks, sampled every few seconds for as long as its one process lives (see growth.py).
"""

import collections
import itertools
import json
import os
import random
import re
import shutil
import threading
import time
from pathlib import Path

from faults import Traffic, Window, isolate, kill, replace, restart, stop, uplink
from growth import WARM, growth
from report import SPEEDS, Owners, drains, measure, p99, split
from world import Node, World

EVERY = 20
# Tens of requests a second: the soak is about time, not load. Every second client is translated between dialects.
LOAD = ["--whole", "4", "--brief", "2", "--streams", "12", "--pause", "0.15", "--mixed"]


class Sampler(threading.Thread):
    """What each process of a node has, every 2 s."""

    def __init__(self, world):
        super().__init__(daemon=True)
        self.world, self.began, self.samples = world, time.time(), {}
        self.start()

    def run(self):
        for turn in itertools.count():
            for node in list(self.world.nodes.values()):
                process = node.process
                if process and process.poll() is None and (seen := self.look(process.pid)):
                    # A question costs more than a look: it is asked now and then.
                    if turn % 2 == 0:
                        seen |= self.tasks(node)
                    key = (node.name, process.pid)
                    self.samples.setdefault(key, []).append((time.time() - self.began, seen))
            time.sleep(2)

    @staticmethod
    def tasks(node):
        status, page = node.ask("/metrics", timeout=1) or (0, "")
        counts = re.findall(r"^troupe_tasks\{.*\} (\d+)$", page, re.M)
        return {"tasks": sum(map(int, counts))} if status == 200 and counts else {}

    @staticmethod
    def look(pid):
        proc = Path(f"/proc/{pid}")
        try:
            sizes = dict(re.findall(r"^(VmRSS|RssAnon):\s+(\d+) kB$", (proc / "status").read_text(), re.M))
            return {
                "rss_kib": int(sizes["VmRSS"]),
                # Without the program's own pages, which come as they are first run.
                "own_kib": int(sizes["RssAnon"]),
                "descriptors": sum(1 for _ in (proc / "fd").iterdir()),
                "threads": sum(1 for _ in (proc / "task").iterdir()),
            }
        except (OSError, KeyError):
            return None


class Writer(threading.Thread):
    """Changes at one node after another, so that the log and the audit live, too.

    At first many, for what has a bound (the latest thousand lines of the audit) to be full when the base is taken.
    """

    def __init__(self, world, warm):
        super().__init__(daemon=True)
        self.world, self.made, self.failed, self.is_done = world, 0, 0, False
        self.warm_until = time.time() + warm
        self.start()

    def run(self):
        at = 0
        while not self.is_done:
            at += 1
            running = [node for node in list(self.world.nodes.values()) if node.process]
            node = running[at % len(running)]
            for words in (["create", f"soak-{at}"], ["delete", f"soak-{at}"]):
                done = self.world.cli(node.number, "key", *words, check=False)
                self.made, self.failed = self.made + (not done.returncode), self.failed + bool(done.returncode)
            time.sleep(0.05 if time.time() < self.warm_until else 5)


def again(world, old):
    """A node takes another's place: in the seat that is free, with nothing on its disk."""
    seat = next((number for number, node in world.nodes.items() if not node.process), None)
    if seat is None:
        new = world.add(world.count + 1)
    else:
        shutil.rmtree(world.nodes[seat].data, ignore_errors=True)
        world.nodes[seat] = new = Node(world, seat)
    return replace(world, old, new)


def faults(world, chance, steady):
    """Kinds of faults without end, and how each is done to a node drawn for it."""
    alive = lambda: [node for node in world.nodes.values() if node.process]
    anyone = lambda: chance.choice(alive())
    mortal = lambda: chance.choice([node for node in alive() if node.name not in steady])
    kinds = {
        "kill": lambda: kill(world, mortal(), away=3),
        "stop": lambda: stop(world, anyone()),
        "both": lambda: isolate(world, True, anyone()),
        "one": lambda: isolate(world, False, anyone()),
        "uplink": lambda: uplink(world, anyone()),
        "restart": lambda: restart(world, mortal()),
        "replace": lambda: again(world, mortal()),
    }
    while True:
        for kind in chance.sample(sorted(kinds), len(kinds)):
            yield kind, kinds[kind]


def table(rows):
    widths = [max(len(str(row[column])) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(str(cell).ljust(width) for cell, width in zip(row, widths)).rstrip())


def told(seen, grown, lives, steady, totals):
    """Prints what was seen; gives how much of it is wrong."""
    wrong = 0
    rows = [("fault", "s", "answered", "streams", "failed", "last after s", "again", "p99 ms", "first p99 ms", "at drains", "wrong")]
    for one in seen:
        rows.append((
            one["name"], one["seconds"] or "-", one["answered"], one["streams"], one["failed"], one["failed_last_s"] or "-",
            one["again"], *(one["speeds"][kind][0] for kind in SPEEDS), one["streams_at_drains"], len(one["wrong"])))
    table(rows)
    for one in seen:
        for line in one["wrong"]:
            print(f"WRONG in {one['name']}: {line}")
            wrong += 1
    print()
    rows = [("node", "what", "floors, part by part", "gained", "at most", "verdict")]
    for name, measures in grown.items():
        for key, at in measures.items():
            levels = " ".join("-" if level is None else f"{level:.0f}" for level in at["floors"])
            rows.append((name, key, levels, at["gained"], at["most"], f"WRONG {at['wrong']}" if at["wrong"] else "ok"))
            wrong += bool(at["wrong"])
    table(rows)
    for name in steady:
        if name not in grown:
            print(f"WRONG {name} did not live through it")
            wrong += 1
    print(f"processes of other nodes: {lives['count']}, largest {lives['rss_kib_max'] / 1024:.0f} MiB; {totals}")
    return wrong


def drive(world, seconds, seed, steady):
    """Faults every 20 s until the time is over. One that does not heal ends it."""
    began, windows = time.time(), []
    for number, (_, fault) in enumerate(faults(world, random.Random(seed), steady), 1):
        at = began + number * EVERY
        if at + EVERY > began + seconds:
            break
        time.sleep(max(0, at - time.time()))
        begun = time.time()
        try:
            windows.append(fault())
        except RuntimeError as error:
            window = Window(None, f"fault {number}")
            window.began, window.ended = begun, time.time()
            window.wrong(f"it did not heal: {error}")
            return windows + [window]
    time.sleep(max(0, began + seconds - time.time()))
    return windows


def soak(args):
    seed = args.seed if args.seed is not None else random.SystemRandom().randrange(1 << 32)
    print(f"soak of {args.soak:g} minutes, a fault every {EVERY} s, --seed {seed}", flush=True)
    began = time.time()
    with World(args.bin, args.haproxy, args.nodes) as world:
        steady = [f"gw-{number}" for number in range(1, args.nodes // 2 + 1)]
        pids = {name: world.nodes[int(name[3:])].process.pid for name in steady}
        traffic, sampler, writer = Traffic(world, LOAD), Sampler(world), Writer(world, args.soak * 60 / 10)
        windows = drive(world, args.soak * 60, seed, steady)
        length = time.time() - sampler.began
        writer.is_done = True
        lines = traffic.end()
        owners, draining = Owners(world.connections()), list(drains(world))
        seen = [measure(window, mine, lines, owners, draining) for window, mine in split(windows, lines)]
        answered = [line for line in lines if line["ok"]]
        calls = collections.Counter(owners.of(line)[0] for line in answered if line["ended"] > sampler.began + length * WARM)
        grown = {
            name: growth(sampler.samples[name, pid], length, calls[name]) for name, pid in pids.items()
            if world.nodes[int(name[3:])].process.poll() is None
        }
        others = [seen for key, samples in sampler.samples.items() if key[0] not in steady for _, seen in samples]
        lives = {
            "count": sum(key[0] not in steady for key in sampler.samples),
            "rss_kib_max": max((seen["rss_kib"] for seen in others), default=0),
        }
        totals = (
            f"{len(answered)} requests answered, {len(lines) - len(answered)} failed on nodes that a fault struck or otherwise, "
            f"p99 of all {p99([line['ended'] - line['began'] for line in answered if line['kind'] == 'whole']) * 1000:.0f} ms; "
            f"{writer.made} changes made, {writer.failed} refused; "
            f"answered behind the first {length * WARM:.0f} s: {', '.join(f'{calls[name]} by {name}' for name in steady)}"
        )
        wrong = told(seen, grown, lives, steady, totals)
        if not writer.made:
            print("WRONG no change was made")
            wrong += 1
        path = args.json or Path(os.environ.get("TROUPE_CI_LOGS", "/tmp")) / "soak.json"
        path.write_text(json.dumps({
            "minutes": args.soak, "seed": seed, "nodes": args.nodes, "faults": seen, "grown": grown, "others": lives,
            "changes": {"made": writer.made, "refused": writer.failed}, "wrong": wrong,
            "samples": {f"{name} {pid}": samples for (name, pid), samples in sampler.samples.items()},
        }, indent=1))
        print(f"JSON: {path}")
        if wrong or args.keep_logs:
            print(f"logs: {world.keep_logs()}")
    print(f"{'FAILED' if wrong else 'ok'} in {time.time() - began:.0f} s, --seed {seed}")
    return 1 if wrong else 0
