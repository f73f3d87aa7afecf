"""Evaluates every query of deploy/prometheus and deploy/grafana on a Prometheus that scrapes a real node."""

import json
import re
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from pathlib import Path

BIN, ROOT, WORK = (Path(arg) for arg in sys.argv[1:4])
DATA, ADMIN, MOCK, PROMETHEUS = "127.0.0.1:18180", "127.0.0.1:18181", "127.0.0.1:18182", "127.0.0.1:18190"
TOKEN, KEY = "deploy-admin-token", "sk-deploy"
# What a node alone, that nothing has happened to, has no series of.
RARE = {"troupe_raft_behind_entries", "troupe_peer_certificate_expiry_seconds", "troupe_peer_round_trip_seconds"}


def get(url, **headers):
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=5) as reply:
        return reply.read().decode()


def until(what, seconds, condition):
    deadline = time.time() + seconds
    while True:
        try:
            if condition():
                return
        except OSError:
            pass
        if time.time() > deadline:
            sys.exit(f"not within {seconds} s: {what}")
        time.sleep(0.2)


def queries():
    """Where each query stands, and what it is."""
    text = (ROOT / "deploy/prometheus/alerts.yaml").read_text()
    rule = None
    lines = iter(text.splitlines())
    for line in lines:
        if match := re.match(r"\s+- alert: (\w+)", line):
            rule = match[1]
        if match := re.match(r"(\s+)expr: (.*)", line):
            expr = match[2]
            if expr == "|":
                more = []
                for line in lines:
                    if not line.startswith(match[1] + "  "):
                        break
                    more.append(line.strip())
                expr = " ".join(more)
            yield f"alert {rule}", expr
    for file in sorted((ROOT / "deploy/grafana").glob("*.json")):
        for panel in json.loads(file.read_text())["panels"]:
            for target in panel["targets"]:
                expr = target["expr"].replace("$__rate_interval", "5s").replace("$job", "troupe").replace("$instance", ".*")
                yield f"{file.name}: {panel['title']}", expr


def evaluate(expr):
    url = f"http://{PROMETHEUS}/api/v1/query?" + urllib.parse.urlencode({"query": expr})
    try:
        return json.loads(get(url))["data"]["result"], None
    except urllib.error.HTTPError as error:
        return None, json.loads(error.read())["error"]


def main():
    (WORK / "spec.toml").write_text(
        f'[providers.mock]\nwire = "openai"\nbase_url = "http://{MOCK}/v1"\n'
        '[models."chat*"]\ntargets = [{ provider = "mock" }]\n'
        f'[keys.k]\nhash = "{__import__("hashlib").sha256(KEY.encode()).hexdigest()}"\n'
    )
    (WORK / "token").write_text(TOKEN)
    (WORK / "prometheus.yml").write_text(
        f"global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\nrule_files: [{ROOT}/deploy/prometheus/alerts.yaml]\n"
        f"scrape_configs:\n  - job_name: troupe\n    authorization: {{ credentials_file: {WORK}/token }}\n"
        f'    static_configs: [{{ targets: ["{ADMIN}"] }}]\n'
    )
    log = open(WORK / "queries.log", "w")
    start = lambda *words, **more: subprocess.Popen([str(word) for word in words], stdout=log, stderr=log, **more)
    running = [start(BIN / "troupe-mock", "--listen", MOCK)]
    try:
        node = start(
            BIN / "troupe", "serve", f"--data-dir={WORK}/data", f"--listen-data={DATA}", f"--listen-admin={ADMIN}",
            f"--listen-admin-token=file:{WORK}/token", "--log-access=off", "--limits-drain-delay=0s")
        running.append(node)
        running.append(start(
            "prometheus", f"--config.file={WORK}/prometheus.yml", f"--storage.tsdb.path={WORK}/tsdb",
            f"--web.listen-address={PROMETHEUS}"))
        until("the node is ready", 20, lambda: "ready" in get(f"http://{ADMIN}/readyz"))
        applied = subprocess.run(
            [BIN / "troupe", "apply", "-f", WORK / "spec.toml", "--yes", "--admin-url", f"http://{ADMIN}", "--admin-token", TOKEN],
            capture_output=True, text=True, check=False)
        if applied.returncode:
            sys.exit(f"apply: {applied.stderr}")
        until("Prometheus scrapes", 20, lambda: evaluate("up{job='troupe'} == 1")[0])
        end = time.time() + 6
        while time.time() < end:
            for stream in (False, True):
                body = json.dumps({"model": "chat", "stream": stream, "messages": [{"role": "user", "content": "x"}]})
                request = urllib.request.Request(
                    f"http://{DATA}/v1/chat/completions", body.encode(),
                    {"content-type": "application/json", "authorization": f"Bearer {KEY}"})
                urllib.request.urlopen(request, timeout=5).read()
            time.sleep(0.2)
        page = get(f"http://{ADMIN}/metrics", authorization=f"Bearer {TOKEN}")
        known = set(re.findall(r"^# TYPE (\w+)", page, re.M))
        documented = set(re.findall(r"^\| `(\w+)` \|", (ROOT / "docs/reference/metrics.md").read_text(), re.M))
        wrong, empty, count = [], [], 0
        for where, expr in queries():
            count += 1
            names = {re.sub(r"_(bucket|sum|count)$", "", name) for name in re.findall(r"\b(?:troupe|process)_\w+", expr)}
            wrong += [f"{where}: no such metric: {name}" for name in names - known - documented]
            result, error = evaluate(expr)
            if error:
                wrong.append(f"{where}: {error}")
            elif not result and not where.startswith("alert") and not names & RARE:
                empty.append(where)
        print(f"{count} queries, {len(known)} metrics on the page; nothing to show yet: {', '.join(empty) or '-'}")
        # Rates of what has not happened are empty; a dashboard that shows nothing at all is wrong.
        if len(empty) > count // 3:
            wrong.append(f"{len(empty)} of {count} queries show nothing")
        firing = [alert["labels"]["alertname"] for alert in json.loads(get(f"http://{PROMETHEUS}/api/v1/alerts"))["data"]["alerts"]]
        wrong += [f"{name} fires on a node that is well" for name in firing]
        print("\n".join(f"WRONG {line}" for line in wrong))
        return 1 if wrong else 0
    finally:
        for process in reversed(running):
            process.terminate()
            process.wait()


sys.exit(main())
