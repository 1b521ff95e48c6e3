"""The scripts of the OS definition for Ganeti, run as a node runs them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import creation
from tests.vm.rig import newest_deb

SCRIPTS = ("verify",)


@pytest.fixture
def node(tmp_path: Path) -> Path:
    """Return the operator's files on the node."""
    folder = tmp_path / "node"
    folder.mkdir(mode=0o700)
    (folder / "gandi-agent.deb").write_bytes(newest_deb().read_bytes())
    return folder


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_usage_message_when_asked_and_for_wrong_arguments(node: Path, name: str) -> None:
    for argument in ("-h", "--help"):
        done = creation.script(name, node, argument)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith(f"usage: {name}")
    done = creation.script(name, node, "one", "two")
    assert done.returncode == 1
    assert f"usage: {name}" in done.stderr


def test_a_node_without_the_package_or_with_another_one(tmp_path: Path) -> None:
    done = creation.script("verify", tmp_path, "parameters")
    assert done.returncode == 1
    assert done.stderr.endswith("gandi-agent.deb: missing: put the package there on each node\n")
    (tmp_path / "gandi-agent.deb").write_bytes(b"no package")
    done = creation.script("verify", tmp_path, "parameters")
    assert done.returncode == 1
    assert "gandi-agent.deb: contains no agent: put a newer package there\n" in done.stderr


def test_verify_prints_a_line_for_each_wrong_parameter(node: Path) -> None:
    environment = {"OS_API_VERSION": "20", "OS_NAME": "gandi", "OS_VARIANT": "default", "DEBUG_LEVEL": "0"}
    assert creation.script("verify", node, "parameters", **environment).returncode == 0
    right = environment | {"OSP_SSHKEY": creation.KEY, "OSP_IPV4": "203.0.113.10/24"}
    done = creation.script("verify", node, "parameters", **right)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    more = {"OSP_USER": "$(touch /tmp/x); `id`\x1b[2J", "OSP_PASSWORD_HASH": "s3cret", "OSP_DNS": "::1 x"}
    done = creation.script("verify", node, "parameters", **right | more)
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["OSP_DNS", "OSP_PASSWORD_HASH", "OSP_USER"]
    assert not set(done.stderr) & {"\x1b", "$"}
    assert "s3cret" not in done.stderr
