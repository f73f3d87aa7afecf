"""What is done to nodes while clients call, and what a fault excuses. See `run`."""

import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from world import KEY, PROVIDER, sh, until

HERE = Path(__file__).resolve().parent
# Within this a balancer has seen that a node does not answer, and cut what was open there: two checks of 0.5 s, the second
# of which waits as long for its answer, and a little.
NOTICED = 2.0
# Within this a node without a way to the providers has said so and is out of rotation: it believes its last answer for 10 s.
ADMITTED = 12.0


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
    """A fault, behind a calm of its own: from when to when, and which node's failures it excuses, from when to when."""

    def __init__(self, world, name):
        self.name, self.kind, self.calm_seconds = name, None, world.calm if world else 0
        self.calm, self.began, self.ended = None, time.time(), None
        self.notes, self.struck, self.drained = [], {}, []

    def __enter__(self):
        print(f"-- {self.name}", flush=True)
        if self.calm_seconds:
            time.sleep(self.calm_seconds)
            self.calm = (self.began, time.time())
        self.began = time.time()
        return self

    def __exit__(self, *error):
        self.ended = time.time()

    def at(self, node):
        """Says which node it is that the fault is about."""
        self.name += f": {node.name}"
        return node

    def strikes(self, node, seconds):
        """What was under way at a node, or came to it within so many seconds from now on, may fail."""
        self.struck[node.name] = (time.time(), time.time() + seconds)

    def wrong(self, what):
        self.notes.append(f"WRONG {what}")

    def excuses(self, name, began, ended):
        """Whether a request at a node, from when to when, may have failed by this fault."""
        since, until = self.struck.get(name, (0, 0))
        return ended >= since and began <= until


def cut(world, node, both):
    """Packets of a node to the others go nowhere, and theirs to it if `both`."""
    others = [other for other in world.nodes.values() if other is not node]
    for other in others:
        world.inside(node.ns, "ip", "route", "add", "blackhole", f"{other.ip}/32")
        if both:
            world.inside(other.ns, "ip", "route", "add", "blackhole", f"{node.ip}/32")


def heal(world):
    """Ends what `cut` did."""
    for one in world.nodes.values():
        for other in world.nodes.values():
            world.inside(one.ns, "ip", "route", "del", "blackhole", f"{other.ip}/32", check=False)


def kill(world, node=None, away=4):
    with Window(world, f"{'node' if node else 'leader'} killed with -9") as window:
        node = window.at(node or world.leader)
        window.strikes(node, NOTICED)
        node.kill()
        time.sleep(away)
        node.start()
        world.whole()
    return window


def stop(world, node=None):
    with Window(world, f"{'node' if node else 'leader'} SIGSTOPped") as window:
        node = window.at(node or world.leader)
        window.strikes(node, NOTICED)
        node.signal(signal.SIGSTOP)
        time.sleep(5)
        node.signal(signal.SIGCONT)
        world.whole()
    return window


def isolate(world, both, node=None):
    what = f"{'node' if node else 'follower'} cut off from the other nodes, {'both ways' if both else 'one way'}"
    with Window(world, what) as window:
        node = window.at(node or world.follower())
        cut(world, node, both)
        time.sleep(5)
        status = node.json("/admin/v1/cluster")
        if (status.get("confirmed_ms") or 1e9) < 3000:
            window.wrong(f"{node.name} is not cut off: {status}")
        if not node.ready:
            window.wrong(f"{node.name} is unready, though it serves from what it has")
        heal(world)
        world.whole()
    return window


def uplink(world, node=None):
    """A node has no way to the providers any more; to all else it has. It fails calls at once, and leaves rotation."""
    with Window(world, f"{'node' if node else 'follower'} without a way to the providers") as window:
        node = window.at(node or world.follower())
        others = [other for other in world.nodes.values() if other is not node and other.process]
        told, own, unready = set(), set(), None
        window.strikes(node, ADMITTED)
        world.inside(node.ns, "ip", "route", "add", "unreachable", f"{PROVIDER}/32")
        began = time.time()
        while time.time() < began + ADMITTED + 2:
            for other in others:
                told |= {f"{target} at {other.name}" for target in resting(other)}
            own |= resting(node)
            if unready is None and not node.ready:
                unready = time.time() - began
            time.sleep(0.25)
        world.inside(node.ns, "ip", "route", "del", "unreachable", f"{PROVIDER}/32")
        if told:
            window.wrong(f"others were persuaded to rest {sorted(told)}")
        if not own:
            window.wrong(f"{node.name} reached the providers")
        if unready is None:
            window.wrong(f"{node.name} did not leave rotation")
        else:
            window.notes.append(f"{node.name} was unready after {unready:.1f} s and rested {', '.join(sorted(own))}")
        until(f"{node.name} calls the providers again", 40, lambda: not resting(node))
        world.whole()
    return window


