"""Runs the SDK suites against a mock provider, behind the gateway or (--direct) without it.

--direct serves to debug the suites themselves: what only a gateway can show is then left out and counted as such.
"""

import argparse
import os
import subprocess
import sys
import time

from world import World, WorldError, free_ports, start_gateway

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SUITE_SECS = 240
KEY = "sk-troupe-sdk-tests-0123456789abcdef"
NARROW_KEY = "sk-troupe-sdk-narrow-0123456789abcdef"

# `o-...` goes to the provider of OpenAI's wire, `a-...` to the one of Anthropic's: each SDK meets both.
# The rest of the name is the mock's business. The short waits are what makes `+hang` a fault and not a pause.
# Each call is tried once and rests nobody: the checks are about what one failure looks like.
SPEC = """
[defaults]
retries = {{ attempts = 1 }}
breaker = {{ failures = 1000 }}

[providers.openai]
wire = "openai"
base_url = "{mock}/v1"
keys = [{{ name = "main", secret = "env:MOCK_OPENAI_KEY" }}]
timeouts = {{ first_byte = "1500ms", idle = "1500ms" }}

[providers.anthropic]
wire = "anthropic"
base_url = "{mock}"
keys = [{{ name = "main", secret = "env:MOCK_ANTHROPIC_KEY" }}]
timeouts = {{ first_byte = "1500ms", idle = "1500ms" }}

[models."o-*"]
targets = [{{ provider = "openai" }}]

[models."a-*"]
targets = [{{ provider = "anthropic" }}]

[models.gpt-4o-mini]
targets = [{{ provider = "openai" }}]

[models.claude-haiku]
targets = [{{ provider = "anthropic" }}]

[keys.tests]
secret = "env:TROUPE_TEST_KEY"

[keys.narrow]
secret = "env:TROUPE_NARROW_KEY"
models = ["gpt-4o-mini", "claude-haiku"]
"""

# A refused key rests whatever the rules say, so checks of that have providers of their own.
REFUSING = """
[providers.{name}]
wire = "{wire}"
base_url = "{base_url}"
keys = [{{ name = "main", secret = "env:{secret}" }}]

[models."{name}-*"]
targets = [{{ provider = "{name}" }}]
"""


def spec(mock):
    """The spec of the gateway in front of `mock`."""
    wires = {"o": ("openai", f"{mock}/v1", "MOCK_OPENAI_KEY"), "a": ("anthropic", mock, "MOCK_ANTHROPIC_KEY")}
    refusing = [
        REFUSING.format(name=f"{letter}{status}", wire=wire, base_url=base_url, secret=secret)
        for letter, (wire, base_url, secret) in wires.items() for status in (401, 403)
    ]
    return SPEC.format(mock=mock) + "".join(refusing)


def suites(python, node):
    """The suites in order: a name and the command that runs it."""
    return [
        ("python openai", [python, "python/test_openai.py"]),
        ("python openai errors", [python, "python/test_openai_errors.py"]),
        ("python anthropic", [python, "python/test_anthropic.py"]),
        ("python anthropic errors", [python, "python/test_anthropic_errors.py"]),
        ("node openai", [node, "node/openai.mjs"]),
        ("node anthropic", [node, "node/anthropic.mjs"]),
    ]


def run_suite(name, command, env):
    """Runs one suite to its end or its deadline; says whether all of it passed."""
    started = time.monotonic()
    try:
        status = subprocess.run(command, cwd=HERE, env=env, timeout=SUITE_SECS, check=False).returncode
    except subprocess.TimeoutExpired:
        print(f"FAIL {name}: not over within {SUITE_SECS} s", flush=True)
        return False
    print(f"---- {name}: {'passed' if status == 0 else 'FAILED'} in {time.monotonic() - started:.1f} s", flush=True)
    return status == 0


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bin", required=True, help="folder of troupe and troupe-mock")
    parser.add_argument("--node", required=True, help="a node new enough for the SDKs")
    parser.add_argument("--direct", action="store_true", help="talk to the mock itself")
    parser.add_argument("--only", default="", help="run suites whose name contains this")
    args = parser.parse_args()

    with World() as world:
        [mock_port] = free_ports(1)
        mock = f"http://127.0.0.1:{mock_port}"
        world.start("mock", [os.path.join(args.bin, "troupe-mock"), "--listen", f"127.0.0.1:{mock_port}"],
                    f"{mock}/mock/counts")
        base = mock
        if not args.direct:
            secrets = {"MOCK_OPENAI_KEY": "sk-mock-openai", "MOCK_ANTHROPIC_KEY": "sk-mock-anthropic",
                       "TROUPE_TEST_KEY": KEY, "TROUPE_NARROW_KEY": NARROW_KEY}
            base = start_gateway(world, os.path.join(args.bin, "troupe"), spec(mock), secrets)
        # A clean slate: a developer's own keys, proxies and base URLs must not reach the SDKs.
        env = {name: value for name, value in os.environ.items()
               if not name.startswith(("OPENAI_", "ANTHROPIC_")) and not name.lower().endswith("_proxy")}
        env |= {"TEST_BASE": base, "TEST_MOCK": mock, "TEST_KEY": KEY, "TEST_NARROW_KEY": NARROW_KEY,
                "TEST_DIRECT": "1" if args.direct else "", "PYTHONPATH": os.path.join(HERE, "common"),
                "PYTHONDONTWRITEBYTECODE": "1"}
        chosen = [one for one in suites(sys.executable, args.node) if args.only in one[0]]
        failed = [name for name, command in chosen if not run_suite(name, command, env)]
        failed += world.died()
        if failed:
            for name, _, _ in world.running:
                print(f"last lines of {name}:\n{world.tail(name, 15)}", flush=True)
    print(f"sdk tests: {len(chosen) - len([one for one in chosen if one[0] in failed])} of {len(chosen)} suites passed"
          + (f"; failed: {', '.join(failed)}" if failed else ""), flush=True)
    return 1 if failed or not chosen else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except WorldError as error:
        print(f"FAIL sdk tests: {error}", file=sys.stderr)
        sys.exit(1)
