"""Where a model's config.json comes from: a path, the local Hugging Face cache, the hub, or the catalogue.

The order is the contract's: what lies on this machine wins; the hub is asked when there is a token, or when the
catalogue does not know the name; the catalogue answers when nobody needs the network. The hub is asked for one small
file over plain HTTP with short timeouts; huggingface_hub is not imported, because its import alone takes longer than
a whole verdict may.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn
from urllib.parse import quote

from spanwise.errors import GatedModelError, HubError, ModelError
from spanwise.facts import catalogue
from spanwise.reading import read_file

_MAX_BYTES = 8 << 20
# Seconds to connect, and between two pieces of the answer: a verdict should not wait for a hub that hangs.
_CONNECT_S, _READ_S = 5.0, 10.0
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}(/[A-Za-z0-9][A-Za-z0-9._-]{0,95})?")
_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,254}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedConfig:
    """A config.json and where it was found.

    Attributes:
        name: As asked.
        source: ``path``, ``cache``, ``hub`` or ``catalogue``.
        path: The config.json on disk; None from the hub and the catalogue.
        revision: The commit, where it is known.
    """

    name: str
    config: dict[str, Any]
    source: Literal["path", "cache", "hub", "catalogue"]
    path: Path | None = None
    revision: str | None = None


def resolve_config(
    name_or_path: str,
    revision: str | None = None,
    *,
    token: str | None = None,
    base: Path | None = None,
    environ: dict[str, str] | None = None,
) -> ResolvedConfig:
    """Find the config.json of a model.

    Args:
        name_or_path: A directory, a config.json, or a name as on the hub.
        revision: Branch, tag or commit; ``main`` where None.
        token: The hub's token; ``HF_TOKEN`` of the environment where None.
        base: Relative paths are also looked for here (the folder of the intent file).
        environ: Environment variables; the process's own where None.

    Raises:
        GatedModelError: The hub refuses this model to this user.
        ModelError: No such path or model, or its config.json cannot be read.
        HubError: The hub is unreachable and the catalogue does not know the model.
    """
    env = dict(os.environ) if environ is None else environ
    found = _on_disk(name_or_path, base)
    if found is not None:
        return ResolvedConfig(name=name_or_path, config=read_config(found), source="path", path=found)
    if not _NAME.fullmatch(name_or_path) or ".." in name_or_path:
        raise ModelError(
            f"{name_or_path[:200]!r} is neither an existing path nor a model name",
            where="model",
            remedy="give a directory with a config.json, that file, or a name such as meta-llama/Meta-Llama-3-8B",
        )
    if revision is not None and (not _REVISION.fullmatch(revision) or ".." in revision):
        raise ModelError(
            f"{revision[:200]!r} is not a revision", where="revision", remedy="give a branch, a tag or a commit"
        )
    cached = _in_cache(name_or_path, revision or "main", env)
    if cached is not None:
        path, commit = cached
        return ResolvedConfig(name=name_or_path, config=read_config(path), source="cache", path=path, revision=commit)
    known = name_or_path in catalogue.model_names()
    token = _token(token or env.get("HF_TOKEN") or "")
    offline = env.get("HF_HUB_OFFLINE", "").strip().lower() in ("1", "true", "yes", "on")
    if not offline and (token or not known):
        try:
            return _from_hub(name_or_path, revision, token, env)
        except HubError:
            if not known:
                raise
    if known:
        return ResolvedConfig(name=name_or_path, config=catalogue.model_config(name_or_path), source="catalogue")
    raise HubError(
        f"{name_or_path} is not in the catalogue, not in the local cache, and HF_HUB_OFFLINE forbids asking the hub",
        where="model",
        remedy="unset HF_HUB_OFFLINE, or give the path of a directory with its config.json",
    )


def _token(given: str) -> str | None:
    """The token without the line end that a file or a mounted secret adds; never shown.

    Raises:
        ModelError: It holds what no token holds.
    """
    token = given.strip()
    if not token:
        return None
    if not (token.isascii() and token.isprintable() and " " not in token):
        raise ModelError(
            "holds characters that no token has", where="HF_TOKEN", remedy="set it again, without quotes or line ends"
        )
    return token


def _shown(text: str, token: str | None) -> str:
    """``text`` for people: without the token, and without a user's name and password in an address."""
    if token:
        text = text.replace(token, "***")
    return re.sub(r"(?<=://)[^/@\s]+@", "***@", text)


def _on_disk(name: str, base: Path | None) -> Path | None:
    """The config.json that ``name`` means as a path; None where it is no path."""
    looks_like_path = name.startswith(("/", "./", "../", "~", ".\\")) or name in (".", "..") or name.endswith(".json")
    try:
        places = [Path(name).expanduser()] if "\0" not in name else []
    except RuntimeError:  # ~someone who has no home here
        places = []
    if base is not None and places and not places[0].is_absolute():
        places.insert(0, base / places[0])
    for place in places:
        try:
            # What is there and no file is refused by name where it is read, not taken for a name on the hub.
            if place.exists() and not place.is_dir():
                return place
            if place.is_dir():
                if (place / "config.json").exists():
                    return place / "config.json"
                # `meta-llama/...` may happen to be a folder here; only what looks like a path is refused for it.
                if looks_like_path or not _NAME.fullmatch(name):
                    raise ModelError(
                        "this directory has no config.json",
                        where=str(place),
                        remedy="give the directory that holds the model's config.json and weights",
                    )
        except OSError as error:
            raise ModelError(
                f"cannot be read: {error.strerror or error}", where=name[:200], remedy="check the path"
            ) from None
    if looks_like_path:
        raise ModelError(
            "no such file or directory", where=name[:200], remedy="give a directory with a config.json, or that file"
        )
    return None


