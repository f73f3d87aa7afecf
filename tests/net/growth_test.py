"""What the rule of the soak finds, and what it lets pass: series as a node makes them, with a leak and without."""

import math
import random
import unittest

from growth import MEASURES, growth

# A node of the soak answers this many calls a second.
CALLS_A_SECOND = 10


def series(minutes, seed, leak=lambda key, calls: 0):
    """Samples every 2 s: connections that come and go, an allocator that takes and gives back, code that is first run."""
    chance, length = random.Random(seed), minutes * 60
    kept, out = 0.0, []
    for at in range(0, length, 2):
        calls = at * CALLS_A_SECOND
        fill = 1 - math.exp(-at / 20)
        # A fault elsewhere sends a node the connections of another for a while.
        guests = 8 if at % 60 < 12 else 0
        connections = 6 + guests + chance.randrange(4)
        # Freed pages are kept, and given back now and then.
        kept = 0 if chance.random() < 0.02 else min(kept + chance.random() * 120, 1200)
        own = 30_000 + 9_000 * fill + 60 * connections + kept + chance.randrange(300) + at * 0.4
        seen = {
            "own_kib": own, "rss_kib": own + 30_000 + 4_000 * fill, "threads": 6 + chance.randrange(2),
            "descriptors": 40 + 2 * connections,
        }
        if at % 4 == 0:
            seen["tasks"] = 60 + 3 * connections + chance.randrange(5)
        out.append((at, {key: value + leak(key, calls) for key, value in seen.items()}))
    return out


def found(samples, minutes):
    """The measures that the rule finds wrong."""
    calls = minutes * 60 * CALLS_A_SECOND * 5 // 6
    return [key for key, at in growth(samples, minutes * 60, calls).items() if at["wrong"]]


def of(leaking, amount):
    """A leak of each measure named, of so much a call."""
    return lambda key, calls: math.floor(calls * amount) if key in leaking else 0


class Growth(unittest.TestCase):
    SEEDS = range(40)

    def each(self, leak, expected):
        for minutes in (6, 30):
            for seed in self.SEEDS:
                with self.subTest(minutes=minutes, seed=seed):
                    self.assertEqual(found(series(minutes, seed, leak), minutes), expected)

    def test_what_comes_and_goes_is_no_growth(self):
        self.each(of([], 0), [])

    def test_a_task_of_every_hundredth_call_is_found(self):
        self.each(of(["tasks"], 0.01), ["tasks"])

    def test_a_descriptor_of_every_hundredth_call_is_found(self):
        self.each(of(["descriptors"], 0.01), ["descriptors"])

    def test_a_thread_of_every_thousandth_call_is_found(self):
        self.each(of(["threads"], 0.001), ["threads"])

    def test_a_kibibyte_of_every_call_is_found(self):
        for minutes, expected in ((6, {"own_kib"}), (30, {"own_kib", "rss_kib"})):
            for seed in self.SEEDS:
                with self.subTest(minutes=minutes, seed=seed):
                    seen = found(series(minutes, seed, of(["own_kib", "rss_kib"], 1)), minutes)
                    self.assertLessEqual(expected, set(seen))

    def test_a_step_to_another_level_is_no_leak_and_one_a_part_is(self):
        def step(samples, when):
            return [(at, seen | {"descriptors": seen["descriptors"] + when(at)}) for at, seen in samples]

        once = step(series(30, 1), lambda at: 5 * (at > 900))
        often = step(series(30, 1), lambda at: 2 * (at // 150))

        self.assertEqual(found(once, 30), [])
        self.assertEqual(found(often, 30), ["descriptors"])

    def test_what_is_not_measured_is_wrong(self):
        without = [(at, {key: value for key, value in seen.items() if key != "tasks"}) for at, seen in series(6, 1)]
        late = [(at, seen) for at, seen in series(6, 1) if at > 180]

        self.assertEqual(found(without, 6), ["tasks"])
        self.assertEqual(found(late, 6), MEASURES)


if __name__ == "__main__":
    unittest.main()
