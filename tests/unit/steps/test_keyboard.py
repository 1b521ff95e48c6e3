"""The keyboard: Debian's file, and that of systemd elsewhere."""

from __future__ import annotations

from agent.config.system import Keyboard, System
from agent.steps import keyboard
from tests.unit.steps.conftest import Machine

FRENCH = System(keyboard=Keyboard("fr", "pc105", "latin9", "compose:rwin"))


def test_debian(machine: Machine) -> None:
    machine.put("/etc/debian_version", "13\n")
    machine.put(
        "/etc/default/keyboard", '# the keyboard\nXKBMODEL="pc105"\nXKBLAYOUT="us"\nBACKSPACE="guess"\n'
    )
    machine.deliver(system=FRENCH)
    assert machine.run(keyboard.apply) == {"keyboard": "changed: fr"}
    assert machine.text("/etc/default/keyboard") == (
        '# the keyboard\nXKBMODEL="pc105"\nXKBLAYOUT="fr"\nBACKSPACE="guess"\n'
        'XKBVARIANT="latin9"\nXKBOPTIONS="compose:rwin"\n'
    )
    assert machine.run(keyboard.apply) == {"keyboard": "unchanged: fr"}


def test_the_administrators_change_is_kept(machine: Machine) -> None:
    machine.put("/etc/debian_version", "13\n")
    machine.deliver(system=FRENCH)
    machine.run(keyboard.apply)
    machine.put("/etc/default/keyboard", 'XKBLAYOUT="de"\n')
    assert machine.run(keyboard.apply) == {"keyboard": "kept: changed by admin"}
    machine.deliver(system=System(keyboard=Keyboard("us")))
    assert machine.run(keyboard.apply) == {"keyboard": "changed: us"}
    assert 'XKBVARIANT=""' in machine.text("/etc/default/keyboard")


def test_elsewhere(machine: Machine) -> None:
    machine.put("/etc/vconsole.conf", "FONT=eurlatgr\nKEYMAP=us\n")
    machine.deliver(system=FRENCH)
    assert machine.run(keyboard.apply) == {"keyboard": "changed: fr"}
    assert machine.text("/etc/vconsole.conf").startswith('FONT=eurlatgr\nKEYMAP="fr"\nXKBMODEL="pc105"\n')
