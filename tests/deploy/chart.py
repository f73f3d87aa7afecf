"""Reads what Helm renders as Kubernetes would: by its strict schemas, in several versions of it; ServiceMonitors by their CRD.

The schemas come in the package `kubernetes-validate`, so nothing is asked of a network. What a schema cannot say, that a
name in one place is a name in another, is checked by hand. Then the chart is broken in many ways, one at a time, and each
must be found: a check that finds nothing wrong must be one that can.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import jsonschema
import kubernetes_validate
import yaml

HELM, CHART, CRDS, WORK = (Path(arg) for arg in sys.argv[1:5])
# The chart's oldest, the one most clusters run, and the newest there are schemas of.
KUBERNETES = ("1.27.0", "1.31.0", "1.37.0")

# Values under which the chart is rendered.
VARIANTS = {
    "as it comes": {},
    "one node": {"replicas": 1, "bootstrapExpect": 1, "podDisruptionBudget": {"enabled": False}, "topologySpreadConstraints": []},
    "five nodes, watched": {
        "replicas": 5, "bootstrapExpect": 5, "envFromSecret": "keys", "env": {"TROUPE_LOG_LEVEL": "debug", "TROUPE_LIMITS_IN_FLIGHT": 500},
        "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    },
    "every setting": {
        "replicas": 7, "image": {"repository": "registry.test/troupe", "tag": "1.2", "pullPolicy": "Always"},
        "imagePullSecrets": [{"name": "pull"}], "existingSecret": "own", "envFromSecret": "keys", "env": {"TROUPE_LOG_LEVEL": "info"},
        "resources": {"requests": {"cpu": 2, "memory": "1Gi"}, "limits": {"cpu": "1500m", "memory": "1Gi"}},
        "persistence": {"size": "20Gi", "storageClass": "fast"}, "drain": {"delay": "5s", "timeout": "60s", "graceSeconds": 90},
        "service": {"type": "LoadBalancer", "port": 443, "annotations": {"a.test/b": "c"}},
        "podDisruptionBudget": {"enabled": True, "maxUnavailable": "34%"},
        "serviceMonitor": {"enabled": True, "interval": "30s", "labels": {}, "tokenSecret": {"name": "t", "key": "k"}},
        "podAnnotations": {"a.test/b": "true"}, "nodeSelector": {"kubernetes.io/arch": "amd64"},
        "tolerations": [{"key": "only", "operator": "Equal", "value": "llm", "effect": "NoSchedule"}],
        "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
            {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app.kubernetes.io/name": "troupe"}}}]}},
    },
}

# Faults planted in the templates: file, what stands there, what shall stand there.
BROKEN = [
    ("statefulset.yaml", "  serviceName:", "  servicename:"),
    ("statefulset.yaml", "replicas: {{ .Values.replicas }}", "replicas: {{ .Values.replicas | quote }}"),
    ("statefulset.yaml", "containerPort: 8081", 'containerPort: "8081"'),
    ("statefulset.yaml", "{{ .Values.bootstrapExpect | quote }}", "{{ .Values.bootstrapExpect }}"),
    ("statefulset.yaml", "terminationGracePeriodSeconds: {{ .Values.drain.graceSeconds }}", "terminationGracePeriodSeconds: 150s"),
    ("statefulset.yaml", "            allowPrivilegeEscalation: false", "            allowPrivilegeEscalation: false\n            fsGroup: 65532"),
    ("statefulset.yaml", "capabilities: { drop: [ALL] }", "capabilities: { drop: ALL }"),
    ("statefulset.yaml", "          args: [serve]", "          args: [serve]\n          args: [dev]"),
    ("statefulset.yaml", "          image:", "          Image:"),
    ("statefulset.yaml", "- metadata:\n        name: data", "- metadata:\n        name: dada"),
    ("statefulset.yaml", "path: /readyz, port: http", "path: /readyz, port: https"),
    ("statefulset.yaml", 'include "troupe.labels" . | nindent 8', 'printf "app: gw" | nindent 8'),
    ("pdb.yaml", "policy/v1", "policy/v1beta1"),
    ("pdb.yaml", "  maxUnavailable:", "  maxUnavailble:"),
    ("services.yaml", "clusterIP: None", "clusterIP: [None]"),
    ("services.yaml", "targetPort: http", "targetPort: htpp"),
    ("services.yaml", "port: 8082, targetPort: peer", 'port: "8082", targetPort: peer'),
    ("services.yaml", 'name: {{ include "troupe.name" . }}-peers', 'name: {{ include "troupe.name" . }}-nodes'),
    ("servicemonitor.yaml", "  endpoints:", "  endpoint:"),
    ("servicemonitor.yaml", "    - port: admin", "    - port: 8081"),
    ("servicemonitor.yaml", "interval: {{ .Values.serviceMonitor.interval }}", "interval: often"),
]


class Loader(yaml.SafeLoader):
    """YAML in which a key that stands twice is an error, as in Kubernetes' strict decoding."""

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        if len(keys) != len(set(keys)):
            raise yaml.YAMLError(f"a key stands twice{node.start_mark}")
        return super().construct_mapping(node, deep)


def render(chart, values, kubernetes):
    file = WORK / "values.yaml"
    file.write_text(yaml.safe_dump(values))
    done = subprocess.run(
        [HELM, "template", "gw", chart, "--kube-version", kubernetes, "--namespace", "llm", "--values", file],
        capture_output=True, text=True, check=False, timeout=60)
    return (done.stdout, None) if done.returncode == 0 else ("", done.stderr.strip())


