"""Code of a manifest's own: listed where it is allowed, refused where not, and what has to be fetched refused in any case."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from spanwise.errors import ManifestError
from spanwise.render.manifest import Manifest, read_manifest

SECRET = "s3cr3t-value"


def read(application: dict[str, Any], *, allow_code: bool = True) -> Manifest:
    return read_manifest(yaml.safe_dump({"applications": [application]}).encode(), "m.yaml", allow_code=allow_code)


def test_everything_that_will_run_is_listed_and_no_value_of_a_variable() -> None:
    application = {
        "import_path": "shop.app:build",
        "args": {"a": 1},
        "runtime_env": {
            "working_dir": "code",
            "worker_process_setup_hook": "shop.hook",
            "env_vars": {"LD_PRELOAD": SECRET},
        },
        "deployments": [
            {
                "name": "A",
                "autoscaling_config": {"policy": {"policy_function": "shop:scale"}},
                "ray_actor_options": {"num_gpus": 1, "runtime_env": {"env_vars": {"B": SECRET}}},
            }
        ],
    }
    with pytest.raises(ManifestError, match="unknown code is not imported"):
        read(application, allow_code=False)
    found = read(application)
    words = [item.what for item in found.code or ()]
    for named in ("shop.app:build", "shop.hook", "LD_PRELOAD", "shop:scale"):
        assert sum(named in line for line in words) == 1, named
    assert SECRET not in " ".join(words)
    foreign = found.applications[0].foreign
    assert foreign is not None
    assert foreign.runtime_env.variables == {"LD_PRELOAD": SECRET, "B": SECRET}
    assert foreign.deployments[0]["ray_actor_options"] == {"num_gpus": 1}, "its environment is the application's"
    assert found.applications[0].working_dir == "code"


@pytest.mark.parametrize("key", ["pip", "uv", "conda", "image_uri", "container", "py_modules", "py_executable", "mpi"])
def test_what_would_be_fetched_or_replaced_is_refused_all_the_same(key: str) -> None:
    for place in (
        {"runtime_env": {key: ["x"]}},
        {"deployments": [{"name": "A", "ray_actor_options": {"runtime_env": {key: ["x"]}}}]},
    ):
        with pytest.raises(ManifestError, match=key):
            read({"import_path": "a:b", **place})


@pytest.mark.parametrize("path", ["", "a", ":b", "a:", "a b:c", "a;b:c", "a.b:c()", "../a:b", None, 7, ["a:b"]])
def test_an_import_path_is_a_name(path: Any) -> None:
    with pytest.raises(ManifestError, match="no import path"):
        read({"import_path": path})


def test_known_import_paths_stay_what_they_are() -> None:
    application = {
        "import_path": "ray.serve.llm:build_openai_app",
        "args": {"llm_configs": [{"model_loading_config": {"model_id": "m"}}]},
    }
    assert read(application).applications[0].foreign is None
    assert read(application).code == ()
    assert read(application, allow_code=False).code is None
