"""What failed in which fault, and whose it was; and how much slower it was than before."""

import calendar
import re
import time

from faults import Window

# What a fault may make of the 99th percentile of the nodes that it does not strike.
SLOWER = 1.5
# What is compared: whole answers to their end, streams to their first token.
SPEEDS = {"whole": "ended", "brief": "first"}
# A p99 of fewer shows nothing.
SAMPLES_MIN = 300


def p99(values):
    values = sorted(values)
    return values[min(len(values) - 1, len(values) * 99 // 100)] if values else float("nan")


class Owners:
    """Which node a request was at, by the balancer's log: it names each client's port once its connection has ended."""

    def __init__(self, connections):
        self.by_port = {}
        for connection in connections:
            self.by_port.setdefault(connection[0], []).append(connection)

    def of(self, line):
        """The node, from when to when its connection was, and how it ended."""
        connections = self.by_port.get(line.get("port"), [])
        fits = [c for c in connections if c[2] - 1 <= line["ended"] and line["began"] <= c[3] + 1]
        return max(fits, key=lambda c: c[2])[1:] if fits else ("nobody", 0, 0, "--")


def drains(world):
    """When each node began to drain and when it was gone or back, by its own log."""
    line = re.compile(r"^(\d+-\d+-\d+T\d+:\d+:\d+)(\.\d+)Z .*?: (unready: |stopped$|serving data=)", re.M)
    for node in world.nodes.values():
        began = None
        for match in line.finditer(node.log()):
            at = calendar.timegm(time.strptime(match[1], "%Y-%m-%dT%H:%M:%S")) + float(match[2])
            if match[3] == "unready: ":
                began = began or at
            elif began:
                yield node.name, began, at
                began = None
        if began:
            yield node.name, began, float("inf")


def speeds(lines, since, until):
    """The p99 of each of SPEEDS, in milliseconds, and of how many."""
    out = {}
    for kind, mark in SPEEDS.items():
        took = [line[mark] - line["began"] for line in lines if line["kind"] == kind and line["ok"] and since <= line["ended"] <= until]
        out[kind] = (round(p99(took) * 1000, 2), len(took))
    return out


def closed_without_a_word(line, window, owners, draining):
    """The node that closed a kept connection under a request, if nothing excuses it."""
    first = line["again"]
    name = owners.of(first)[0]
    # The drain's last connections end as it does; clocks are those of one machine.
    drains_then = any(name == other and began <= first["ended"] <= over + 1 for other, began, over in draining)
    return None if drains_then or window.excuses(name, first["began"], first["ended"]) else name


def measure(window, mine, lines, owners, draining):
    """A fault in numbers, with each failure that it does not excuse."""
    good = [line for line in mine if line["ok"]]
    bad = [(line, owners.of(line)) for line in mine if not line["ok"]]
    unexcused = [(line, at) for line, at in bad if not window.excuses(at[0], line["began"], line["ended"])]
    again = [line for line in mine if line["again"]]
    wrong = [
        f"{line['kind']} at {at[0]} ({at[3]}) after {line['ended'] - line['began']:.2f} s: {line['why']}" for line, at in unexcused
    ] + [
        f"{line['kind']}: {name} closed a kept connection under it: {line['again']['why']}" for line in again
        if (name := closed_without_a_word(line, window, owners, draining))
    ]
    # What a survivor answered, but not what was begun on a connection to the one that failed.
    here = [line for line in good if not window.struck or not line["again"] and owners.of(line)[0] not in window.struck]
    streams = [line for line in mine if line["kind"] == "stream"]
    # Each of these finished, or it is among those that failed: a drain excuses nothing.
    at_drains = [
        (name, sum(line["began"] < began < line["ended"] and owners.of(line)[0] == name for line in lines if line["kind"] == "stream"))
        for name, began, _ in draining if window.ended and window.began <= began <= window.ended
    ]
    wrong += [f"no stream was under way at {name} when it began to drain" for name, count in at_drains if not count]
    if window.ended and sorted(window.drained) != sorted(name for name, _ in at_drains):
        wrong.append(f"{window.drained} should have drained once each, and did: {at_drains}")
    if window.ended and not any(line["ok"] for line in streams):
        wrong.append("no stream was answered")
    last = [line["ended"] - window.struck[at[0]][0] for line, at in bad if at[0] in window.struck]
    return {
        "name": window.name,
        "seconds": round(window.ended - window.began, 1) if window.ended else None,
        "answered": len(good),
        "streams": sum(line["ok"] for line in streams),
        "failed": len(bad),
        "failed_last_s": round(max(last), 1) if last else None,
        "wrong": wrong + [note.removeprefix("WRONG ") for note in window.notes if note.startswith("WRONG ")],
        "again": len(again),
        "speeds": speeds(here, 0, float("inf")),
        "before": speeds(lines, *window.calm) if window.calm else None,
        "streams_at_drains": sum(count for _, count in at_drains),
        "notes": [note for note in window.notes if not note.startswith("WRONG ")],
    }


def split(windows, lines):
    """Each window with its lines, and a last one with those between. A request belongs to the fault that it ended in."""
    between = Window(None, "all is calm")
    by = {id(window): [] for window in windows + [between]}
    for line in lines:
        by[id(next((w for w in windows if w.began <= line["ended"] <= w.ended), between))].append(line)
    return [(window, by[id(window)]) for window in windows + [between]]


def times(seen):
    """How many times the p99 of before a fault its own is, for each of SPEEDS."""
    return {kind: seen["speeds"][kind][0] / seen["before"][kind][0] for kind in SPEEDS}


def is_slow(seen):
    # Written so that what is no number is too much.
    return not all(at <= SLOWER for at in times(seen).values())


def too_few(seen):
    return [kind for kind in SPEEDS if min(seen["before"][kind][1], seen["speeds"][kind][1]) < SAMPLES_MIN]


def report(world, windows, lines):
    """Prints what was seen; gives how much of it is wrong, and the faults that were slower than they may be."""
    owners, draining = Owners(world.connections()), list(drains(world))
    wrong, over = 0, {}
    for window, mine in split(windows, lines):
        seen = measure(window, mine, lines, owners, draining)
        line = f"{seen['name']}: {seen['answered']} answered ({seen['streams']} streams), {seen['failed']} failed"
        if seen["failed_last_s"] is not None:
            line += f" at the node that was struck, the last after {seen['failed_last_s']} s"
        line += f", {seen['again']} sent again"
        if window.drained:
            line += f"; {seen['streams_at_drains']} streams were under way where a drain began"
        print(line)
        if seen["before"]:
            by = times(seen)
            figures = [
                f"{'first token' if kind == 'brief' else kind} {seen['before'][kind][0]:.1f} -> {seen['speeds'][kind][0]:.1f} ms "
                f"(x{by[kind]:.2f}, of {seen['before'][kind][1]} and {seen['speeds'][kind][1]})" for kind in SPEEDS
            ]
            print(f"  p99 {', '.join(figures)}")
            if is_slow(seen) or too_few(seen):
                over[window.kind] = f"{seen['name']}: {', '.join(figures)}"
                print(f"  not shown to be within x{SLOWER} of the calm before")
        for note in seen["notes"]:
            print(f"  {note}")
        for line in seen["wrong"][:8]:
            print(f"  WRONG {line}")
        wrong += len(seen["wrong"])
    return wrong, over