def resting(node):
    """The targets that a node does not call."""
    return {item["target"] for item in node.json("/admin/v1/breakers").get("items", []) if item["state"] != "closed"}


def rolling(world, keeper, program=None):
    """Restarts each node in turn, on another program if one is given: the supervisor starts what is there then."""
    what = "rolling restart" if program is None else f"rolling upgrade from {world.first}"
    with Window(world, what) as window:
        window.drained = [node.name for node in world.nodes.values()]
        if program and any(node.runs.samefile(program) for node in world.nodes.values()):
            window.wrong(f"there is nothing to upgrade: {program} runs already")
        for node in world.nodes.values():
            node.kept = True
            node.program = program or node.program
        world.first = program or world.first
        before = {node.name: node.starts for node in world.nodes.values()}
        done = world.cli(1, "cluster", "rolling-restart", "--within", "60s", check=False)
        for node in world.nodes.values():
            node.kept = False
        if done.returncode:
            window.wrong(f"rolling-restart ended with {done.returncode}: {done.stderr}")
        for node in world.nodes.values():
            if node.starts != before[node.name] + 1:
                window.wrong(f"{node.name} was started {node.starts - before[node.name]} times")
        wrong = [end for end in keeper.ends if end[1] != 0]
        if wrong:
            window.wrong(f"a drain did not end with 0: {wrong}")
        keeper.ends.clear()
        world.whole()
        if program and not all(node.runs.samefile(program) for node in world.nodes.values()):
            window.wrong(f"they run {[str(node.runs) for node in world.nodes.values()]}")
    return window


def restart(world, node):
    """An end as systemd asks for it, and a start: nothing fails, also on this node."""
    with Window(world, f"node drained and started again: {node.name}") as window:
        window.drained = [node.name]
        drained(node, window)
        node.start()
        world.whole()
    return window


def drained(node, window):
    node.signal(signal.SIGTERM)
    try:
        code = node.process.wait(40)
        if code:
            window.wrong(f"{node.name} ended with {code}")
    except subprocess.TimeoutExpired:
        window.wrong(f"{node.name} does not stop")
        node.process.kill()
        node.process.wait()


def replace(world, old=None, new=None):
    """A node leaves for ever, and another one comes and gets its vote."""
    old, new = old or world.follower(), new or world.add(world.count + 1)
    with Window(world, f"{old.name} leaves, {new.name} joins in its place") as window:
        window.drained = [old.name]
        new.start()
        until(f"{new.name} is let in\n{new.log()}", 40, lambda: new.ready)
        done = world.cli(old.number, "cluster", "leave", "--by", new.name, check=False)
        if done.returncode:
            window.wrong(f"leave: {done.stderr}")
        try:
            code = old.process.wait(40)
            if code:
                window.wrong(f"{old.name} ended with {code}")
        except subprocess.TimeoutExpired:
            window.wrong(f"{old.name} does not stop")
            old.kill()
        old.process = None
        members = world.cli(new.number, "cluster", "members", "-o", "json").stdout
        names = sorted(item["name"] for item in json.loads(members)["items"] if item["votes"])
        if old.name in names or new.name not in names:
            window.wrong(f"who votes now: {names}")
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
    with Window(world, f"disk full: {node.name}") as window:
        window.drained = [node.name]
        said, made = len(node.log()), 0
        sh("dd", "if=/dev/zero", f"of={node.data}/ballast", "bs=64k", check=False)
        end = time.time() + 6
        while time.time() < end:
            done = world.cli(world.leader.number, "key", "create", f"filler-{time.time_ns()}", check=False)
            made += not done.returncode
        window.notes.append(f"{made} keys were made meanwhile")
        if not made:
            window.wrong("the others take no change")
        if "consensus stopped" not in node.log()[said:]:
            window.wrong(f"{node.name} found room for all of them")
        (node.data / "ballast").unlink()
        # Its consensus stopped for good and its data plane serves on: with room on its disk it is restarted.
        if node.process.poll() is None:
            node.signal(signal.SIGTERM)
            node.process.wait(40)
        node.start()
        world.whole()
    return window