def strict(schema):
    """The same schema, taking no members that it does not name: a CRD's own lets them pass, and they are dropped."""
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    out = {key: strict(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and "additionalProperties" not in out and schema.get("type") == "object":
        out["additionalProperties"] = False
    if out.pop("x-kubernetes-int-or-string", False):
        out.pop("type", None)
    return out


def custom():
    """Schemas of what Kubernetes itself does not know, by version and kind."""
    out = {}
    for file in CRDS.glob("*_servicemonitors.yaml"):
        crd = yaml.safe_load(file.read_text())
        for version in crd["spec"]["versions"]:
            schema = strict(version["schema"]["openAPIV3Schema"])
            # Any object has a name and labels; what they look like is not the CRD's to say.
            schema["properties"]["metadata"] = {"type": "object"}
            out[f"{crd['spec']['group']}/{version['name']}", crd["spec"]["names"]["kind"]] = schema
    return out


def by_schema(document, kubernetes, customs):
    where = f"{document.get('kind')} {document.get('metadata', {}).get('name')}"
    own = customs.get((document.get("apiVersion"), document.get("kind")))
    try:
        if own:
            jsonschema.validate(document, own)
        else:
            kubernetes_validate.validate(document, kubernetes, strict=True)
    except jsonschema.ValidationError as error:
        path = ".".join(map(str, error.absolute_path))
        yield f"{where}: {path}: {error.message[:160]}"
    except kubernetes_validate.SchemaNotFoundError as error:
        yield f"{where}: {error.message}"


def by_name(documents):
    """Names that must mean something elsewhere."""
    of = lambda kind: [document for document in documents if document["kind"] == kind]
    services = {service["metadata"]["name"]: service["spec"] for service in of("Service")}
    for whole in of("StatefulSet"):
        spec, pod = whole["spec"], whole["spec"]["template"]["spec"]
        labels = spec["template"]["metadata"]["labels"]
        fits = lambda selector: selector and selector.items() <= labels.items()
        for kind, selector in [("StatefulSet", spec["selector"]["matchLabels"])] + [
            ("Service", service["selector"]) for service in services.values()
        ] + [("PodDisruptionBudget", pdb["spec"]["selector"]["matchLabels"]) for pdb in of("PodDisruptionBudget")]:
            if not fits(selector):
                yield f"a {kind} selects other pods: {selector}"
        if services.get(spec["serviceName"], {}).get("clusterIP") != "None":
            yield f"no headless service {spec['serviceName']}"
        for name in set(re.findall(r"[\w-]+(?=\.llm\.svc)", yaml.safe_dump(whole))):
            if name not in services:
                yield f"an address names no service: {name}"
        volumes = {volume["name"] for volume in pod.get("volumes", [])}
        volumes |= {claim["metadata"]["name"] for claim in spec.get("volumeClaimTemplates", [])}
        ports = set()
        for container in pod["containers"]:
            ports |= {port["name"] for port in container["ports"]}
            for mount in container["volumeMounts"]:
                if mount["name"] not in volumes:
                    yield f"no volume {mount['name']}"
            for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
                if container[probe]["httpGet"]["port"] not in ports:
                    yield f"{probe} asks no port: {container[probe]['httpGet']['port']}"
        for service in services.values():
            for port in service["ports"]:
                if port["targetPort"] not in ports:
                    yield f"a service leads to no port: {port['targetPort']}"
        for monitor in of("ServiceMonitor"):
            known = {port["name"] for service in services.values() for port in service["ports"]}
            for endpoint in monitor["spec"]["endpoints"]:
                if endpoint["port"] not in known:
                    yield f"a ServiceMonitor asks no port: {endpoint['port']}"


def faults(chart, values, kubernetes, customs):
    """How many documents there are, and what is wrong with them."""
    text, error = render(chart, values, kubernetes)
    if error:
        return 0, [f"helm: {error}"]
    try:
        documents = [document for document in yaml.load_all(text, Loader) if document]
    except yaml.YAMLError as error:
        return 0, [f"YAML: {error}"]
    wrong = [line for document in documents for line in by_schema(document, kubernetes, customs)]
    # Names are looked up where forms are right.
    return len(documents), wrong or list(by_name(documents))


def main():
    customs, failed = custom(), 0
    if not customs:
        sys.exit(f"no schema of ServiceMonitor in {CRDS}")
    for name, values in VARIANTS.items():
        for kubernetes in KUBERNETES:
            count, wrong = faults(CHART, values, kubernetes, customs)
            print(f"{name}, Kubernetes {kubernetes}: {count} documents{', well' if not wrong else ''}")
            for line in wrong or ([] if count else ["nothing was rendered"]):
                print(f"  WRONG {line}")
                failed += 1
    found = 0
    for number, (file, old, new) in enumerate(BROKEN):
        broken = WORK / f"broken-{number}"
        shutil.copytree(CHART, broken)
        path = broken / "templates" / file
        text = path.read_text()
        if old not in text:
            sys.exit(f"{file} has no {old!r} to break")
        path.write_text(text.replace(old, new, 1))
        _, wrong = faults(broken, VARIANTS["five nodes, watched"], KUBERNETES[1], customs)
        if wrong:
            found += 1
            print(f"  found, {file}: {wrong[0].splitlines()[0][:150]}")
        else:
            print(f"  WRONG a broken chart passes: {file}: {new!r}")
            failed += 1
    print(f"{len(VARIANTS)} sets of values, {len(KUBERNETES)} versions of Kubernetes; {found} of {len(BROKEN)} planted faults found")
    return 1 if failed else 0


sys.exit(main())