def read_config(path: Path) -> dict[str, Any]:
    """The mapping in a config.json.

    Raises:
        ModelError: Unreadable, too large, not JSON, or not a mapping.
    """
    data = read_file(
        path,
        most_bytes=_MAX_BYTES,
        what="a config.json",
        remedy="check the file and its permissions",
        error=ModelError,
    )
    return parse_config(data, where=str(path))


def parse_config(data: bytes, *, where: str) -> dict[str, Any]:
    """The mapping in the bytes of a config.json.

    Raises:
        ModelError: As in :func:`read_config`.
    """
    remedy = "give the config.json of a model in Hugging Face form"
    if len(data) > _MAX_BYTES:
        raise ModelError(f"is larger than {_MAX_BYTES >> 20} MiB", where=where, remedy=remedy)
    try:
        document = json.loads(data.decode("utf-8-sig"), parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        raise ModelError(f"is not UTF-8 text (byte {error.start})", where=where, remedy=remedy) from None
    except (ValueError, RecursionError) as error:
        raise ModelError(f"is not JSON: {error}"[:300], where=where, remedy=remedy) from None
    if not isinstance(document, dict):
        raise ModelError(f"holds a {type(document).__name__}, not a mapping", where=where, remedy=remedy)
    return document


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number")


def _in_cache(name: str, revision: str, env: dict[str, str]) -> tuple[Path, str] | None:
    """The cached config.json and its commit, by huggingface_hub's documented cache layout (refs, snapshots)."""
    home = Path(env.get("HOME") or Path.home())
    base = Path(env.get("HF_HOME") or Path(env.get("XDG_CACHE_HOME") or home / ".cache") / "huggingface")
    root = Path(env.get("HF_HUB_CACHE") or env.get("HUGGINGFACE_HUB_CACHE") or base / "hub").expanduser()
    repo = root / ("models--" + name.replace("/", "--"))
    try:
        ref = repo / "refs" / revision
        commit = ref.read_text("utf-8").strip() if ref.is_file() else revision
        path = repo / "snapshots" / commit / "config.json"
        if "/" not in commit and path.is_file():
            return path, commit
    except (OSError, ValueError):  # a damaged cache is the same as none
        return None
    return None


def _from_hub(name: str, revision: str | None, token: str | None, env: dict[str, str]) -> ResolvedConfig:
    """Ask the hub for config.json.

    Raises:
        GatedModelError, ModelError: The hub answered, with a refusal.
        HubError: It did not answer, or not sensibly.
    """
    import httpx  # only this route needs it

    endpoint = (env.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")
    url = f"{endpoint}/{name}/resolve/{quote(revision or 'main', safe='')}/config.json"
    headers = {"user-agent": "spanwise"}
    if token:
        headers["authorization"] = f"Bearer {token}"
    data = bytearray()
    try:
        # The hub redirects to its storage; httpx drops the token when the host changes.
        with (
            httpx.Client(timeout=httpx.Timeout(_READ_S, connect=_CONNECT_S), follow_redirects=True) as client,
            client.stream("GET", url, headers=headers) as answer,
        ):
            status, code = answer.status_code, answer.headers.get("x-error-code", "")
            commit = answer.headers.get("x-repo-commit")
            for redirect in answer.history:
                commit = commit or redirect.headers.get("x-repo-commit")
            if status == httpx.codes.OK:
                for piece in answer.iter_bytes():
                    data += piece
                    if len(data) > _MAX_BYTES:
                        break
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, ImportError, OSError) as error:
        # ImportError: a proxy of a kind that needs another package; OSError: certificates that cannot be read.
        raise HubError(
            _shown(f"the hub does not answer: {type(error).__name__}: {error}", token)[:300],
            where=_shown(url, token),
            remedy="check the network, HF_ENDPOINT, the proxy variables (ALL_PROXY, HTTPS_PROXY) and SSL_CERT_FILE, or give the path of a "
            "directory with the model's config.json",
        ) from None
    endpoint, url = _shown(endpoint, token), _shown(url, token)
    _judge_status(status, code, name, endpoint, url, token=token)
    return ResolvedConfig(
        name=name, config=parse_config(bytes(data), where=url), source="hub", path=None, revision=commit or revision
    )


def _judge_status(status: int, code: str, name: str, endpoint: str, url: str, *, token: str | None) -> None:
    """Map the hub's answer; X-Error-Code as huggingface_hub reads it (GatedRepo, RepoNotFound, RevisionNotFound)."""
    if status == 200:
        return
    if code == "GatedRepo" or (status == 403 and code != "RepoNotFound"):
        do = f"accept the licence at {endpoint}/{name}"
        do += ", then try again" if token else " and set HF_TOKEN to a token of that account"
        raise GatedModelError(
            f"{name} is gated and the hub refuses it ({status})",
            where="model",
            remedy=do + "; or give the path of a directory with its config.json",
        )
    if status == 401 and token and code != "RepoNotFound":
        raise GatedModelError(
            f"the hub does not accept HF_TOKEN for {name} (401)",
            where="model",
            remedy=f"set HF_TOKEN to a valid token with access to {endpoint}/{name}, or give a path",
        )
    if code == "RevisionNotFound":
        raise ModelError(f"{name} has no such revision", where="revision", remedy="give a branch, a tag or a commit")
    if status in (401, 404):
        raise ModelError(
            f"the hub has no model {name} with a config.json, or it is private",
            where="model",
            remedy="check the name; for a private model set HF_TOKEN; or give a path",
        )
    raise HubError(
        f"the hub answered {status}", where=url, remedy="try again later, or give a path to the model's config.json"
    )
