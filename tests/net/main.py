"""Faults under chat traffic: what fails, whose it was, and how much slower it was meanwhile. See `run`."""

import argparse
import sys
import time
from pathlib import Path

from faults import Keeper, Traffic, fill, isolate, kill, replace, rolling, stop, uplink
from report import SLOWER, report
from soak import soak
from world import World

# Before each fault, in seconds: what its p99 is compared with; less where that is only told.
CALM, CALM_TOLD = 10, 4
# How often a fault is struck in all that was slower each time: what else a machine does comes and goes.
STRIKES = 3


def faults(world, keeper, previous):
    kinds = {
        "upgrade": lambda: rolling(world, keeper, world.program),
        "kill": lambda: kill(world),
        "stop": lambda: stop(world),
        "both": lambda: isolate(world, True),
        "one": lambda: isolate(world, False),
        "uplink": lambda: uplink(world),
        "rolling": lambda: rolling(world, keeper),
        "full": lambda: fill(world),
        "replace": lambda: replace(world),
    }
    if not previous:
        del kinds["upgrade"]
    return kinds


def strike(args, only):
    """One cluster and the faults of `only` (all if it is empty): what was wrong, and what was slower than it may be."""
    began = time.time()
    with World(args.bin, args.haproxy, args.nodes, args.previous, CALM_TOLD if args.report_speed else CALM) as world:
        print(f"{args.nodes} nodes serve behind HAProxy after {time.time() - began:.0f} s", flush=True)
        kinds = faults(world, Keeper(world), args.previous)
        unknown = set(only) - set(kinds)
        if unknown:
            raise SystemExit(f"no such fault: {', '.join(sorted(unknown))}; there are {', '.join(kinds)}")
        traffic, windows = Traffic(world), []
        time.sleep(1)
        for kind, fault in kinds.items():
            if not only or kind in only:
                windows.append(fault())
                windows[-1].kind = kind
        wrong, over = report(world, windows, traffic.end())
        if wrong or args.keep_logs:
            print(f"logs: {world.keep_logs()}")
    return wrong, over


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", required=True)
    parser.add_argument("--haproxy", required=True)
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--only", default="")
    parser.add_argument("--previous")
    parser.add_argument("--report-speed", action="store_true")
    parser.add_argument("--soak", type=float, metavar="MINUTES")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--keep-logs", action="store_true")
    args = parser.parse_args()
    if args.soak:
        return soak(args)
    began = time.time()
    wrong, over = strike(args, [name for name in args.only.split(",") if name])
    strikes = {kind: [figures] for kind, figures in over.items()}
    for _ in range(STRIKES - 1):
        if wrong or not over or args.report_speed:
            break
        print(f"-- struck again, in a new cluster: {', '.join(over)}", flush=True)
        wrong, over = strike(args, list(over))
        for kind, figures in over.items():
            strikes[kind].append(figures)
    for kind in over:
        print(f"{'slow' if args.report_speed else 'WRONG'}: {kind} was not shown to be within x{SLOWER} of the calm before, each time:")
        for figures in strikes[kind]:
            print(f"  {figures}")
    is_wrong = wrong or over and not args.report_speed
    print(f"{'FAILED' if is_wrong else 'ok'} in {time.time() - began:.0f} s")
    return 1 if is_wrong else 0


sys.exit(main())
