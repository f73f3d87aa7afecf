"""What every Python suite needs: checks with deadlines, names for the mock, and what the mock counted."""

import asyncio
import inspect
import itertools
import json
import os
import signal
import sys
import time
import traceback
import urllib.request

BASE = os.environ["TEST_BASE"]
MOCK = os.environ["TEST_MOCK"]
KEY = os.environ["TEST_KEY"]
NARROW_KEY = os.environ["TEST_NARROW_KEY"]
DIRECT = bool(os.environ.get("TEST_DIRECT"))

CHECK_SECS = 20
# What the gateway promises; our own way out and the mock's way of noticing share it.
GONE_SECS = 0.1

_checks = []
_serial = itertools.count(1)


def check(title, *args, needs_gateway=False):
    """Registers a function as a check; with `args` it is called with them. Sync or async."""
    def register(function):
        _checks.append((title, function, args, needs_gateway))
        return function
    return register


def check_each(title, routes, needs_gateway=False):
    """Registers one check a route: `routes` maps the first letter of a model name to what is behind it."""
    def register(function):
        for letter, behind in routes.items():
            _checks.append((f"{title} ({behind})", function, (letter,), needs_gateway))
        return function
    return register


def model(route, knobs=""):
    """Makes a model name no other check has, so that what arrived for it can be counted."""
    return f"{route}-p{os.getpid()}n{next(_serial)}{knobs}"


def words(count=10):
    """The mock's answer in pieces, one a content event."""
    return [f"w{index} " for index in range(count)]


def told(what):
    """What the mock tells of itself."""
    with urllib.request.urlopen(f"{MOCK}/mock/{what}", timeout=5) as reply:
        return json.load(reply)


def counts():
    """What the mock counted so far."""
    return told("counts")


def arrivals(name):
    """How many requests for a model name reached the mock."""
    return counts()["by_model"].get(name, 0)


def requests_for(name):
    """The requests for a model name as they reached the mock, oldest first."""
    return [one for one in told("requests") if json.dumps(name) in one["body"]]


def raises(kind, call, *args, **kwargs):
    """Calls and gives the error, which must be of exactly the class named (or one of its children)."""
    try:
        result = call(*args, **kwargs)
    except kind as error:
        return error
    except Exception as error:
        raise AssertionError(f"expected {kind.__name__}, got {type(error).__name__}: {error}") from error
    raise AssertionError(f"expected {kind.__name__}, got a result: {result!r}")


def same(got, wanted, what="value"):
    """Asserts equality and shows both sides."""
    assert got == wanted, f"{what}: got {got!r}, wanted {wanted!r}"


def upstream_gone_within(leave, secs=GONE_SECS, tries=3):
    """Checks that the mock sees its client go soon after `leave()` made ours go.

    `leave` opens a call, abandons it, and gives its model's name and the moment it did; the mock says how long ago it
    noticed. The best of a few tries counts: a machine that sleeps in between may stretch one, a gateway that does not
    pass the news on stretches all.
    """
    waits = []
    for _ in range(tries):
        name, left = leave()
        while not (departed := [one["ms_ago"] for one in told("closed-early") if one["model"] == name]):
            assert time.monotonic() - left < 3, "the upstream call was still open 3 s after its client had left"
            time.sleep(0.005)
        waits.append(time.monotonic() - left - departed[0] / 1000)
        if waits[-1] <= secs:
            return
    raise AssertionError(f"upstream closed only after {min(waits) * 1000:.0f} ms, {secs * 1000:.0f} promised")


class _Late(BaseException):
    """Not an Exception: no handler of an SDK may swallow it."""


def _run_one(function, args):
    def late(*_):
        raise _Late()
    signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, CHECK_SECS)
    try:
        if inspect.iscoroutinefunction(function):
            asyncio.run(function(*args))
        else:
            function(*args)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def main(suite):
    """Runs every check that was registered, prints a line each, and leaves with 1 if one failed."""
    urllib.request.urlopen(urllib.request.Request(f"{MOCK}/mock/reset", method="POST"), timeout=5).close()
    passed = failed = left_out = 0
    for title, function, args, needs_gateway in _checks:
        if needs_gateway and DIRECT:
            left_out += 1
            continue
        try:
            _run_one(function, args)
        except (Exception, _Late) as error:
            failed += 1
            reason = f"not over within {CHECK_SECS} s" if isinstance(error, _Late) else (str(error) or repr(error))
            frame = next((frame for frame in reversed(traceback.extract_tb(error.__traceback__))
                          if frame.filename == inspect.getfile(function)), None)
            place = f" [line {frame.lineno}]" if frame else ""
            print(f"FAIL {suite} · {title}{place}: {type(error).__name__}: {reason[:600]}", flush=True)
        else:
            passed += 1
            print(f"ok   {suite} · {title}", flush=True)
    note = f", {left_out} need the gateway" if left_out else ""
    print(f"     {suite}: {passed} passed, {failed} failed{note}", flush=True)
    sys.exit(1 if failed or not passed else 0)
