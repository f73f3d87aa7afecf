"""Faults under chat traffic: what fails, and whose it was. See `run`."""

import argparse
import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from world import KEY, World, sh, until

HERE = Path(__file__).resolve().parent


class Traffic:
    """Clients of the balancer, from its start to its end."""

    def __init__(self, world):
        self.world, self.file = world, open(world.dir / "load.jsonl", "w")
        self.process = world.spawn(world.hub, [sys.executable, HERE / "load.py", "--key", KEY], stdout=self.file)

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(40)
        self.world.haproxy.send_signal(signal.SIGUSR1)
        time.sleep(0.5)
        self.world.haproxy.kill()
        self.world.haproxy.wait()
        return [json.loads(line) for line in open(self.world.dir / "load.jsonl")]


class Keeper(threading.Thread):
    """What starts a node again when it ends, as systemd would."""

    def __init__(self, world):
        super().__init__(daemon=True)
        self.world, self.ends = world, []
        self.start()

    def run(self):
        while True:
            for node in list(self.world.nodes.values()):
                if node.kept and node.process and node.process.poll() is not None:
                    self.ends.append((node.name, node.process.returncode))
                    node.start()
            time.sleep(0.1)


class Window:
    """A fault: from when to when, and which node's failures it excuses."""

    def __init__(self, name, excused=()):
        self.name, self.excused, self.began, self.ended = name, set(excused), time.time(), None
        self.notes = []

    def __enter__(self):
        print(f"-- {self.name}", flush=True)
        return self

    def __exit__(self, *error):
        self.ended = time.time()


