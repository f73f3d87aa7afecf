"""What is done to nodes while clients call, and what a fault excuses. See `run`."""

import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from world import KEY, sh, until

HERE = Path(__file__).resolve().parent


class Traffic:
    """Clients of the balancer, from its start to its end."""

    def __init__(self, world, load=()):
        self.world, self.file = world, open(world.dir / "load.jsonl", "w")
        self.process = world.spawn(world.hub, [sys.executable, HERE / "load.py", "--key", KEY, *load], stdout=self.file)

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


def kill(world, node=None, away=5):
    what, node = ("leader", world.leader) if node is None else ("node", node)
    with Window(f"{what} killed with -9: {node.name}", [node.name]) as window:
        node.kill()
        time.sleep(away)
        node.start()
        world.whole()
    return window


def stop(world, node=None):
    what, node = ("leader", world.leader) if node is None else ("node", node)
    with Window(f"{what} SIGSTOPped: {node.name}", [node.name]) as window:
        node.signal(signal.SIGSTOP)
        time.sleep(6)
        node.signal(signal.SIGCONT)
        world.whole()
    return window


def isolate(world, both, node=None):
    what, node = ("follower", world.follower()) if node is None else ("node", node)
    with Window(f"{what} cut off from the other nodes, {'both ways' if both else 'one way'}: {node.name}") as window:
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
    """Restarts each node in turn, on another program if one is given: the supervisor starts what is there then."""
    what = "rolling restart" if program is None else f"rolling upgrade from {world.first}"
    with Window(what) as window:
        if program and any(node.runs.samefile(program) for node in world.nodes.values()):
            window.notes.append(f"WRONG there is nothing to upgrade: {program} runs already")
        for node in world.nodes.values():
            node.kept = True
            node.program = program or node.program
        world.first = program or world.first
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
        if program and not all(node.runs.samefile(program) for node in world.nodes.values()):
            window.notes.append(f"WRONG they run {[str(node.runs) for node in world.nodes.values()]}")
    return window


def restart(world, node):
    """An end as systemd asks for it, and a start: nothing fails, also on this node."""
    with Window(f"node drained and started again: {node.name}") as window:
        drained(node, window)
        node.start()
        world.whole()
    return window


def drained(node, window):
    node.signal(signal.SIGTERM)
    try:
        code = node.process.wait(40)
        if code:
            window.notes.append(f"WRONG {node.name} ended with {code}")
    except subprocess.TimeoutExpired:
        window.notes.append(f"WRONG {node.name} does not stop")
        node.process.kill()
        node.process.wait()


def replace(world, old=None, new=None):
    """A node leaves for ever, and another one comes and gets its vote."""
    old, new = old or world.follower(), new or world.add(world.count + 1)
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
        # Its consensus stopped for good and its data plane serves on: with room on its disk it is restarted.
        if node.process.poll() is None:
            node.signal(signal.SIGTERM)
            node.process.wait(40)
        node.start()
        world.whole()
    return window
