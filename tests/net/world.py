"""A cluster of real processes: each node in a network namespace of its own, HAProxy, a provider and clients in another."""

import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

ADMIN = "net-admin-token"
KEY = "sk-net"
HUB = "10.77.0.100"
# The provider is on the hub's machine by an address of its own: the way to it is not the way to the balancer.
PROVIDER = "10.77.0.200"
TIMEOUTS = '{ connect = "500ms", first_byte = "1s" }'


def sh(*words, check=True, **more):
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False, **more)
    if check and done.returncode:
        raise RuntimeError(f"{' '.join(map(str, words))}: {done.returncode}\n{done.stdout}{done.stderr}")
    return done


def until(what, seconds, condition):
    """Waits for a condition and gives what it came to."""
    deadline = time.time() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.time() > deadline:
            raise RuntimeError(f"not within {seconds} s: {what}")
        time.sleep(0.05)


class Node:
    def __init__(self, world, number):
        self.world, self.number, self.name = world, number, f"gw-{number}"
        self.ns, self.ip = f"{world.prefix}{number}", f"10.77.0.{number}"
        self.data = world.dir / "data" / self.name
        self.process, self.starts, self.kept, self.program = None, 0, False, world.first
        self.expect = None

    def start(self):
        self.starts += 1
        certs = self.world.dir / "certs"
        flags = {
            "name": self.name,
            "data-dir": self.data,
            "listen-data": f"{self.ip}:8080",
            "listen-admin": f"{self.ip}:8081",
            "listen-peer": f"{self.ip}:8082",
            "listen-admin-token": f"file:{self.world.dir}/admin-token",
            "cluster-seal-key": f"file:{self.world.dir}/seal-key",
            "cluster-tls-ca": f"file:{certs}/ca/ca.crt",
            "cluster-tls-cert": f"file:{certs}/{self.name}/peer.crt",
            "cluster-tls-key": f"file:{certs}/{self.name}/peer.key",
            "cluster-join": ",".join(f"10.77.0.{n}:8082" for n in range(1, self.world.count + 1)),
            "cluster-advertise": f"{self.ip}:8082",
            "data-threads": 1,
            "limits-drain-delay": "2s",
            "limits-drain-timeout": "20s",
            "log-access": "off",
        }
        if self.expect:
            flags["cluster-bootstrap-expect"] = self.expect
        words = [self.program, "serve"] + [f"--{name}={value}" for name, value in flags.items()]
        with open(self.world.dir / f"{self.name}.log", "a") as log:
            self.process = self.world.spawn(self.ns, words, stdout=subprocess.DEVNULL, stderr=log)

    def signal(self, name):
        self.process.send_signal(name)

    @property
    def runs(self):
        """The program that its process is, whatever its file is called by now."""
        return Path(f"/proc/{self.process.pid}/exe")

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process = None

    def ask(self, path, method="GET", timeout=2):
        """A question to its operators' listener, from where the balancer is; None if it does not answer."""
        words = ["curl", "-s", "-m", timeout, "-X", method, "-H", f"authorization: Bearer {ADMIN}", "-w", "\n%{http_code}"]
        done = self.world.inside(self.world.hub, *words, f"http://{self.ip}:8081{path}", check=False)
        text, _, status = done.stdout.rpartition("\n")
        return (int(status), text) if done.returncode == 0 and status.isdigit() else None

    @property
    def ready(self):
        return (self.ask("/readyz") or (0,))[0] == 200

    def json(self, path, method="GET"):
        status, text = self.ask(path, method) or (0, "")
        return json.loads(text) if status == 200 else {}

    def log(self):
        return (self.world.dir / f"{self.name}.log").read_text()


