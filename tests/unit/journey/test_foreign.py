"""What is decided about a manifest's own code before anything is started."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from spanwise.errors import InputError, LabError, ManifestError, SpanwiseError
from spanwise.journey import deploy, foreign
from spanwise.journey.rehearsal import Rehearsal, rehearse, serve_config
from spanwise.lab import isolation
from spanwise.lab.ray_node import node_environment
from spanwise.render.manifest import read_manifest

SECRET = "s3cr3t-value"


def manifest(path: Path, **runtime_env: Any) -> Any:
    application = {"import_path": "a:b", "runtime_env": runtime_env}
    return read_manifest(yaml.safe_dump({"applications": [application]}).encode(), str(path), allow_code=True)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("home/.ssh", "given/code", "given/.hidden", "other"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "given" / "link").symlink_to(tmp_path / "other")
    return tmp_path


def test_the_manifest_chooses_only_below_itself_and_the_user_anywhere(folder: Path) -> None:
    file = folder / "given" / "serve.yaml"
    assert foreign.code_directory(manifest(file, working_dir="code"), None) == str(folder / "given" / "code")
    assert foreign.code_directory(manifest(file), None) == ""
    other = str(folder / "other")
    assert foreign.code_directory(manifest(file, working_dir="https://e.example/x.zip"), other) == other
    for name in ("../other", "../home/.ssh", ".hidden", "link", other, "https://e.example/x.zip", "s3://b/x.zip"):
        with pytest.raises(ManifestError, match="--code DIR"):
            foreign.code_directory(manifest(file, working_dir=name), None)


def test_a_directory_that_is_too_much_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = folder / "given" / "serve.yaml"
    for name in (folder, folder / "home", Path("/")):
        with pytest.raises(InputError, match="home"):
            foreign.code_directory(manifest(file), str(name))
    with pytest.raises(InputError, match="no directory"):
        foreign.code_directory(manifest(file), str(folder / "none"))
    monkeypatch.setattr(foreign, "MOST_CODE_FILES", 2)
    for number in range(3):
        (folder / "other" / str(number)).touch()
    with pytest.raises(InputError, match="more than 2 files"):
        foreign.code_directory(manifest(file), str(folder / "other"))


GOOD = {
    "uid": 1000,
    "uid_outside": 65534,
    "own_user_namespace": True,
    "capabilities": dict.fromkeys(("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"), "0000000000000000"),
    "no_new_privs": True,
    "makes_user_namespaces": False,
    "interfaces": ["eth0", "lo"],
    "directory": "/",
    "root": ["bin", "opt", "tmp"],
}


@pytest.mark.parametrize(
    "change",
    [
        {"uid": 0},
        {"uid_outside": 0},
        {"capabilities": {"CapBnd": "0000000000200000"}},
        {"no_new_privs": False},
        {"makes_user_namespaces": True},
        {"interfaces": ["docker0", "eth0", "lo"]},
        {"directory": "/srv"},
        {"root": ["bin", "home"]},
    ],
)
def test_a_host_that_keeps_too_much_is_not_used(change: dict[str, Any]) -> None:
    assert foreign.too_much(GOOD, "root", ["/opt/venv"]) == ""
    assert foreign.too_much({**GOOD, **change}, "root", ["/opt/venv"]).startswith("commands ")


def rehearsed(application: dict[str, Any], **options: Any) -> Rehearsal:
    data = yaml.safe_dump({"applications": [application]}).encode()
    return rehearse(read_manifest(data, "m.yaml", allow_code=True), dtype="float32", **options)


def test_a_foreign_application_is_applied_as_it_is_with_its_code_on_the_path() -> None:
    application = {
        "name": "shop",
        "import_path": "app:build",
        "route_prefix": None,
        "args": {"a": 1},
        "runtime_env": {"env_vars": {"X": "1", "PYTHONPATH": "/elsewhere"}, "worker_process_setup_hook": "app.hook"},
    }
    found = rehearsed(application, code_dir="/somewhere", shrink=True)
    assert [host.gpus for host in found.hosts] == [1]
    applied = serve_config(found, {}, {})["applications"][0]
    assert applied["import_path"] == "app:build"
    assert applied["route_prefix"] is None
    assert applied["args"] == {"a": 1}
    assert applied["runtime_env"]["env_vars"]["X"] == "1"
    assert applied["runtime_env"]["env_vars"]["PYTHONPATH"].split(":")[0] == "/code"
    assert applied["runtime_env"]["worker_process_setup_hook"] == "app.hook"


def test_classes_variables_and_arguments_of_a_model_are_carried_and_listed() -> None:
    config = {
        "model_loading_config": {"model_id": "m"},
        "server_cls": "mine:Server",
        "callback_config": {"callback_class": "mine:Callback"},
        "engine_kwargs": {"trust_remote_code": True, "worker_extension_cls": "mine.Worker"},
        "runtime_env": {"env_vars": {"LD_PRELOAD": SECRET, "PYTHONPATH": SECRET, "HF_TOKEN": SECRET}},
    }
    application = {"import_path": "ray.serve.llm:build_openai_app", "args": {"llm_configs": [config]}}
    with pytest.raises(ManifestError):
        rehearse(read_manifest(yaml.safe_dump({"applications": [application]}).encode(), "m.yaml"), dtype="float32")
    found = rehearsed(application, code_dir="/somewhere")
    listed = " | ".join(item.what for item in found.code or ())
    for named in ("mine:Server", "mine:Callback", "mine.Worker", "LD_PRELOAD"):
        assert named in listed
    assert SECRET not in listed
    assert "trust_remote_code" not in listed, "the model that stands in has no code"
    shape = found.models[0].shape
    applied = serve_config(found, {shape: Path("/models/m")}, {shape: {}})["applications"][0]["args"]["llm_configs"][0]
    assert applied["server_cls"] == "mine:Server"
    assert applied["callback_config"] == {"callback_class": "mine:Callback"}
    assert applied["engine_kwargs"]["worker_extension_cls"] == "mine.Worker"
    assert "trust_remote_code" not in applied["engine_kwargs"]
    variables = applied["runtime_env"]["env_vars"]
    assert variables["LD_PRELOAD"] == SECRET
    assert variables["PYTHONPATH"].startswith("/code"), "the lab's, not the manifest's"
    assert "HF_TOKEN" not in variables


def test_a_servers_command_is_confined_too() -> None:
    data = b"vllm serve org/m --worker-cls mine.Worker"
    with pytest.raises(ManifestError, match="no foreign code is run"):
        rehearse(read_manifest(data, "run.sh"), dtype="float32")
    found = rehearse(read_manifest(data, "run.sh", allow_code=True), dtype="float32")
    assert ["mine.Worker" in item.what for item in found.code or ()] == [True]


def test_only_kinds_that_confine_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation, "refusal", lambda _: None)
    monkeypatch.setattr(isolation.os, "geteuid", lambda: 1000)
    assert isolation.choose(None, confined=True)[0] == "userns"
    monkeypatch.setattr(isolation.os, "geteuid", lambda: 0)
    assert isolation.choose(None, confined=True)[0] == "root"
    assert isolation.choose(None)[0] == "userns"
    for kind in ("userns", "loopback"):
        with pytest.raises(InputError, match="for foreign code"):
            isolation.choose(kind, confined=True)
    monkeypatch.setattr(isolation, "refusal", lambda kind: isolation.Refusal(isolation=kind, reason="not today"))
    with pytest.raises(LabError, match="keeps foreign code without rights"):
        isolation.choose(None, confined=True)


def test_nothing_of_the_users_environment_goes_to_hosts_of_foreign_code(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "HF_HOME", "VIRTUAL_ENV", "PYTHONPATH", "PATH", "LD_PRELOAD", "X_TOKEN"):
        monkeypatch.setenv(name, SECRET)
    given = node_environment(name="host-1", address="10.77.0.1", interface="eth0", directory="/d", confined=True)
    assert SECRET not in " ".join(given.values())


def test_a_driver_beside_foreign_code_names_only_errors() -> None:
    for kind in ("annotations", "dataclass", "__name__", "SpanwiseError", "EngineError", "no such", 7):
        error = deploy._error({"kind": kind, "what": "w"}, "")
        assert isinstance(error, SpanwiseError)
