"""Seeded changes to manifests: slips of the pen anywhere, and the settings that KubeRay's controller has rules about."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import random

SECRET = "s3kr3t-v4lue"  # stands where secrets stand; no finding may repeat it

JUNK: list[Any] = [
    *(None, True, False, -1, 0, 1, 2**31, -(2**40), 2**63, 10**30, 1.5, -2.0, 3.0),
    *("", "x", "4", "Upper Case", "é" * 300, "a\u2028b", "-1", "1e3", "100Gi\n", "never"),
    *([], {}, [1], [None], [{}], {"a": 1}, {"": None}, [[]], ["x", "x"], {"name": "x"}),
]
EXTRA = [
    "extra",
    "replicas",
    "containers",
    "spec",
    "template",
    "name",
    "image",
    "nodeSelector",
    "rayVersion",
    "volumes",
]

# Where a rule of the controller has something to say: owner (the object, its spec, the cluster's spec, the head's
# container, the head group, a worker group), key, values. Some are right, some wrong, some only beside others.
SETTINGS: list[tuple[str, str, list[Any]]] = [
    ("metadata", "annotations", [{"ray.io/ft-enabled": "true"}, {"ray.io/ft-enabled": ""}, {"Bad Key": "x"}, {"a": 1}]),
    ("metadata", "annotations", [{"ray.io/external-storage-namespace": "x"}]),
    (
        "metadata",
        "annotations",
        [
            {"ray.io/initializing-timeout": text}
            for text in (
                "5m",
                "1h30m",
                "90",
                "0",
                "-5m",
                "5",
                "+5s",
                "abc",
                "5 m",
                "1.5.h",
                "",
                "0s",
                "99999999h",
                ".5s",
            )
        ],
    ),
    ("metadata", "labels", [{"ray.io/originated-from-crd": "RayJob"}, {"a/b/c": "x"}, {"a": "b c"}, {"a": "-b"}]),
    ("metadata", "generateName", ["good-", "Bad-", 5, "x" * 45]),
    ("metadata", "namespace", ["default", 7]),
    ("spec", "upgradeStrategy", [{"type": name} for name in ("None", "NewCluster", "Never", "Recreate")]),
    (
        "spec",
        "upgradeStrategy",
        [
            {"type": "NewClusterWithIncrementalUpgrade"},
            *(
                {
                    "type": "NewClusterWithIncrementalUpgrade",
                    "clusterUpgradeOptions": {
                        "gatewayClassName": gateway,
                        "stepSizePercent": step,
                        "intervalSeconds": interval,
                        **surge,
                    },
                }
                for gateway, step, interval, surge in (
                    ("istio", 10, 30, {}),
                    ("istio", 10, 30, {"maxSurgePercent": 5}),
                    ("istio", 101, 30, {}),
                    ("istio", -1, 30, {}),
                    ("istio", 10, 0, {}),
                    ("", 10, 30, {}),
                    ("istio", 10, 30, {"maxSurgePercent": 200}),
                )
            ),
        ],
    ),
    ("spec", "rayClusterDeletionDelaySeconds", [-1, 0, 60, 2**31]),
    ("spec", "managedBy", ["ray.io/kuberay-operator", "kueue.x-k8s.io/multikueue", "me"]),
    ("cluster", "enableInTreeAutoscaling", [True, True, False, "true"]),
    ("cluster", "autoscalerOptions", [{"version": "v2"}, {"version": "v2"}, {"version": "v1"}, {"version": "v3"}]),
    ("cluster", "autoscalerOptions", [{"idleTimeoutSeconds": -1}, {"idleTimeoutSeconds": 60, "upscalingMode": "Fast"}]),
    ("cluster", "autoscalerOptions", [{"env": [{"name": "KUBERAY_GEN_AUTOSCALER_START_CMD", "value": "x"}]}]),
    ("cluster", "autoscalerOptions", [{"volumeMounts": [{"name": "ray-tls", "mountPath": "/x"}]}]),
    ("cluster", "gcsFaultToleranceOptions", [{}, {"redisAddress": "redis:6379", "redisPassword": {"value": SECRET}}]),
    ("cluster", "gcsFaultToleranceOptions", [{"backend": "redis", "storage": {"size": "1Gi"}}, {"backend": "etcd"}]),
    (
        "cluster",
        "gcsFaultToleranceOptions",
        [
            {"backend": "rocksdb", **more}
            for more in (
                {},
                {"storage": {"size": "1Gi"}},
                {"storage": {"claimName": "c", "size": "1Gi"}},
                {"redisAddress": "r"},
                {"redisPassword": {}},
                {"externalStorageNamespace": "n"},
            )
        ],
    ),
    (
        "cluster",
        "authOptions",
        [{"mode": "token"}, {"mode": "token", "secretName": "s"}, {"mode": "disabled"}, {"mode": "x"}],
    ),
    (
        "cluster",
        "authOptions",
        [{"enableK8sTokenAuth": True}, {"mode": "token", "enableK8sTokenAuth": True, "secretName": "s"}],
    ),
    ("cluster", "authOptions", [{"mode": "token", "enableK8sTokenAuth": True}]),
    ("cluster", "rayVersion", ["2.40.0", "2.52", "2.53.0", "v2.60.0", "2", "latest", "02.60", "", " 2.60.0rc1", 2.6]),
    ("cluster", "networkPolicy", [{"mode": mode} for mode in ("DenyAll", "DenyAllEgress", "AllowAll")]),
    (
        "cluster",
        "networkPolicy",
        [
            {"mode": mode, part: rules}
            for mode in ("DenyAll", "DenyAllEgress", "DenyAllIngress")
            for part, rules in (
                ("head", {"ingressRules": [{}]}),
                ("worker", {"egressRules": [{}]}),
                ("workerGroups", [{"groupName": "absent"}]),
                ("workerGroups", [{"groupName": "a", "ingressRules": [{}]}, {"groupName": "a"}]),
            )
        ],
    ),
    ("cluster", "tlsOptions", [{}, {"enabled": True}, {"enabled": False}]),
    (
        "cluster",
        "historyServerOptions",
        [
            {},
            {"collectorOptions": {}},
            *(
                {"collectorOptions": {"image": "i:1", "env": [{"name": name, "value": value} for name, value in env]}}
                for env in (
                    [("STORAGE_BACKEND", "s3")],
                    [("STORAGE_BACKEND", "s3"), ("S3_REGION", "r")],
                    [("STORAGE_BACKEND", "s3"), ("S3_REGION", "r"), ("POD_IP", "x")],
                    [("STORAGE_BACKEND", "GCS")],
                    [("STORAGE_BACKEND", "AzureBlob")],
                    [("STORAGE_BACKEND", "AzureBlob"), ("AZURE_STORAGE_ACCOUNT_URL", "u")],
                    [
                        ("STORAGE_BACKEND", "AzureBlob"),
                        ("AZURE_STORAGE_AUTH_MODE", "connection_string"),
                        ("AZURE_STORAGE_ACCOUNT_URL", "u"),
                    ],
                    [("STORAGE_BACKEND", "AliyunOSS"), ("OSS_BUCKET", "b")],
                    [("STORAGE_BACKEND", "other")],
                    [],
                )
            ),
        ],
    ),
    ("cluster", "upgradeStrategy", [{"type": "Recreate"}, {"type": "None"}, {"type": "NewCluster"}, {}]),
    ("cluster", "suspend", [True, "no"]),
    ("head", "headService", [{"metadata": {"name": "mine"}}, {"metadata": {"labels": {"a": "b"}}}]),
    ("head", "serviceType", ["NodePort", "Nothing"]),
    (
        "head",
        "rayStartParams",
        [{"redis-password": SECRET}, {"redis-username": "u"}, {"labels": "a=b"}, {"num-cpus": 0}],
    ),
    ("group", "rayStartParams", [{"labels": "a=b"}, {"num-gpus": "4"}, {"num-gpus": ""}, {"memory": "1"}]),
    ("head", "resources", [{"CPU": "1"}, {}, {"CPU": 1}]),
    ("group", "resources", [{"GPU": "1"}, {}]),
    (
        "group",
        "labels",
        [{"ray.io/zone": "a"}, {"a b": "c"}, {"a": "b/c"}, {"x" * 64: "a"}, {"a": ""}, {"a": "x" * 64}],
    ),
    ("head", "labels", [{"/a": "b"}, {"Example.com/a": "b"}, {"example.com/a": "b"}]),
    ("group", "idleTimeoutSeconds", [60, 0, -1]),
    ("group", "priority", [0, 1, -1]),
    ("group", "suspend", [True, False]),
    ("group", "minReplicas", [-1, 0, 99, 2**31, "1", 1.0, 1.5]),
    ("group", "maxReplicas", [-1, 0, 99, 2**31, None]),
    ("group", "replicas", [-1, 0, 99]),
    ("group", "numOfHosts", [0, 1, -4, 2]),
    ("group", "groupName", ["gpu_group", "GPU", "x" * 64, "", 5]),
    ("pod", "restartPolicy", ["Always", "Never", "", "Sometimes"]),
    ("pod", "volumes", [[{"name": "gcs-storage", "emptyDir": {}}], [{"name": "v"}, {"name": "v"}], [{}]]),
    ("container", "name", ["ray-history-collector", "Bad_Name"]),
    (
        "container",
        "env",
        [
            [{"name": name, "value": value}]
            for name, value in (
                ("RAY_REDIS_ADDRESS", "redis:6379"),
                ("REDIS_PASSWORD", SECRET),
                ("REDIS_USERNAME", "u"),
                ("RAY_enable_autoscaler_v2", "1"),
                ("RAY_enable_autoscaler_v2", "true"),
                ("RAY_enable_autoscaler_v2", "0"),
                ("RAY_gcs_storage", "x"),
                ("RAY_USE_TLS", "1"),
                ("DB_PASSWORD", SECRET),
                ("DB_PASSWORD", 12345678901),
            )
        ],
    ),
    (
        "container",
        "ports",
        [[{"containerPort": 1}, {"containerPort": 1}], [{"containerPort": 1, "protocol": "UDP"}] * 2],
    ),
    ("container", "ports", [[{"containerPort": 1, "protocol": "TCP"}, {"containerPort": 1, "protocol": "UDP"}]]),
    ("container", "ports", [[{"containerPort": 1, "protocol": "TCP"}, {"containerPort": 1}]]),
    (
        "container",
        "volumeMounts",
        [[{"name": "ray-tls", "mountPath": "/a"}], [{"name": "x", "mountPath": "/data/gcs"}]],
    ),
    ("container", "volumeMounts", [[{"name": "shm", "mountPath": "/a"}, {"name": "shm", "mountPath": "/a"}]]),
]


def setting(manifest: dict[str, Any], random_: random.Random) -> None:
    """One of SETTINGS put into its place, merged with what is there."""
    owner, key, values = random_.choice(SETTINGS)
    node = _owner(manifest, owner, random_)
    if not isinstance(node, dict):
        return
    value = copy.deepcopy(random_.choice(values))
    there = node.get(key)
    if isinstance(there, dict) and isinstance(value, dict):
        there.update(value)
    elif isinstance(there, list) and isinstance(value, list) and random_.random() < 0.8:
        there.extend(value)
    else:
        node[key] = value


def _owner(manifest: Any, owner: str, random_: random.Random) -> Any:
    """The mapping that ``owner`` names; None where earlier changes took it away."""
    try:
        spec = manifest["spec"]
        cluster = spec["rayClusterConfig"] if manifest["kind"] == "RayService" else spec
        head, group = cluster["headGroupSpec"], random_.choice(cluster["workerGroupSpecs"])
        pod = random_.choice([head, head, group])["template"]["spec"]
        nodes = {"spec": spec, "cluster": cluster, "head": head, "group": group, "pod": pod}
        nodes |= {"metadata": manifest["metadata"], "container": pod["containers"][0]}
        return nodes[owner]
    except (KeyError, IndexError, TypeError):
        return None


def slip(manifest: Any, random_: random.Random) -> None:
    """One slip of the pen somewhere in the manifest."""
    node: Any = manifest
    while True:
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        if not keys:
            return
        key = random_.choice(keys)
        child = node[key]
        if isinstance(child, dict | list) and child and random_.random() < 0.85:
            node = child
            continue
        _SLIPS[random_.randrange(len(_SLIPS))](node, key, random_)
        return


def _delete(node: Any, key: Any, random_: random.Random) -> None:
    del node[key]


def _rename(node: Any, key: Any, random_: random.Random) -> None:
    if isinstance(node, dict):
        wrong = random_.choice([f"{key}s", f"{key}X", key[:-1], key.lower(), key.swapcase(), f" {key}", key * 20])
        node[wrong] = node.pop(key)


def _replace(node: Any, key: Any, random_: random.Random) -> None:
    node[key] = copy.deepcopy(random_.choice(JUNK))


def _other_type(node: Any, key: Any, random_: random.Random) -> None:
    value = node[key]
    if isinstance(value, str):
        node[key] = random_.choice([[value], {value: value}, len(value), value.isdigit() and int(value)])
    elif isinstance(value, bool | int | float) or value is None:
        node[key] = random_.choice([str(value), [value], {"value": value}])
    elif isinstance(value, list):
        node[key] = random_.choice([{str(index): item for index, item in enumerate(value)}, *value[:1], None, []])
    else:
        node[key] = random_.choice([list(value.items())[:1], list(value.values()), None, {}])


def _number(node: Any, key: Any, random_: random.Random) -> None:
    if isinstance(node[key], int) and not isinstance(node[key], bool):
        node[key] = random_.choice([-node[key], -1, node[key] * 10**12, node[key] + 2**31, 10**25, node[key] + 0.5])
    elif isinstance(node[key], str):
        node[key] = random_.choice(
            [f"-{node[key]}", node[key] * 60, f"{node[key]} ", f"{node[key]}\n", node[key].upper()]
        )


def _twice(node: Any, key: Any, random_: random.Random) -> None:
    if isinstance(node, list):
        node.insert(random_.randrange(len(node) + 1), copy.deepcopy(node[key]))
    elif isinstance(node[key], list) and node[key]:
        node[key].append(copy.deepcopy(random_.choice(node[key])))


def _swap(node: Any, key: Any, random_: random.Random) -> None:
    other = random_.choice(list(node) if isinstance(node, dict) else list(range(len(node))))
    node[key], node[other] = node[other], node[key]


def _add(node: Any, key: Any, random_: random.Random) -> None:
    if isinstance(node, dict):
        node[random_.choice(EXTRA)] = copy.deepcopy(random_.choice(JUNK))
    else:
        node.append(copy.deepcopy(random_.choice(JUNK)))


_SLIPS = [_delete, _rename, _replace, _other_type, _number, _twice, _swap, _add]