class World:
    def __init__(self, binaries, haproxy, count, previous=None, calm=0):
        self.program, self.mock = Path(binaries) / "troupe", Path(binaries) / "troupe-mock"
        # What a node is first started with; an upgrade is to `program`.
        self.count, self.haproxy_cfg, self.first = count, Path(haproxy), Path(previous) if previous else self.program
        # How long all is left alone before each fault, in seconds.
        self.calm = calm
        self.prefix = f"tn{os.getpid() % 10000}-"
        self.hub = f"{self.prefix}hub"
        self.dir = Path(tempfile.mkdtemp(prefix="troupe-net-"))
        self.spawned, self.nodes, self.haproxy = [], {}, None

    def __enter__(self):
        try:
            self.build()
        except BaseException:
            self.__exit__(True)
            raise
        return self

    def keep_logs(self):
        logs = Path(os.environ.get("TROUPE_CI_LOGS", "/tmp")) / "net-logs"
        shutil.rmtree(logs, ignore_errors=True)
        logs.mkdir(parents=True)
        for file in list(self.dir.glob("*.log")) + list(self.dir.glob("*.jsonl")):
            shutil.copy(file, logs)
        return logs

    def __exit__(self, *error):
        if error and error[0]:
            print(f"logs: {self.keep_logs()}", flush=True)
        for process in self.spawned:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
                process.wait()
        for node in self.nodes.values():
            sh("umount", node.data, check=False)
        for ns in [self.hub] + [node.ns for node in self.nodes.values()]:
            sh("ip", "netns", "del", ns, check=False)
            shutil.rmtree(f"/etc/netns/{ns}", ignore_errors=True)
        shutil.rmtree(self.dir, ignore_errors=True)

    def inside(self, ns, *words, **more):
        return sh("ip", "netns", "exec", ns, *words, **more)

    def spawn(self, ns, words, **more):
        # The node itself, not a shell around it: signals must reach it. `ip netns exec` becomes what it runs.
        process = subprocess.Popen(["ip", "netns", "exec", ns] + [str(word) for word in words], **more)
        self.spawned.append(process)
        return process

    def namespace(self, ns, ip):
        sh("ip", "netns", "add", ns)
        self.inside(ns, "ip", "link", "set", "lo", "up")
        hosts = Path("/etc/netns") / ns
        hosts.mkdir(parents=True, exist_ok=True)
        names = "".join(f"10.77.0.{n} gw-{n}\n" for n in range(1, 20))
        (hosts / "hosts").write_text(f"127.0.0.1 localhost\n{names}")
        if ns == self.hub:
            self.inside(ns, "ip", "link", "add", "br0", "type", "bridge")
            self.inside(ns, "ip", "addr", "add", f"{ip}/24", "dev", "br0")
            self.inside(ns, "ip", "link", "set", "br0", "up")
            return
        port = f"p{ip.rsplit('.', 1)[1]}"
        self.inside(self.hub, "ip", "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", ns)
        self.inside(self.hub, "ip", "link", "set", port, "master", "br0", "up")
        self.inside(ns, "ip", "addr", "add", f"{ip}/24", "dev", "eth0")
        self.inside(ns, "ip", "link", "set", "eth0", "up")

    def certify(self, name):
        certs = self.dir / "certs"
        sh(self.program, "cert", "issue", "--ca", certs / "ca", "--name", name, "--out", certs / name)

    def add(self, number):
        node = Node(self, number)
        self.nodes[number] = node
        self.namespace(node.ns, node.ip)
        self.certify(node.name)
        return node

    def build(self):
        (self.dir / "certs").mkdir()
        (self.dir / "data").mkdir()
        (self.dir / "admin-token").write_text(ADMIN)
        (self.dir / "seal-key").write_text("5e" * 32)
        sh(self.program, "ca", "init", "--out", self.dir / "certs" / "ca")
        self.namespace(self.hub, HUB)
        self.inside(self.hub, "ip", "addr", "add", f"{PROVIDER}/24", "dev", "br0")
        provider = self.spawn(self.hub, [self.mock, "--listen", f"{PROVIDER}:9100"], stdout=subprocess.DEVNULL)
        for number in range(1, self.count + 1):
            node = self.add(number)
            node.expect = self.count
            node.start()
        for node in self.nodes.values():
            until(f"{node.name} is ready\n{node.log()}", 60, lambda node=node: node.ready)
        assert provider.poll() is None
        spec = self.dir / "spec.toml"
        spec.write_text(
            # A provider that says nothing is noticed within seconds, not after a minute as models may think.
            f'[providers.mock]\nwire = "openai"\nbase_url = "http://{PROVIDER}:9100/v1"\ntimeouts = {TIMEOUTS}\n'
            '[models."chat*"]\ntargets = [{ provider = "mock" }]\n'
            f'[providers.other]\nwire = "anthropic"\nbase_url = "http://{PROVIDER}:9100"\ntimeouts = {TIMEOUTS}\n'
            '[models."translated*"]\ntargets = [{ provider = "other" }]\n'
            '[keys.net]\nsecret = "env:NET_KEY"\n'
        )
        self.cli(1, "apply", "-f", spec, "--yes")
        self.balance()

    def balance(self):
        """HAProxy with the configuration that is handed out; further nodes as further lines of the same kind."""
        more = "".join(f"    server gw-{n} gw-{n}:8080\n" for n in range(4, self.count + 2))
        config = self.dir / "haproxy.cfg"
        config.write_text(self.haproxy_cfg.read_text().rstrip() + "\n" + more)
        self.haproxy_log = open(self.dir / "haproxy.log", "w")
        self.haproxy = self.spawn(self.hub, ["haproxy", "-db", "-f", config], stdout=self.haproxy_log, stderr=self.haproxy_log)
        until("HAProxy serves", 10, lambda: self.inside(
            self.hub, "curl", "-s", "-m", "1", "http://127.0.0.1:8080/healthz", check=False).returncode == 0)
        time.sleep(1.5)

    def cli(self, number, *words, check=True):
        env = os.environ | {"TROUPE_ADMIN_URL": f"http://10.77.0.{number}:8081", "TROUPE_ADMIN_TOKEN": ADMIN, "NET_KEY": KEY}
        return self.inside(self.hub, self.program, *words, check=check, env=env)

    @property
    def leader(self):
        def look():
            for node in self.nodes.values():
                if node.process and node.process.poll() is None:
                    status = node.json("/admin/v1/cluster")
                    if status.get("role") == "leader" and (status.get("confirmed_ms") or 0) < 2000:
                        return node
            return None

        return until("somebody leads", 20, look)

    def follower(self):
        leader = self.leader
        return next(node for node in self.nodes.values() if node is not leader and node.process)

    def whole(self):
        """Every node is up, in touch and has what there is."""
        for node in self.nodes.values():
            if node.process:
                until(f"{node.name} is ready", 40, lambda node=node: node.ready)
                until(f"{node.name} is in touch", 40, lambda node=node: (
                    node.json("/admin/v1/cluster").get("confirmed_ms", 99999) or 0) < 2000)
        time.sleep(1.5)

    def connections(self):
        """What HAProxy says of each connection that ended: the client's port, the node, from when to when."""
        line = re.compile(r"(\S+):(\d+) \[(\S+)\] clients troupe/(\S+) [-\d]+/[-\d]+/\+?(\d+) \d+ (\S\S)")
        out = []
        for match in map(line.search, (self.dir / "haproxy.log").read_text().splitlines()):
            if match:
                at, millis = match[3].rsplit(".", 1)
                began = time.mktime(time.strptime(at, "%d/%b/%Y:%H:%M:%S")) + int(millis) / 1000
                out.append((int(match[2]), match[4], began, began + int(match[5]) / 1000, match[6]))
        return out
