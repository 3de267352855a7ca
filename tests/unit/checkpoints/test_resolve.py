"""Where config.json comes from; the hub is a real HTTP server on this machine."""

import contextlib
import http.server
import json
import threading
import time

import pytest

from spanwise.checkpoints import resolve
from spanwise.checkpoints.resolve import resolve_config
from spanwise.errors import GatedModelError, HubError, ModelError

KNOWN = "meta-llama/Meta-Llama-3-8B"
CONFIG = {"architectures": ["LlamaForCausalLM"], "hidden_size": 8}


@contextlib.contextmanager
def hub(answer):
    """A hub whose every answer is ``answer(path, headers) -> (status, headers, body)``."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            status, headers, body = answer(self.path, self.headers)
            with contextlib.suppress(BrokenPipeError, ConnectionError):
                self.send_response(status)
                for key, value in headers.items():
                    self.send_header(key, value)
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def env(tmp_path):
    return {"HF_HOME": str(tmp_path / "hf"), "HF_ENDPOINT": "http://127.0.0.1:9"}


def cache(env, name=KNOWN, config=CONFIG):
    from pathlib import Path

    repo = Path(env["HF_HOME"]) / "hub" / ("models--" + name.replace("/", "--"))
    (repo / "refs").mkdir(parents=True)
    (repo / "refs/main").write_text("abc123")
    (repo / "snapshots/abc123").mkdir(parents=True)
    (repo / "snapshots/abc123/config.json").write_text(json.dumps(config))


def test_a_directory_and_a_file(tmp_path, env):
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    for name in (str(tmp_path), str(tmp_path / "config.json")):
        found = resolve_config(name, environ=env)
        assert (found.source, found.config, found.path) == ("path", CONFIG, tmp_path / "config.json")
    inner = tmp_path / "models"
    inner.mkdir()
    (inner / "config.json").write_text(json.dumps(CONFIG))
    assert resolve_config("models", base=tmp_path, environ=env).source == "path"
    assert resolve_config("./models", base=tmp_path, environ=env).path == inner / "config.json"


def test_the_cache_beats_the_hub(env):
    cache(env)
    found = resolve_config(KNOWN, environ={**env, "HF_TOKEN": "t"})
    assert (found.source, found.revision, found.config) == ("cache", "abc123", CONFIG)
    # Another revision is not what is cached.
    assert resolve_config(KNOWN, "other", environ=env).source == "catalogue"
    assert resolve_config(KNOWN, "abc123", environ=env).source == "cache"


def test_the_cache_is_huggingface_hubs_own(env, monkeypatch):
    hub_library = pytest.importorskip("huggingface_hub")
    cache(env)
    from pathlib import Path

    theirs = hub_library.try_to_load_from_cache(KNOWN, "config.json", cache_dir=str(Path(env["HF_HOME"]) / "hub"))
    assert theirs == str(resolve_config(KNOWN, environ=env).path)


def test_the_catalogue_needs_no_network(env):
    asked = []
    with hub(lambda path, headers: (asked.append(path), (200, {}, b"{}"))[1]) as url:
        assert resolve_config(KNOWN, environ={**env, "HF_ENDPOINT": url}).source == "catalogue"
    assert not asked


def test_the_hub_answers_when_there_is_a_token(env):
    seen = []

    def answer(path, headers):
        seen.append((path, headers.get("authorization")))
        return 200, {"X-Repo-Commit": "c0ffee"}, json.dumps(CONFIG).encode()

    with hub(answer) as url:
        found = resolve_config(KNOWN, environ={**env, "HF_ENDPOINT": url, "HF_TOKEN": "secret"})
        unknown = resolve_config("org/new", "v1", environ={**env, "HF_ENDPOINT": url})
    assert (found.source, found.revision, found.config) == ("hub", "c0ffee", CONFIG)
    assert unknown.source == "hub"
    assert seen == [(f"/{KNOWN}/resolve/main/config.json", "Bearer secret"), ("/org/new/resolve/v1/config.json", None)]


def test_the_token_does_not_follow_to_another_host(env):
    seen = []

    def storage(path, headers):
        seen.append(headers.get("authorization"))
        return 200, {}, json.dumps(CONFIG).encode()

    with hub(storage) as other:
        target = other.replace("127.0.0.1", "localhost") + "/file"
        with hub(lambda path, headers: (302, {"Location": target}, b"")) as url:
            assert resolve_config(KNOWN, environ={**env, "HF_ENDPOINT": url, "HF_TOKEN": "s"}).source == "hub"
    assert seen == [None]


@pytest.mark.parametrize(
    ("status", "code", "token", "error", "said"),
    [
        (401, "GatedRepo", None, GatedModelError, "set HF_TOKEN"),
        (403, "GatedRepo", "t", GatedModelError, "accept the licence"),
        (403, "", "t", GatedModelError, "gated"),
        (401, "", "t", GatedModelError, "does not accept HF_TOKEN"),
        (401, "RepoNotFound", None, ModelError, "no model org/new"),
        (404, "RepoNotFound", None, ModelError, "no model org/new"),
        (404, "EntryNotFound", None, ModelError, "config.json"),
        (404, "RevisionNotFound", None, ModelError, "revision"),
        (500, "", None, HubError, "500"),
        (429, "", None, HubError, "429"),
    ],
)
def test_what_the_hub_refuses(env, status, code, token, error, said):
    extra = {"HF_TOKEN": token} if token else {}
    with (
        hub(lambda path, headers: (status, {"X-Error-Code": code}, b"no")) as url,
        pytest.raises(error) as caught,
    ):
        resolve_config("org/new", environ={**env, "HF_ENDPOINT": url, **extra})
    assert type(caught.value) is error
    assert said in str(caught.value)
    assert caught.value.remedy
    assert caught.value.exit_code == (3 if error is HubError else 2)


def test_a_gated_model_is_refused_even_where_the_catalogue_knows_it(env):
    # With a token the user asks for the real thing; the catalogue must not hide that the engine will be refused later.
    with hub(lambda path, headers: (403, {"X-Error-Code": "GatedRepo"}, b"")) as url, pytest.raises(GatedModelError):
        resolve_config(KNOWN, environ={**env, "HF_ENDPOINT": url, "HF_TOKEN": "t"})


def test_a_hub_that_is_down_leaves_the_catalogue(env):
    assert resolve_config(KNOWN, environ={**env, "HF_TOKEN": "t"}).source == "catalogue"
    with pytest.raises(HubError, match="does not answer"):
        resolve_config("org/new", environ=env)
    with pytest.raises(HubError, match="HF_HUB_OFFLINE"):
        resolve_config("org/new", environ={**env, "HF_HUB_OFFLINE": "1"})
    for nonsense in ("nonsense", "http://[", "ftp://x"):
        with pytest.raises(HubError):
            resolve_config("org/new", environ={**env, "HF_ENDPOINT": nonsense})


def test_a_hub_that_hangs_is_left(env, monkeypatch):
    monkeypatch.setattr(resolve, "_READ_S", 0.2)
    with hub(lambda path, headers: (time.sleep(4.0), (200, {}, b"{}"))[1]) as url:
        start = time.monotonic()
        with pytest.raises(HubError, match="Timeout"):
            resolve_config("org/new", environ={**env, "HF_ENDPOINT": url})
        assert time.monotonic() - start < 3.9  # a busy machine; the hub would have answered after 4


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b"\xff", b'{"a": NaN}', b"[" * 100_000, b"9" * 5000, b"x" * ((8 << 20) + 5)]
)
def test_what_is_no_config(env, tmp_path, body):
    (tmp_path / "config.json").write_bytes(body)
    with pytest.raises(ModelError) as caught:
        resolve_config(str(tmp_path), environ=env)
    assert "config.json" in str(caught.value)
    with hub(lambda path, headers: (200, {}, body)) as url, pytest.raises(ModelError):
        resolve_config("org/new", environ={**env, "HF_ENDPOINT": url})


@pytest.mark.parametrize(
    "name", ["/no/such", "./none", "missing.json", "a/b/c", "../..", "", "x y", "a\0b", "-x", "~nobody-here/x"]
)
def test_names_that_are_none(env, tmp_path, name):
    with pytest.raises(ModelError) as caught:
        resolve_config(name, base=tmp_path, environ={**env, "HF_HUB_OFFLINE": "1"})
    assert caught.value.remedy


def test_a_directory_without_config(env, tmp_path):
    with pytest.raises(ModelError, match=r"no config\.json"):
        resolve_config(str(tmp_path), environ=env)


def test_a_revision_is_no_path(env):
    with pytest.raises(ModelError, match="revision"):
        resolve_config("org/new", "../../etc", environ=env)
