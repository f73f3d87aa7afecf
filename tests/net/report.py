"""What failed in which fault, and whose it was."""

import calendar
import re
import time

from faults import Window

# What a fault may make of the 99th percentile of the nodes that it does not strike.
SLOWER = 1.5


def p99(values):
    values = sorted(values)
    return values[min(len(values) - 1, len(values) * 99 // 100)] if values else float("nan")


class Owners:
    """Which node a request was at, by the balancer's log."""

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
    """When each node began to drain, by its own log."""
    line = re.compile(r"^(\d+-\d+-\d+T\d+:\d+:\d+)(\.\d+)Z .*: unready: ", re.M)
    for node in world.nodes.values():
        for match in line.finditer(node.log()):
            yield node.name, calendar.timegm(time.strptime(match[1], "%Y-%m-%dT%H:%M:%S")) + float(match[2])


def measure(window, mine, owners, draining):
    """A fault in numbers, with each failure that it does not excuse."""
    good = [line for line in mine if line["ok"]]
    bad = [(line, owners.of(line)) for line in mine if not line["ok"]]
    unexcused = [(line, at) for line, at in bad if at[0] not in window.excused]
    # What a survivor answered, but not what was begun on a connection to the one that failed.
    here = [line for line in good if not window.excused or not line["again"] and owners.of(line)[0] not in window.excused]
    streams = [line for line in mine if line["kind"] == "stream"]
    return {
        "name": window.name,
        "seconds": round(window.ended - window.began, 1) if window.ended else None,
        "answered": len(good),
        "streams": sum(line["kind"] == "stream" for line in good),
        "failed": len(bad),
        "unexcused": [
            f"{line['kind']} at {at[0]} ({at[3]}) after {line['ended'] - line['began']:.2f} s: {line['why']}" for line, at in unexcused
        ],
        "again": sum(line["again"] for line in mine),
        "p99_ms": round(p99([line["ended"] - line["began"] for line in here if line["kind"] == "whole"]) * 1000, 1),
        "first_p99_ms": round(p99([line["first"] - line["began"] for line in here if line["kind"] == "stream"]) * 1000, 1),
        # Each of these finished, or it is among those that failed.
        "streams_at_drains": sum(
            line["began"] < began < line["ended"] and owners.of(line)[0] == name for line in streams for name, began in draining
            if not window.ended or window.began <= began <= window.ended
        ),
        "notes": window.notes,
    }


def split(windows, lines):
    """Each window with its lines, and a last one with those between. A request belongs to the fault that it ended in."""
    between = Window("between faults")
    by = {id(window): [] for window in windows + [between]}
    for line in lines:
        by[id(next((w for w in windows if w.began <= line["ended"] <= w.ended), between))].append(line)
    return [(window, by[id(window)]) for window in windows + [between]]


def report(world, windows, lines):
    owners, draining = Owners(world.connections()), list(drains(world))
    wrong, base = 0, None
    for window, mine in split(windows, lines):
        seen = measure(window, mine, owners, draining)
        base = base or (seen["p99_ms"], seen["first_p99_ms"])
        times = seen["p99_ms"] / base[0], seen["first_p99_ms"] / base[1]
        print(
            f"{window.name}: {seen['answered']} answered ({seen['streams']} streams), {seen['failed']} failed of which "
            f"{len(seen['unexcused'])} unexcused, {seen['again']} sent again; p99 {seen['p99_ms']:.0f} ms (x{times[0]:.1f}), "
            f"first token of streams {seen['first_p99_ms']:.0f} ms (x{times[1]:.1f})"
            + (f"; {seen['streams_at_drains']} streams were under way where a drain began" if seen["streams_at_drains"] else "")
        )
        if window.ended and max(times) > SLOWER:
            print(f"  slower than x{SLOWER} of the calm")
        for line in seen["unexcused"][:5]:
            print(f"  WRONG {line}")
        for note in window.notes:
            print(f"  {note}")
        if window.ended and not seen["streams"]:
            print("  WRONG no stream was answered")
            wrong += 1
        wrong += len(seen["unexcused"]) + sum(note.startswith("WRONG") for note in window.notes)
    return wrong