def p99(values):
    values = sorted(values)
    return values[min(len(values) - 1, len(values) * 99 // 100)] if values else float("nan")


def cut(world, node, both):
    """Packets of a node to the others go nowhere, and theirs to it if `both`."""
    others = [other for other in world.nodes.values() if other is not node]
    for other in others:
        world.inside(node.ns, "ip", "route", "add", "blackhole", f"{other.ip}/32")
        if both:
            world.inside(other.ns, "ip", "route", "add", "blackhole", f"{node.ip}/32")


def heal(world):
    for one in world.nodes.values():
        for other in world.nodes.values():
            world.inside(one.ns, "ip", "route", "del", "blackhole", f"{other.ip}/32", check=False)


def calm(world):
    with Window("calm") as window:
        time.sleep(8)
    return window


def kill(world):
    node = world.leader
    with Window(f"leader killed with -9: {node.name}", [node.name]) as window:
        node.kill()
        time.sleep(5)
        node.start()
        world.whole()
    return window


def stop(world):
    node = world.leader
    with Window(f"leader SIGSTOPped: {node.name}", [node.name]) as window:
        node.signal(signal.SIGSTOP)
        time.sleep(6)
        node.signal(signal.SIGCONT)
        world.whole()
    return window


def isolate(world, both):
    node = world.follower()
    with Window(f"follower cut off from the other nodes, {'both ways' if both else 'one way'}: {node.name}") as window:
        cut(world, node, both)
        time.sleep(6)
        status = node.json("/admin/v1/cluster")
        if (status.get("confirmed_ms") or 1e9) < 3000:
            window.notes.append(f"WRONG {node.name} is not cut off: {status}")
        if not node.ready:
            window.notes.append(f"WRONG {node.name} is unready, though it serves from what it has")
        heal(world)
        world.whole()
    return window


def rolling(world, keeper, program=None):
    what = "rolling restart" if program is None else "rolling upgrade"
    with Window(what) as window:
        for node in world.nodes.values():
            node.kept = True
            node.program = program or node.program
        before = {node.name: node.starts for node in world.nodes.values()}
        done = world.cli(1, "cluster", "rolling-restart", "--within", "60s", check=False)
        for node in world.nodes.values():
            node.kept = False
        if done.returncode:
            window.notes.append(f"WRONG rolling-restart ended with {done.returncode}: {done.stderr}")
        for node in world.nodes.values():
            if node.starts != before[node.name] + 1:
                window.notes.append(f"WRONG {node.name} was started {node.starts - before[node.name]} times")
        wrong = [end for end in keeper.ends if end[1] != 0]
        if wrong:
            window.notes.append(f"WRONG a drain did not end with 0: {wrong}")
        keeper.ends.clear()
        world.whole()
    return window


def replace(world):
    """A node leaves for ever, and another one comes and gets its vote."""
    old, new = world.follower(), world.add(world.count + 1)
    with Window(f"{old.name} leaves, {new.name} joins in its place") as window:
        new.start()
        until(f"{new.name} is let in\n{new.log()}", 40, lambda: new.ready)
        done = world.cli(old.number, "cluster", "leave", "--by", new.name, check=False)
        if done.returncode:
            window.notes.append(f"WRONG leave: {done.stderr}")
        try:
            code = old.process.wait(40)
            if code:
                window.notes.append(f"WRONG {old.name} ended with {code}")
        except subprocess.TimeoutExpired:
            window.notes.append(f"WRONG {old.name} does not stop")
            old.kill()
        old.process = None
        members = world.cli(new.number, "cluster", "members", "-o", "json").stdout
        names = sorted(item["name"] for item in json.loads(members)["items"] if item["votes"])
        if old.name in names or new.name not in names:
            window.notes.append(f"WRONG who votes now: {names}")
        world.whole()
    return window


def fill(world):
    """No room is left on a follower's disk, then there is again."""
    node = world.follower()
    node.signal(signal.SIGTERM)
    node.process.wait(40)
    # Its data on a file system of its own that is soon full.
    moved = node.data.with_suffix(".aside")
    node.data.rename(moved)
    node.data.mkdir()
    sh("mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", node.data)
    sh("cp", "-a", f"{moved}/.", node.data)
    node.start()
    world.whole()
    with Window(f"disk full: {node.name}", [node.name]) as window:
        sh("dd", "if=/dev/zero", f"of={node.data}/ballast", "bs=64k", check=False)
        key = 0
        end = time.time() + 6
        while time.time() < end:
            key += 1
            world.cli(world.leader.number, "key", "create", f"filler-{time.time_ns()}", check=False)
        window.notes.append(f"{key} keys were made meanwhile; {node.name} {'runs' if node.process.poll() is None else 'ended with %s' % node.process.poll()}")
        (node.data / "ballast").unlink()
        if node.process.poll() is not None:
            node.start()
        world.whole()
    return window


def owner(connections, line):
    """The node that a request was at."""
    fits = [c for c in connections if c[0] == line.get("port") and c[2] - 1 <= line["ended"] and line["began"] <= c[3] + 1]
    return max(fits, key=lambda c: c[2])[1:] if fits else ("nobody", 0, 0, "--")


def report(world, windows, lines):
    connections = world.connections()
    wrong, base = 0, None
    between = Window("between faults")
    # A request belongs to the fault that it ended in.
    at = lambda line: next((w for w in windows if w.began <= line["ended"] <= w.ended), between)
    by = {id(window): [] for window in windows + [between]}
    for line in lines:
        by[id(at(line))].append(line)
    for window in windows + [between]:
        mine = by[id(window)]
        good = [line for line in mine if line["ok"]]
        bad = [(line, owner(connections, line)) for line in mine if not line["ok"]]
        unexcused = [(line, at) for line, at in bad if at[0] not in window.excused]
        # What a survivor answered, but not what was begun on a connection to the one that failed.
        here = [line for line in good if owner(connections, line)[0] not in window.excused]
        whole = p99([line["ended"] - line["began"] for line in here if line["kind"] == "whole"]) * 1000
        first = p99([line["first"] - line["began"] for line in here if line["kind"] == "stream"]) * 1000
        base = base or (whole, first)
        print(
            f"{window.name}: {len(good)} answered ({sum(line['kind'] == 'stream' for line in good)} streams), "
            f"{len(bad)} failed of which {len(unexcused)} unexcused, {sum(line['again'] for line in mine)} sent again; "
            f"p99 {whole:.0f} ms (x{whole / base[0]:.1f}), first token of streams {first:.0f} ms (x{first / base[1]:.1f})"
        )
        for line, at in unexcused[:5]:
            print(f"  WRONG {line['kind']} at {at[0]} ({at[3]}) after {line['ended'] - line['began']:.2f} s: {line['why']}")
        for note in window.notes:
            print(f"  {note}")
        if window is not between and not any(line["kind"] == "stream" for line in good):
            print("  WRONG no stream was answered")
            wrong += 1
        wrong += len(unexcused) + sum(note.startswith("WRONG") for note in window.notes)
    return wrong


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", required=True)
    parser.add_argument("--haproxy", required=True)
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--only", default="")
    parser.add_argument("--previous")
    parser.add_argument("--keep-logs", action="store_true")
    args = parser.parse_args()
    only = [name for name in args.only.split(",") if name]
    began = time.time()
    with World(args.bin, args.haproxy, args.nodes, args.previous) as world:
        program = world.program
        print(f"{args.nodes} nodes serve behind HAProxy after {time.time() - began:.0f} s", flush=True)
        keeper, traffic = Keeper(world), Traffic(world)
        faults = {
            "calm": lambda: calm(world),
            "upgrade": lambda: rolling(world, keeper, program),
            "kill": lambda: kill(world),
            "stop": lambda: stop(world),
            "both": lambda: isolate(world, True),
            "one": lambda: isolate(world, False),
            "rolling": lambda: rolling(world, keeper),
            "full": lambda: fill(world),
            "replace": lambda: replace(world),
        }
        time.sleep(2)
        if not args.previous:
            del faults["upgrade"]
        windows = [fault() for name, fault in faults.items() if not only or name in only or name == "calm"]
        lines = traffic.end()
        wrong = report(world, windows, lines)
        if wrong or args.keep_logs:
            print(f"logs: {world.keep_logs()}")
    print(f"{'FAILED' if wrong else 'ok'} in {time.time() - began:.0f} s")
    return 1 if wrong else 0


sys.exit(main())
