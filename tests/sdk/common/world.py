"""A mock provider and a gateway in front of it, started for one test run and stopped after it."""

import os
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

START_SECS = 20
STOP_SECS = 10


class WorldError(Exception):
    """Something of the world did not come up; the message says what and shows its last words."""


def free_ports(count):
    """Gives ports nobody listens on now, all different; they are taken again a moment later."""
    held = [socket.socket() for _ in range(count)]
    try:
        for one in held:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in held]
    finally:
        for one in held:
            one.close()


def _interrupt(*_):
    raise KeyboardInterrupt


class World:
    """Owns the processes of one run. Use it as a context: leaving it stops everything, however it is left."""

    def __init__(self):
        self.dir = tempfile.TemporaryDirectory(prefix="troupe-test-")
        self.running = []

    def __enter__(self):
        # A cancelled CI job sends SIGTERM; without this the children would outlive it.
        signal.signal(signal.SIGTERM, _interrupt)
        return self

    def __exit__(self, *_):
        for _, process, _ in reversed(self.running):
            process.terminate()
        for _, process, log in reversed(self.running):
            try:
                process.wait(STOP_SECS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            log.close()
        self.dir.cleanup()

    def path(self, name):
        """Gives the path of a file in the run's own folder."""
        return os.path.join(self.dir.name, name)

    def write(self, name, text):
        """Writes a file into the run's own folder and gives its path."""
        with open(self.path(name), "w", encoding="utf-8") as file:
            file.write(text)
        return self.path(name)

    def start(self, name, command, ready, env=None):
        """Starts a process and waits until GET `ready` answers 200.

        Raises WorldError with the process's last lines when it ends or stays silent instead.
        """
        log = open(self.path(f"{name}.log"), "wb")
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, **(env or {})}
        )
        self.running.append((name, process, log))
        deadline = time.monotonic() + START_SECS
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise WorldError(f"{name} ended with status {process.returncode} at its start:\n{self.tail(name)}")
            try:
                with urllib.request.urlopen(ready, timeout=2) as reply:
                    if reply.status == 200:
                        return
            except (urllib.error.URLError, OSError):
                time.sleep(0.02)
        raise WorldError(f"{name} was not ready at {ready} within {START_SECS} s:\n{self.tail(name)}")

    def died(self):
        """Names the processes that ended on their own."""
        return [f"{name} ended with status {process.returncode}"
                for name, process, _ in self.running if process.poll() is not None]

    def tail(self, name, lines=30):
        """Gives the last lines a process wrote."""
        with open(self.path(f"{name}.log"), "rb") as file:
            return "\n".join(file.read().decode("utf-8", "replace").splitlines()[-lines:])


def start_gateway(world, binary, spec, env):
    """Starts `troupe serve` with a spec given as text, and gives the URL of its data port."""
    data, admin, peer = free_ports(3)
    node = world.write(
        "node.toml",
        f'[node]\ndata_dir = "{world.path("data")}"\n'
        f'[listen]\ndata = "127.0.0.1:{data}"\nadmin = "127.0.0.1:{admin}"\npeer = "127.0.0.1:{peer}"\n'
        '[limits]\ndrain_timeout = "2s"\n',
    )
    command = [binary, "serve", "--config", node, "--spec", world.write("spec.toml", spec)]
    url = f"http://127.0.0.1:{data}"
    world.start("gateway", command, f"{url}/readyz", env)
    return url
