"""Each kind of item and its place in the document."""

from __future__ import annotations

import pytest

from agent.accounts import passwd
from agent.cli.document_places import places
from agent.config.model import File, Group, Identity, InstanceConfig, User
from agent.config.nics import Nic
from agent.config.system import Apt, AptSource, Mount, SwapFile, System
from tests.unit.cli.conftest import KEY

CONFIG = InstanceConfig(
    Identity("nocloud", "1"),
    hostname="vm1",
    users=(User("", keys=(KEY,), groups=("a", "b")), User("u", admin=True, sudo=("ALL=(ALL) ALL",))),
    groups=(Group("g", ("u",)),),
    nics=(Nic(3, addresses=("192.0.2.1/24",), nameservers=("192.0.2.3",)),),
    deferred=(File("/d", "file-0", "d1"),),
    system=System(
        apt=Apt((AptSource("one", "deb http://192.0.2.1/ ./"),), (("http", "x"),), "c", (("primary", "x"),)),
        mounts=(Mount("LABEL=x", "/x"), Mount("LABEL=y", "none", "swap")),
        swap=SwapFile("/s"),
    ),
)
LISTS = "/etc/apt/sources.list.d"


@pytest.mark.parametrize(
    ("item", "wanted"),
    {
        "hostname": "hostname",
        "hosts": "hostname",
        "kernel's hostname": "hostname",
        "user:root": "users[root]",
        "user:u": "users[u]",
        f"key:root:{passwd.fingerprint(KEY)}": "users[root].keys[0]",
        "group:root": "users[root]",
        "group:root:b": "users[root].groups[1]",
        "group:u": "users[u].admin",
        "group:u:g": "groups[0].members[0]",
        "groups:g": "groups[0]",
        "sudo:u": "users[u].sudo",
        "lock:u": "users[u].locked",
        "password:u": "users[u].password",
        "account:u:gecos": "users[u].options.gecos",
        "file:/d": "deferred[0]",
        "nic:3": "nics[0]",
        "link:3": "nics[0].options",
        "address:192.0.2.1/24": "nics[0].addresses[0]",
        "resolvers": "nics[0].nameservers",
        "resolvers of leases (dhclient)": "nameservers",
        f"apt:{LISTS}/gandi-one.sources": "system.apt.sources[0]",
        "apt:/etc/apt/apt.conf.d/90gandi-proxy": "system.apt.proxies",
        "apt:/etc/apt/apt.conf.d/94gandi": "system.apt.conf",
        f"apt mirror:{LISTS}/debian.sources": "system.apt.mirrors",
        "mount:/x": "system.mounts[0]",
        "mount:LABEL=y": "system.mounts[1]",
        "mounted:/x": "system.mounts[0]",
        "swap file": "system.swap",
        "swap:/s": "system.swap",
    }.items(),
)
def test_each_kind_has_its_place(item: str, wanted: str) -> None:
    assert places(CONFIG, item, "root") == (wanted,)


@pytest.mark.parametrize(
    "item", ["motd", "sysctl", "timezone", "dhcp:52:54:00:00:00:10", "nic:4", "key:root:SHA256:x", "user:v"]
)
def test_what_is_in_no_document_has_none(item: str) -> None:
    assert places(CONFIG, item, "root") == ()
    assert places(None, item, "root") == ()
