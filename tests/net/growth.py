"""Whether a process grows, from samples of what it has. No clock, no file: see growth_test.py for what it finds.

What a load takes comes and goes; what leaks stays. So of each part of the time, the floor is looked at (the lowest tenth
of its samples), and the line through the floors that half of all pairs lie above and half below (Theil and Sen): a peak, or
a step to another level, does not move it much, and a leak does however slow it is. The first part of the time is left out:
until then pools and caches fill.
"""

import itertools
import statistics

PARTS = 10
# How much of the time is for filling: the first 5 minutes of 30.
WARM = 1 / 6
# What each may gain from the end of that to the end of it all. Of a leak at each hundredth call, 6 are reached in a minute
# of 10 calls a second.
GAIN_MAX = {"descriptors": 6, "tasks": 6, "threads": 2}
# Of memory: what an allocator may keep by chance, or, in a long run, so much a call: a third of what "a leak" would be.
# What a node remembers of each change, up to a bound, is below that.
MEMORY = {"own_kib": 1536, "rss_kib": 3072}
MEMORY_A_CALL_KIB = 1 / 3
MEASURES = [*MEMORY, *GAIN_MAX]


def gain_max(key, calls):
    """What a measure may gain while so many calls are answered."""
    return max(MEMORY[key], calls * MEMORY_A_CALL_KIB) if key in MEMORY else GAIN_MAX[key]


def floors(samples, key, length):
    """The floor of each part of the time behind the first; None for a part that was not measured."""
    step = length * (1 - WARM) / PARTS
    parts = [[] for _ in range(PARTS)]
    for at, seen in samples:
        part = int((at - length * WARM) // step)
        if key in seen and part >= 0:
            parts[min(part, PARTS - 1)].append(seen[key])
    return [sorted(part)[len(part) // 10] if part else None for part in parts]


def gain(levels):
    """How much the line through the floors rises from the first to the last."""
    known = [(number, level) for number, level in enumerate(levels) if level is not None]
    slopes = [(b - a) / (later - sooner) for (sooner, a), (later, b) in itertools.combinations(known, 2)]
    return statistics.median(slopes) * (PARTS - 1) if slopes else 0


def growth(samples, length, calls):
    """Of each measure of one process: its floors, what it gained, what it may gain, and what is wrong with that.

    `samples` are pairs of seconds since the beginning and what was measured then, `length` the seconds of all of it, `calls`
    what the process answered behind the first part.
    """
    out = {}
    for key in MEASURES:
        levels = floors(samples, key, length)
        gained, most = gain(levels), gain_max(key, calls)
        wrong = None
        if sum(level is not None for level in levels) < PARTS * 0.8:
            wrong = "it was not measured all the time"
        elif gained > most:
            wrong = f"it grows: by {gained:.0f}, more than {most:.0f}"
        out[key] = {"floors": levels, "gained": round(gained, 1), "most": round(most, 1), "wrong": wrong}
    return out
