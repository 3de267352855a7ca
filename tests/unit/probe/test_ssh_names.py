"""Which hosts may be named to ssh: nothing that ssh, somebody's ProxyCommand or a login shell takes for more than a name."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanwise.errors import InputError
from spanwise.probe import ssh_reach as module
from spanwise.probe.ssh_reach import ssh_reach


@pytest.mark.parametrize(
    ("word", "name", "user", "address"),
    [
        ("node-1", "node-1", None, ""),
        ("root@node-1.rack_2.example", "node-1.rack_2.example", "root", ""),
        ("me@node-1=10.0.0.1", "node-1", "me", "10.0.0.1"),
        ("node-1=fd00::1", "node-1", None, "fd00::1"),
        ("fe80::1%eth0", "fe80::1%eth0", None, ""),
        ("10.0.0.1", "10.0.0.1", None, ""),
    ],
)
def test_a_host_is_named_as_plans_name_it(word: str, name: str, user: str | None, address: str) -> None:
    reach = ssh_reach([word], "python3")
    assert [(host.name, host.address) for host in reach.hosts] == [(name, address)]
    assert reach.users.get(name) == user


@pytest.mark.parametrize(
    "word",
    [
        "-oProxyCommand=touch /tmp/x", "-oProxyCommand", "root@-oProxyCommand=x", "-l@node", "@node", "node@", "a@b@c", "",
        "node;touch x", "$(touch x)", "`touch x`@node", "node=$(touch x)", "node=", "node=node-2", "node\n-oProxyCommand", "node -p 22",
        "node|x", "nod\u00e9", "%h", "ssh://node:22", "-", "a" * 300,
    ],
)  # fmt: skip
def test_what_could_be_a_command_or_an_option_is_refused(word: str) -> None:
    with pytest.raises(InputError, match="is no host"):
        ssh_reach(["node-9", word], "python3")


@given(st.text(max_size=40))
def test_whatever_is_taken_is_one_plain_word(word: str) -> None:
    try:
        reach = ssh_reach([word], "python3")
    except InputError:
        return
    for part in (reach.hosts[0].name, *reach.users.values()):
        assert not part.startswith("-")
        assert shlex.quote(part.replace("%", "").replace(":", "")) == part.replace("%", "").replace(":", "")


@pytest.mark.parametrize(
    ("words", "python"), [(["a", "root@a"], "python3"), (["a"], "-c"), (["a"], ""), (["a"], "p\n")]
)
def test_one_name_is_one_host_and_a_python_is_a_path(words: list[str], python: str) -> None:
    with pytest.raises(InputError):
        ssh_reach(words, python)


def test_a_login_shell_of_any_kind_reads_the_start_alike() -> None:
    """No quote, dollar, backslash, exclamation mark or newline: sh, csh and fish agree on what single quotes hold then."""
    assert not set(module._BOOT) & set("'\"$\\!\n`")
