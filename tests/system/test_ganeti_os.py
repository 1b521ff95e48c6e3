"""The OS definition for Ganeti: what all scripts do alike, and verify, as a node runs them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests import creation
from tests.vm.rig import ImageSpec, newest_deb
from tests.vm.rig.tree import chroot, merged

SCRIPTS = ("create", "export", "import", "rename", "verify")


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


#: Ganeti's own checks of an OS definition: gnt-os diagnose, and what gnt-instance add calls first.
BACKEND = """
import json, sys
sys.path.insert(0, "/usr/share/ganeti/3.1")
from ganeti import backend
found = {"diagnosed": [row[:4] + row[6:7] for row in backend.DiagnoseOS()]}
for name, parameters in json.loads(sys.argv[1]).items():
    try:
        backend.ValidateOS(True, "gandi+default", ["parameters"], parameters, False)
        found[name] = ""
    except backend.RPCFail as error:
        found[name] = str(error)
print(json.dumps(found))
"""


@pytest.mark.slow
def test_ganetis_own_checks_accept_the_definition_and_report_what_is_wrong() -> None:
    asked = {
        "right": {"sshkey": creation.KEY, "swap": "512", "image": "debian.tar.zst"},
        "wrong": {"sshkey": creation.KEY, "swap": "many", "gateway": "fe80::1"},
        "both": {"partition": "none", "swap": "512"},
    }
    with merged(ImageSpec(extra=("ganeti-3.1",))) as tree:
        place, own = tree / "usr/share/ganeti/os/gandi", tree / "etc/ganeti/gandi-agent"
        shutil.copytree(creation.DEFINITION, place)
        own.mkdir(parents=True)
        shutil.copy(newest_deb(), own / "gandi-agent.deb")
        said = chroot(tree, ["python3", "-c", BACKEND, json.dumps(asked)])
    found = json.loads(said.splitlines()[-1])
    assert found["diagnosed"] == [["gandi", "/usr/share/ganeti/os/gandi", True, "", [20]]]
    assert found["right"] == ""
    assert "OSP_GATEWAY: not an IPv4 address" in found["wrong"]
    assert "OSP_SWAP: not a whole number" in found["wrong"]
    assert "OSP_SWAP: OSP_PARTITION=none leaves no room" in found["both"]
