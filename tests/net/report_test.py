"""What a fault excuses and what it does not, by requests made up for it."""

import unittest

from faults import Window
from report import Owners, is_slow, measure, too_few

# A fault from 100 to 110 behind a calm from 95 to 100.
BEGAN, ENDED = 100.0, 110.0


def window(struck=None, drained=()):
    made = Window(None, "a fault")
    made.calm, made.began, made.ended = (BEGAN - 5, BEGAN), BEGAN, ENDED
    made.struck, made.drained = struck or {}, list(drained)
    return made


class Traffic:
    """Requests, each on a connection of its own to a node."""

    def __init__(self):
        self.lines, self.connections = [], []
        # Without one, nothing else is looked at.
        self.add("gw-1", "stream", 101, 103)

    def connect(self, node, began, ended):
        port = 40000 + len(self.connections)
        self.connections.append((port, node, began, ended, "--"))
        return port

    def add(self, node, kind, began, ended, why=None, again=None):
        self.lines.append({
            "kind": kind, "began": began, "first": began, "ended": ended, "ok": why is None, "why": why, "again": again,
            "port": self.connect(node, began, ended)})
        return self

    def resent(self, first, then, at):
        again = {"port": self.connect(first, at - 1, at), "began": at - 0.1, "ended": at, "why": "closed"}
        return self.add(then, "whole", at - 0.1, at + 0.1, again=again)

    def seen(self, window, draining=()):
        mine = [line for line in self.lines if window.began <= line["ended"] <= window.ended]
        return measure(window, mine, self.lines, Owners(self.connections), list(draining))

    def wrong(self, window, draining=()):
        return self.seen(window, draining)["wrong"]


class Failures(unittest.TestCase):
    struck = {"gw-3": (100, 102)}

    def test_what_was_under_way_at_the_struck_node_may_fail(self):
        self.assertEqual(Traffic().add("gw-3", "whole", 99, 100.1, "cut").wrong(window(self.struck)), [])
        self.assertEqual(Traffic().add("gw-3", "whole", 101.9, 104, "cut").wrong(window(self.struck)), [])

    def test_what_comes_to_it_later_may_not(self):
        self.assertEqual(len(Traffic().add("gw-3", "whole", 102.1, 102.2, "cut").wrong(window(self.struck))), 1)

    def test_what_ended_before_may_not(self):
        self.assertFalse(window(self.struck).excuses("gw-3", 98, 99.9))

    def test_no_other_node_may_fail(self):
        self.assertEqual(len(Traffic().add("gw-2", "whole", 100.5, 101, "cut").wrong(window(self.struck))), 1)

    def test_what_no_node_took_may_not_fail(self):
        lost = Traffic().add("gw-3", "whole", 100.5, 101, "connect")
        lost.connections.pop()
        self.assertEqual(len(lost.wrong(window(self.struck))), 1)

    def test_without_a_stream_nothing_is_shown(self):
        empty = Traffic().add("gw-1", "whole", 101, 102)
        empty.lines.pop(0)
        self.assertEqual(empty.wrong(window()), ["no stream was answered"])


class Resends(unittest.TestCase):
    def test_a_healthy_node_may_not_close_a_kept_connection_under_a_request(self):
        self.assertEqual(len(Traffic().resent("gw-2", "gw-1", 105).wrong(window())), 1)

    def test_a_struck_one_may_while_it_is_struck(self):
        self.assertEqual(Traffic().resent("gw-3", "gw-1", 101).wrong(window({"gw-3": (100, 102)})), [])
        self.assertEqual(len(Traffic().resent("gw-3", "gw-1", 105).wrong(window({"gw-3": (100, 102)}))), 1)

    def test_a_draining_one_may_until_it_is_gone(self):
        seen = lambda at: Traffic().resent("gw-2", "gw-1", at).wrong(window(), [("gw-2", 90, 104)])
        self.assertEqual(seen(103), [])
        self.assertEqual(len(seen(106)), 1)


class Drains(unittest.TestCase):
    def test_a_stream_must_be_under_way_at_each(self):
        drains = [("gw-1", 102, 104), ("gw-2", 106, 108)]
        traffic = Traffic()
        self.assertEqual(traffic.wrong(window((), ["gw-1", "gw-2"]), drains), ["no stream was under way at gw-2 when it began to drain"])
        self.assertEqual(traffic.add("gw-2", "stream", 105, 107).wrong(window((), ["gw-1", "gw-2"]), drains), [])

    def test_one_that_broke_there_is_not_excused(self):
        self.assertEqual(len(Traffic().add("gw-1", "stream", 101, 103, "broke").wrong(window((), ["gw-1"]), [("gw-1", 102, 104)])), 1)

    def test_each_must_come_once(self):
        self.assertEqual(len(Traffic().wrong(window((), ["gw-1"]), [])), 1)
        self.assertEqual(len(Traffic().wrong(window((), []), [("gw-1", 102, 104)])), 1)


class Speed(unittest.TestCase):
    def seen(self, before_ms, meanwhile_ms, count=400, node="gw-1", struck=None):
        traffic = Traffic()
        for since, millis in ((96, before_ms), (101, meanwhile_ms)):
            for number in range(count):
                traffic.add(node, "whole", since + number / 1000, since + (number + millis) / 1000)
                traffic.add("gw-1", "brief", since + number / 1000, since + number / 1000)
                traffic.lines[-1]["first"] += 0.005
        return traffic.seen(window(struck))

    def test_one_and_a_half_is_the_bound(self):
        self.assertFalse(is_slow(self.seen(10, 14)))
        self.assertTrue(is_slow(self.seen(10, 16)))

    def test_the_struck_node_is_not_compared_and_nothing_is_too_slow(self):
        self.assertTrue(is_slow(self.seen(10, 10, node="gw-3", struck={"gw-3": (100, 102)})))

    def test_few_say_little(self):
        self.assertEqual(too_few(self.seen(10, 10)), [])
        self.assertEqual(too_few(self.seen(10, 10, count=200)), ["whole", "brief"])


if __name__ == "__main__":
    unittest.main()
