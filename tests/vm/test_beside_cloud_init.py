"""Debian's cloud-init and the agent make the same machine of the same NoCloud seed, but for the differences
that docs/formats.md lists with their reasons.

Each seed is applied within an overlay of the guest's tree, by cloud-init's stages and by ``apply``. A seed
takes cloud-init fifteen seconds, so the ordinary run takes some of them, and the soak all.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from tests.vm import sample
from tests.vm.beside import compare
from tests.vm.campaign import Rounds, dice
from tests.vm.conftest import Rig
from tests.vm.rig import GuestFile, ImageSpec, Machine, MachineSpec, Nic, newest_deb

HERE = Path(__file__).parent / "beside"
SEEDS: dict[str, dict[str, Any]] = yaml.safe_load((HERE / "seeds.yaml").read_text())
#: A crypt(3) hash of the method and length that both take.
HASH = "$6$saltsalt$" + "a" * 86
CONFIG = b"""\
datasource_list: [NoCloud, None]
ssh_deletekeys: false
ssh_genkeytypes: []
system_info: {network: {renderers: [networkd], activators: []}}
"""
PROGRAM = "/usr/lib/rig/in_guest.py"
SPEC = ImageSpec(
    debs=(newest_deb(),),
    extra=("cloud-init",),
    commands=("touch /etc/cloud/cloud-init.disabled",),
    files=(
        GuestFile("/etc/cloud/cloud.cfg.d/95_beside.cfg", CONFIG),
        GuestFile("/etc/default/gandi", b"CONFIG_DATASOURCE=none\n"),
        GuestFile(PROGRAM, (HERE / "in_guest.py").read_bytes()),
    ),
)
MACHINE = MachineSpec(nics=(Nic(id="net0", mac="52:54:00:00:00:10"),), memory=1024)
#: Seeds in the ordinary run.
SHORT = 3


def test_the_same_seed_makes_the_same_machine(machine: Rig, rounds: Rounds) -> None:
    """Every difference is a row of docs/formats.md; if all seeds are played, every row is a difference."""
    names = sorted(SEEDS)
    dice("beside cloud-init").shuffle(names)
    vm = machine.start(SPEC, MACHINE)
    assert vm.wait_booted() == "running"
    rows, seen, faults = compare.intended(), set[compare.Intended](), list[str]()
    assert rows
    for number in rounds(SHORT, len(names)):
        name = names[number]
        _write(vm, name)
        sides = [_became(vm, side, name) for side in ("cloud-init", "agent")]
        found = compare.differences(*sides)
        for place, (theirs, ours) in found.items():
            fitting = {row for row in rows if row.fits(name, place)}
            seen |= fitting
            if not fitting:
                faults.append(f"{name}: {place}: cloud-init {theirs!r}, agent {ours!r}")
    assert not faults, "\n".join(faults)
    if rounds.wanted == len(names):
        assert not set(rows) - seen, "rows of docs/formats.md without a difference"


def _write(vm: Machine, name: str) -> None:
    """Write the seed's files into the guest."""
    seed = {"user-data": {}, "meta-data": {}} | _filled(SEEDS[name])
    for file, document in seed.items():
        head = "#cloud-config\n" if file in ("user-data", "vendor-data") else ""
        if file != "look":
            vm.write_file(f"/run/seeds/{name}/{file}", head + yaml.safe_dump(document))


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


def _became(vm: Machine, side: str, name: str) -> dict[str, Any]:
    """Return what the machine became; what the program said of it is printed for a failed test."""
    look = SEEDS[name].get("look", [])
    said = vm.output(["python3", PROGRAM, side, f"/run/seeds/{name}", *look], timeout=300)
    machine: dict[str, Any] = json.loads(said.splitlines()[-1])
    print(f"--- {name}, {side}\n{machine.pop('said')}")
    return machine
