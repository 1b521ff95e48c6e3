"""Debian's cloud-init and the agent make the same machine of the same NoCloud seed, but for the differences
that docs/formats.md lists with their reasons.

Each seed is applied within an overlay of Debian's tree, by cloud-init's stages and by ``apply``. A seed
takes cloud-init seconds, so the ordinary run takes some of them, and the soak all.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.system.beside import compare
from tests.vm import sample
from tests.vm.campaign import Rounds, dice
from tests.vm.rig import ImageSpec, newest_deb
from tests.vm.rig.tree import chroot, merged

HERE = Path(__file__).parent / "beside"
SEEDS: dict[str, dict[str, Any]] = yaml.safe_load((HERE / "seeds.yaml").read_text())
#: A crypt(3) hash of the method and length that both take.
HASH = "$6$saltsalt$" + "a" * 86
CONFIG = """\
datasource_list: [NoCloud, None]
ssh_deletekeys: false
ssh_genkeytypes: []
system_info: {network: {renderers: [networkd], activators: []}}
"""
#: No device, interface, name or process of this host is reached.
APART = ("unshare", "--mount", "--net", "--uts", "--ipc", "--pid", "--fork", "--kill-child")
#: Seeds in the ordinary run.
SHORT = 8


@pytest.fixture
def tree() -> Iterator[Path]:
    """A tree with cloud-init and the package."""
    with merged(ImageSpec(extra=("cloud-init",), debs=(newest_deb(),))) as tree:
        chroot(tree, ["systemctl", "enable", "systemd-networkd.service"])
        (tree / "etc/cloud/cloud.cfg.d/95_beside.cfg").write_text(CONFIG)
        yield tree


@pytest.mark.slow
def test_the_same_seed_makes_the_same_machine(tree: Path, tmp_path: Path, rounds: Rounds) -> None:
    """Every difference is a row of docs/formats.md; if all seeds are played, every row is a difference."""
    names = sorted(SEEDS)
    dice("beside cloud-init").shuffle(names)
    rows, seen, faults = compare.intended(), set[compare.Intended](), list[str]()
    assert rows
    for number in rounds(SHORT, len(names)):
        name = names[number]
        _write(tmp_path / name, name)
        sides = [_became(tree, tmp_path, side, name) for side in ("cloud-init", "agent")]
        for place, (theirs, ours) in compare.differences(*sides).items():
            fitting = {row for row in rows if row.fits(name, place)}
            seen |= fitting
            if not fitting:
                faults.append(f"{name}: {place}: cloud-init {theirs!r}, agent {ours!r}")
    assert not faults, "\n".join(faults)
    if rounds.done == len(names):
        assert not set(rows) - seen, "rows of docs/formats.md without a difference"


def _write(folder: Path, name: str) -> None:
    """Write the seed's files."""
    folder.mkdir()
    seed = {"user-data": {}, "meta-data": {}} | _filled(SEEDS[name])
    for file, document in seed.items():
        head = "#cloud-config\n" if file in ("user-data", "vendor-data") else ""
        if file != "look":
            (folder / file).write_text(head + yaml.safe_dump(document))


def _filled(value: Any) -> Any:
    """Return the document with a key and a hash in place of the words that stand for them."""
    match value:
        case dict():
            return {key: _filled(inner) for key, inner in value.items()}
        case list():
            return [_filled(inner) for inner in value]
        case str():
            return value.replace("KEY", sample.KEY).replace("HASH", HASH)
    return value


def _became(tree: Path, folder: Path, side: str, name: str) -> dict[str, Any]:
    """Return what the machine became; what the program said of it is printed for a failed test."""
    paths = (tree, folder / f"{name}-{side}", folder / name)
    argv = (*APART, sys.executable, HERE / "in_tree.py", side, *paths, *SEEDS[name].get("look", []))
    done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    machine: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(f"--- {name}, {side}\n{machine.pop('said')}")
    return machine
