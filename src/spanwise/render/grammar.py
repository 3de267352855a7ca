"""What words Kubernetes, container registries and Ray take as names; anything else is refused before it gets into a file.

A value that passes is plain ASCII without blanks, quotes or line ends (paths may hold blanks), so that it stands in YAML
as the one scalar it was meant to be. Messages repeat no word that may be a secret pasted into the wrong option.
"""

from __future__ import annotations

import re
from typing import NoReturn

from spanwise.errors import InputError

_LABEL = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
_SUBDOMAIN = rf"{_LABEL}(\.{_LABEL})*"
_NAME_PART = r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_DNS_1123_LABEL = re.compile(_LABEL)
_DNS_1123_SUBDOMAIN = re.compile(_SUBDOMAIN)
_QUALIFIED = re.compile(rf"((?P<prefix>{_SUBDOMAIN})/)?{_NAME_PART}")
_LABEL_VALUE = re.compile(rf"({_NAME_PART})?")
_KEY_OF_A_SECRET = re.compile(r"[-._a-zA-Z0-9]{1,253}")
# A reference as registries define it: [host[:port]/]path[:tag][@digest].
_IMAGE = re.compile(
    r"(?P<name>([A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?(\.[A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?)*(:[0-9]{1,5})?/)?"
    r"[a-z0-9]+((\.|__?|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|__?|-+)[a-z0-9]+)*)*)"
    r"(:(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?(@(?P<digest>sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}))?"
)
_BUCKET = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9][A-Za-z0-9._=+-]*)*/?")
_HOST_AND_PORT = re.compile(rf"(rediss?://)?(?P<host>{_SUBDOMAIN}):(?P<port>[0-9]{{1,5}})")
_MOST_CHARACTERS = 512
# Mounted over, these take Ray, its session or the system away from the container.
_TAKEN = frozenset({"/", "/tmp", "/tmp/ray", "/home", "/home/ray", "/home/ray/anaconda3", "/opt", "/var"})  # noqa: S108
_SYSTEM = ("/bin", "/boot", "/dev", "/etc", "/lib", "/lib64", "/proc", "/run", "/sbin", "/sys", "/usr")


def _refuse(what: str, where: str, remedy: str) -> NoReturn:
    raise InputError(what, where=where, remedy=remedy)


def shown(word: str) -> str:
    """``word`` for a message: short, quoted, its odd characters escaped."""
    return ascii(word[:80]) + (" …" if len(word) > 80 else "")


def image_parts(word: str, where: str) -> tuple[str, str | None, str | None]:
    """Name, tag and digest of a container image.

    Raises:
        InputError: Not a reference, or one that says neither tag nor digest (or ``latest``).
    """
    found = _IMAGE.fullmatch(word) if len(word) <= _MOST_CHARACTERS else None
    if found is None or len(found["name"]) > 255:
        _refuse(f"{shown(word)} is no image reference", where, "write [HOST[:PORT]/]NAME:TAG or NAME@sha256:DIGEST")
    if found["digest"] is None and found["tag"] in (None, "latest"):
        _refuse(
            f"{shown(word)} has no fixed tag: hosts that pull on different days would run different engines",
            where,
            "name a version, or better a digest: NAME@sha256:…",
        )
    return found["name"], found["tag"], found["digest"]


def object_name(word: str, where: str, what: str) -> str:
    """The name of a Secret, claim, account or the like. Not repeated in messages: it may be a token pasted here.

    Raises:
        InputError: Kubernetes would refuse it.
    """
    if len(word) > 253 or not _DNS_1123_SUBDOMAIN.fullmatch(word):
        _refuse(
            f"this is no name of a {what} (not repeated here, in case it is a secret)",
            where,
            f"name the {what}, not what is in it: lower-case letters, digits, '-' and '.'",
        )
    return word


def secret_key(word: str, where: str) -> str:
    """A key inside a Secret.

    Raises:
        InputError: Kubernetes would refuse it.
    """
    if word in (".", "..") or not _KEY_OF_A_SECRET.fullmatch(word):
        _refuse(
            "this is no key of a Secret (not repeated here, in case it is a secret)",
            where,
            "use letters, digits, '-', '_' and '.'",
        )
    return word


