"""What netplan generates for its backend NetworkManager: read back, and read by NetworkManager's own program
(of Debian 13). Values that the agent does not name as left out have to be there.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.host.host import Host
from agent.lib.records import replace
from agent.network import limits, netplan
from agent.network.interfaces import Link
from tests.unit.network.cases import CASES
from tests.unit.network.random_nics import document
from tests.unit.network.rare_cases import RARE as OTHERS
from tests.unit.network.readback import links_of
from tests.unit.network.readback_cases import RARE
from tests.unit.network.readback_netplan_keyfiles import disagreements
from tests.vm.rig import ImageSpec, Network
from tests.vm.rig.tree import chroot, merged

DOCUMENTS = CASES | RARE | {f"other-{case}": links for case, links in OTHERS.items()}
_PROFILES = "run/NetworkManager/system-connections"
#: The program fails for a file that netplan refuses, and for a profile that NetworkManager refuses.
_READ = """
set -e
cd {inside}
/usr/libexec/netplan/generate --root-dir {inside} 2>&1
for file in {profiles}/*
do nmcli --offline connection modify connection.zone "" < $file > /dev/null || {{ echo $file; exit 1; }}
done 2>&1"""


@pytest.fixture(scope="module")
def tree() -> Iterator[Path]:
    """Debian 13 with netplan and NetworkManager."""
    with merged(ImageSpec(network=Network.NETPLAN, extra=("network-manager",))) as root:
        yield root


def _generated(tree: Path, name: str, links: tuple[Link, ...]) -> list[str]:
    """Return where the profiles that netplan generates differ from the links."""
    root = tree / "cases" / name
    root.mkdir(parents=True)
    host = Host(root)
    host.write(
        "/etc/netplan/00-backend.yaml", "network: {version: 2, renderer: NetworkManager}\n", mode=0o600
    )
    named: dict[str, dict[str, str]] = {}
    wanted = list[Link]()
    for link in links:
        rest, why = netplan.possible(host, link)
        named[link.key] = limits.unsupported(netplan, link) | why
        # The NIC's own table has copies of routes that are named where they come from.
        wanted.append(replace(link, table=rest.table))
        for file in netplan.render(rest):
            host.write(file.path, file.text, mode=file.mode)
    script = _READ.format(inside=f"/cases/{name}", profiles=_PROFILES)
    assert chroot(tree, ["sh", "-c", script]) == ""
    return disagreements(tuple(wanted), [path.read_text() for path in (root / _PROFILES).iterdir()], named)


@pytest.mark.parametrize("case", DOCUMENTS)
def test_what_is_generated_is_what_the_model_has(tree: Path, case: str) -> None:
    assert _generated(tree, case, DOCUMENTS[case]) == []


def test_values_in_any_combination(tree: Path) -> None:
    for seed in range(60):
        assert _generated(tree, f"random-{seed}", links_of(document(seed))) == [], f"document({seed})"
