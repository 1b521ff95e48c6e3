"""docs/baking.md: what can be said of a recipe without its tool. tests/system/test_baking.py runs some."""

from __future__ import annotations

import re
import subprocess

import pytest
import yaml

import agent
from tests.baking import PAGE, recipe, written

TOOLS = ("mmdebstrap", "debootstrap", "mkosi", "debos", "Packer", "virt-customize")
#: Actions of debos 1.1.5: the properties that each must have, and those that it may have.
_ACTIONS = {
    "debootstrap": ({"suite"}, {"variant", "components", "mirror"}),
    "apt": ({"packages"}, {"recommends", "update"}),
    "overlay": ({"source"}, {"destination", "origin"}),
    "run": ({"command"}, {"chroot", "label"}),
    "image-partition": ({"imagename", "imagesize", "partitiontype", "partitions", "mountpoints"}, set()),
    "filesystem-deploy": (set(), {"setup-fstab", "setup-kernel-cmdline"}),
}


@pytest.mark.parametrize("tool", TOOLS)
def test_a_recipe_is_a_script_that_installs_this_version_and_cleans_after_it(tool: str) -> None:
    commands = recipe(f"With {tool}")
    subprocess.run(["sh", "-n"], input=commands, text=True, check=True)
    package = f"dist/gandi-agent_{agent.__version__}_all.deb"
    installed = commands.rindex("PackageDirectories=dist" if tool == "mkosi" else package)
    after = commands.find("gandi-agent clean", installed)
    # Packer's source comes before what is done in it; its shutdown_command is the last that is run.
    assert after > 0 or (tool == "Packer" and 'gandi-agent clean --logs && poweroff"' in commands)


def test_every_recipe_is_looked_at() -> None:
    headings = set(re.findall(r"^## With (\S+)$", PAGE.read_text(), re.MULTILINE))
    assert headings == {*TOOLS, "Ganeti"}


def test_each_action_of_debos_has_the_properties_that_it_needs_and_no_others() -> None:
    document = yaml.safe_load(written("With debos")["image.yaml"])
    assert set(document) == {"architecture", "actions"}
    for action in document["actions"]:
        needed, possible = _ACTIONS[action.pop("action")]
        assert needed <= set(action) <= needed | possible
    (table,) = [action for action in document["actions"] if "partitions" in action]
    names = [part["name"] for part in table["partitions"]]
    assert [set(part) for part in table["partitions"]] == [{"name", "fs", "start", "end"}]
    assert table["mountpoints"] == [{"mountpoint": "/", "partition": names[-1]}]
    assert document["actions"][-1] == {}, "filesystem-deploy is the last"