def queue_name(word: str, where: str) -> str:
    """The name of a queue: it becomes a label's value.

    Raises:
        InputError: It cannot be one.
    """
    if not _DNS_1123_LABEL.fullmatch(word):
        _refuse(f"{shown(word)} is no name of a queue", where, "use at most 63 lower-case letters, digits and '-'")
    return word


def label_key(word: str, where: str) -> str:
    """A key of a label or a taint: ``[prefix/]name``.

    Raises:
        InputError: Kubernetes would refuse it.
    """
    found = _QUALIFIED.fullmatch(word) if len(word) <= _MOST_CHARACTERS else None
    if found is None or len(found["prefix"] or "") > 253:
        _refuse(
            f"{shown(word)} is no label key", where, "write NAME or PREFIX/NAME, such as topology.kubernetes.io/zone"
        )
    return word


def label_value(word: str, where: str) -> str:
    """A value of a label or a taint.

    Raises:
        InputError: Kubernetes would refuse it.
    """
    if not _LABEL_VALUE.fullmatch(word):
        _refuse(f"{shown(word)} is no label value", where, "use at most 63 letters, digits, '-', '_' and '.'")
    return word


def label(word: str, where: str) -> tuple[str, str]:
    """``KEY=VALUE``.

    Raises:
        InputError: Not of that form.
    """
    key, equals, value = word.partition("=")
    if not equals:
        _refuse(f"{shown(word)} says no value", where, "write KEY=VALUE")
    return label_key(key, where), label_value(value, where)


def extended_resource(word: str, where: str) -> str:
    """The name of a device plugin's resource, such as ``rdma/hca``.

    Raises:
        InputError: No such name, or one that KubeRay would count as GPUs (``…gpu``).
    """
    found = _QUALIFIED.fullmatch(word) if len(word) <= _MOST_CHARACTERS else None
    if found is None or not found["prefix"] or found["prefix"].endswith("kubernetes.io") or word.endswith("gpu"):
        _refuse(
            f"{shown(word)} is no extended resource of a network device", where, "write VENDOR/NAME, such as rdma/hca"
        )
    return word


def container_path(word: str, where: str) -> str:
    """An absolute, plain path that may be mounted without taking the system or Ray away.

    Raises:
        InputError: Relative, with ``..`` or ``:``, or a place of the system.
    """
    path = word.rstrip("/") or "/"
    odd = not (word.startswith("/") and word.isprintable() and word.isascii()) or set(word) & set(':\\"')
    if odd or len(word) > _MOST_CHARACTERS or (path != "/" and {"", ".", ".."} & set(path.split("/")[1:])):
        _refuse(f"{shown(word)} is no absolute path of a folder", where, "write a plain path, such as /models")
    if path in _TAKEN or any(path == place or path.startswith(f"{place}/") for place in _SYSTEM):
        _refuse(
            f"{path} belongs to the system or to Ray in the container", where, "mount somewhere else, such as /models"
        )
    return path


def bucket(word: str, where: str) -> str:
    """``s3://bucket/prefix``, without credentials in it.

    Raises:
        InputError: Not of that form.
    """
    if len(word) > _MOST_CHARACTERS or not _BUCKET.fullmatch(word):
        _refuse(
            "this is no address of a folder in a bucket (not repeated here, in case it holds a secret)",
            where,
            "write s3://BUCKET/PREFIX; credentials come from --env-secret or the service account",
        )
    return word


def redis_address(word: str, where: str) -> str:
    """``HOST:PORT``, also behind ``redis://`` or ``rediss://``, without a password in it.

    Raises:
        InputError: Not of that form.
    """
    found = _HOST_AND_PORT.fullmatch(word) if len(word) <= _MOST_CHARACTERS else None
    if found is None or not 0 < int(found["port"]) < 65536:
        _refuse(
            "this is no HOST:PORT (not repeated here, in case it holds a password)",
            where,
            "write HOST:PORT; the password comes from --redis-secret",
        )
    return word
