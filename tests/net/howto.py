"""Runs docs/howto/three-nodes.md, command by command: each must end with 0. See `run --howto`."""

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from world import HUB, KEY, World, sh, until

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/howto/three-nodes.md"
# Where the page keeps things: bound to a directory of each node's own, in its own mount namespace.
ETC, LIB = Path("/etc/troupe"), Path("/var/lib/troupe")


class Site(World):
    """Three bare machines, and one for the balancer and the operator."""

    def build(self):
        (self.dir / "bin").mkdir()
        (self.dir / "bin" / "troupe").symlink_to(self.program.resolve())
        self.work = self.dir / "work"
        self.work.mkdir()
        self.made = [path for path in (ETC, LIB) if not path.exists()]
        for path in self.made:
            path.mkdir()
        self.namespace(self.hub, HUB)
        self.spawn(self.hub, [self.mock, "--listen", f"{HUB}:9100"], stdout=subprocess.DEVNULL)
        for number in (1, 2, 3):
            ns = f"{self.prefix}{number}"
            self.nodes[number] = Machine(self, number, ns)
            self.namespace(ns, f"10.77.0.{number}")
        shutil.copy(self.haproxy_cfg, self.work / "haproxy.cfg")
        (self.work / "spec.toml").write_text(
            f'[providers.mock]\nwire = "openai"\nbase_url = "http://{HUB}:9100/v1"\n'
            '[models."chat*"]\ntargets = [{ provider = "mock" }]\n[keys.net]\nsecret = "env:NET_KEY"\n'
        )

    def __exit__(self, *error):
        super().__exit__(*error)
        for path in getattr(self, "made", []):
            path.rmdir()

    def shell(self, ns, script, env, **more):
        # The hub's machine has the page's working directory; a node's has its own /etc and /var/lib.
        path = f"{self.dir}/bin:{os.environ['PATH']}"
        return subprocess.run(
            ["ip", "netns", "exec", ns, "bash", "-ec", script], cwd=self.work, text=True, capture_output=True, check=False,
            env={"PATH": path, "HOME": "/root", "NET_KEY": KEY} | env, timeout=180, **more)


class Machine:
    def __init__(self, site, number, ns):
        self.site, self.ns, self.name, self.process = site, ns, f"gw-{number}", None
        self.etc, self.data = site.dir / "etc" / self.name, site.dir / "lib" / self.name
        self.etc.mkdir(parents=True)
        self.data.mkdir(parents=True)
        self.ends = []

    def bound(self, command):
        return f"mount --bind {self.etc} {ETC}; mount --bind {self.data} {LIB}; exec {command}"

    def serve(self, command):
        log = open(self.site.dir / f"{self.name}.log", "a")
        script = self.bound(command).replace("exec troupe", f"exec {self.site.program}")
        self.process = self.site.spawn(self.ns, ["bash", "-ec", script], stdout=subprocess.DEVNULL, stderr=log)
        threading.Thread(target=self.keep, args=(command, self.process), daemon=True).start()

    def keep(self, command, process):
        """Starts it again when it ends with 0, as the page's supervisor would."""
        self.ends.append(process.wait())
        if self.ends[-1] == 0:
            self.serve(command)


def blocks(text):
    for match in re.finditer(r"```(\w+)\n(.*?)```", text, re.S):
        yield match[1], match[2]


def commands(block):
    """A loop stands on one line in the page; so does every command."""
    return [line for line in block.splitlines() if line.strip() and not line.startswith("#")]


def run(site):
    env, ran = {}, 0
    for kind, block in blocks(PAGE.read_text()):
        if kind == "toml":
            for machine in site.nodes.values():
                (machine.etc / "node.toml").write_text(block.replace('"gw-1"\ndata_dir', f'"{machine.name}"\ndata_dir'))
                for name in ("ca/ca.crt", "seal-key", "admin-token", f"{machine.name}/peer.crt", f"{machine.name}/peer.key"):
                    shutil.copy(site.work / name, machine.etc)
            continue
        for command in commands(block):
            print(f"$ {command}", flush=True)
            ran += 1
            if command.startswith("export "):
                env |= dict(pair.split("=", 1) for pair in command.split()[1:])
            elif command.startswith("troupe serve "):
                for machine in site.nodes.values():
                    machine.serve(command)
                ready = "curl -fsS -m 1 http://gw-{}:8081/readyz"
                for number in site.nodes:
                    until(f"gw-{number} is ready", 40, lambda number=number: site.shell(
                        site.hub, ready.format(number), env).returncode == 0)
            elif command.startswith("haproxy -f "):
                log = open(site.dir / "haproxy.log", "w")
                words = ["bash", "-c", f"cd {site.work} && exec {command}"]
                site.spawn(site.hub, words, stdout=log, stderr=log)
                time.sleep(2)
            else:
                first = site.nodes[1]
                is_local = "/etc/troupe" in command
                done = site.shell(first.ns if is_local else site.hub, first.bound(command) if is_local else command, env)
                print("".join(f"  {line}\n" for line in (done.stdout + done.stderr).splitlines()[:14]), end="", flush=True)
                if done.returncode:
                    print(f"FAILED with {done.returncode}: {command}")
                    return 1
    call = (
        f"curl -fsS -m 10 http://127.0.0.1:8080/v1/chat/completions -H 'authorization: Bearer {KEY}' "
        '-H "content-type: application/json" -d \'{"model": "chat", "messages": [{"role": "user", "content": "hi"}]}\''
    )
    done = site.shell(site.hub, call, env)
    if done.returncode or "w9" not in done.stdout:
        print(f"FAILED: the gateway does not answer: {done.stdout}{done.stderr}")
        return 1
    ends = [end for machine in site.nodes.values() for end in machine.ends]
    if ends != [0, 0, 0]:
        print(f"FAILED: nodes ended with {ends}, each should have restarted once")
        return 1
    print(f"ok: {ran} commands of {PAGE.relative_to(ROOT)}, and a chat through the balancer")
    return 0


if __name__ == "__main__":
    signal.alarm(280)
    with Site(sys.argv[1], sys.argv[2], 3) as place:
        result = run(place)
        if result:
            print(f"logs: {place.keep_logs()}")
    sys.exit(result)
