"""Faults under chat traffic: what fails, and whose it was. See `run`."""

import argparse
import sys
import time
from pathlib import Path

from faults import Keeper, Traffic, calm, fill, isolate, kill, replace, rolling, stop
from report import report
from soak import soak
from world import World


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", required=True)
    parser.add_argument("--haproxy", required=True)
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--only", default="")
    parser.add_argument("--previous")
    parser.add_argument("--soak", type=float, metavar="MINUTES")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--keep-logs", action="store_true")
    args = parser.parse_args()
    if args.soak:
        return soak(args)
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
