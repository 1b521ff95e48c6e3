"""Files of the administrator and of other programs, which the agent reads, and some of which it changes."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable
from functools import partial

from agent.accounts import defaults, passwd
from agent.block import fstab, mounts
from agent.config import settings, settings_text
from agent.config.system import Archive
from agent.host import machine_uuid, user_namespace
from agent.image import debian_sources, ganeti, ganeti_fstab, root_references
from agent.image.ganeti_variables import Variables
from agent.lib import assignments, public_key
from agent.lib.errors import ConfigError
from agent.lib.text import WHITE, lines, words
from agent.network import ifupdown, networkd, networkmanager
from agent.programs import poster
from agent.reporting import notify_socket
from agent.sources import nocloud_line
from agent.state.store import State
from agent.steps import apt, hostname
from tests.fuzz.target import Target, as_text, machine, with_file
from tests.unit.accounts.test_authorized_keys import KEY, OTHERS
from tests.unit.reader.formats.test_interfaces_text import WHOLE

UUIDS = [f"{number}{number}{number}{number}2222-1111-4111-8111-111111111111" for number in range(1, 5)]
ROOT = root_references.Part(1, "ext4", UUIDS[0], "root", "aaaa-01")
DISK = root_references.Disk(
    (
        ROOT,
        root_references.Part(2, "swap", UUIDS[1], "", "aaaa-02"),
        root_references.Part(3, "vfat", "ABCD-1234", "EFI"),
        root_references.Part(4, "crypto_LUKS", UUIDS[3]),
    ),
    ROOT,
)
FSTAB = (
    b"# /etc/fstab\nUUID=99992222-1111-4111-8111-111111111111 / ext4 errors=remount-ro 0 1\n"
    b"/dev/sda2 none swap sw 0 0\nLABEL=EFI /boot/efi vfat umask=0077 0 1\n/swapfile none swap sw\n"
    b"/dev/disk/by-uuid/ABCD-1234 /mnt\\040x vfat defaults\nnas:/x /srv/nas nfs noauto,x-systemd.automount\n"
)
_FORMS: tuple[tuple[str, Callable[[str, root_references.Disk], tuple[str, object]]], ...] = (
    ("crypttab", root_references.mended_crypttab),
    ("command-line", root_references.mended_line),
    ("resume", root_references.mended_resume),
    ("grub-search", root_references.mended_search),
)
NIC, MAC = frozenset({"eth0", "enp1s0"}), "52:54:00:12:34:56"


def _settings(data: bytes) -> None:
    """Each line is a setting's or a problem's; what is in force is what its own text says."""
    text = as_text(data)
    found, problems = settings.parse(text)
    for problem in problems:
        assert 1 <= problem.line <= len(lines(text))
        assert (problem.message + problem.hint).isprintable()
    file = settings.SettingsFile(with_file(settings.FILES[0], data))
    told = settings_text.shell_text(file)
    assert file.settings == found
    again, left = settings.parse(told, found)
    assert again == found or "\0" in text
    # A variable that is no setting may have a name like one.
    assert all(problem.message.startswith("unknown setting") for problem in left)


def _fstab(data: bytes) -> None:
    text = as_text(data)
    for claim in mounts.claims(with_file(fstab.FSTAB, data)):
        assert not claim.where or claim.where.startswith("/")
    entry = fstab.line("UUID=x", "/srv/a b", "ext4", "defaults")
    fstab.find(text, entry)
    fstab.put(host := with_file(fstab.FSTAB, data), entry)
    assert fstab.find(host.read(fstab.FSTAB) or "", entry) == entry
    assert mounts.claims(host)[-1].where.startswith("/")


def _mended_fstab(data: bytes) -> None:
    """A second change finds nothing to change, and an entry of another disk is still there."""
    text = as_text(data)
    mended, changes = root_references.mended_fstab(text, DISK)
    assert root_references.mended_fstab(mended, DISK)[0] == mended
    assert len(lines(mended)) in (len(lines(text)), len(lines(text)) + 1)
    untouched = [line for line in lines(text) if line.startswith(("#", "nas:"))]
    assert [line for line in lines(mended) if line.startswith(("#", "nas:"))] == untouched
    assert all(change.now or change.why for change in changes)
    root_references.former_disk(text)
    imported = ganeti_fstab.mended(text, UUIDS[0], "ext4", UUIDS[1])
    assert ganeti_fstab.mended(imported, UUIDS[0], "ext4", UUIDS[1]) == imported


def _mended(mend: Callable[[str, root_references.Disk], tuple[str, object]]) -> Callable[[bytes], None]:
    def run(data: bytes) -> None:
        mended, _ = mend(as_text(data), DISK)
        assert mend(mended, DISK)[0] == mended
        root_references.is_right(mended, DISK)

    return run


def _accounts(data: bytes) -> None:
    host = with_file("/etc/passwd", data)
    for name in ("/etc/shadow", "/etc/group", "/etc/gshadow"):
        with_file(name, data)
    for account in passwd.accounts(host):
        assert account.uid >= 0
        assert passwd.account(host, account.name) is not None
        passwd.password(host, account.name)
        passwd.is_in_group(host, account.name, "sudo")
        assert passwd.keys_file(host, account)
    passwd.admin_group(host)
    assert all(count > 0 for _, count in user_namespace.subordinate(as_text(data), ("admin", "1000")))


def _sshd(data: bytes) -> None:
    host = with_file("/etc/ssh/sshd_config", data)
    path = passwd.keys_file(host, passwd.Account("admin", 1000, 1000, "/home/admin"))
    assert path.startswith("/")
    assert "\n" not in path


def _keys(data: bytes) -> None:
    """A key of a line is one by each of the functions that look for it."""
    for line in lines(as_text(data)):
        found, blob = public_key.split(line), passwd.key_blob(line)
        assert found or not blob
        assert found is None or found[0] in public_key.TYPES
        if blob:
            with contextlib.suppress(ValueError):
                assert re.fullmatch(r"SHA256:[A-Za-z0-9+/]{43}", passwd.fingerprint(line))
            assert passwd.key_blob(f"{blob} another comment") == blob
            assert passwd.key_comment(line) in line


def _assignments(data: bytes) -> None:
    """A value that was written is read, and the other lines stay."""
    text = as_text(data)
    assignments.value(text, "LANG")
    changed = assignments.with_values(text, {"LANG": "C.UTF-8"})
    assert assignments.value(changed, "LANG") == "C.UTF-8"
    assert assignments.value(changed, "LC_ALL") == assignments.value(text, "LC_ALL")
    assert assignments.with_values(changed, {"LANG": "C.UTF-8"}) == changed


def _interfaces_file(data: bytes) -> None:
    """What is commented out stays so, and the other NIC's lines are the same."""
    text = as_text(data)
    once = ifupdown.without(text, "eth0")
    assert ifupdown.without(once, "eth0") == once
    assert len(lines(once)) == len(lines(text))
    assert not any(words(line)[:2] == ["iface", "eth0"] for line in lines(once))


def _network_files(data: bytes) -> None:
    text = as_text(data)
    networkd._fits(networkd._match_section(text), NIC, MAC)
    networkmanager._fits(text, NIC, MAC)


def _sources(data: bytes) -> None:
    mirrors = {"primary": "http://mirror.example/debian", "security": "http://mirror.example/security"}
    text = as_text(data)
    once = apt.with_mirrors(text, mirrors)
    assert once.count("\n") <= text.count("\n")
    if "-security" not in text:
        assert apt.with_mirrors(once, mirrors) == once


def _debians(data: bytes) -> None:
    """What is left of an image's sources has none of the release's, and each other one."""
    text = as_text(data)
    left, _ = debian_sources.without_debians(text, "trixie")
    assert debian_sources.without_debians(left, "trixie")[0] == left
    assert {*lines(left)} <= {*lines(text)}
    rest, kept = debian_sources.paragraphs(text, "trixie")
    assert debian_sources.paragraphs(rest, "trixie")[0].strip(WHITE) == rest.strip(WHITE)
    for paragraph in rest.split("\n\n"):
        assert paragraph.strip("\n") in text
    debian_sources.text(Archive("http://mirror.example/debian"), "trixie", kept)


def _with_localhost(text: str) -> list[str]:
    return [line for line in lines(text) if "localhost" in words(line.partition("#")[0])[1:]]


def _hosts(data: bytes) -> None:
    """The line of this machine is put in, and a second time it is there already."""
    text, wanted = as_text(data), "127.0.1.1\tvm1.example.com vm1"
    with_file("/var/lib/gandi/instance.json", b'{"version":1,"source":"x","id":"y"}')
    state = State(machine())
    old = hostname.agents_line(text, "vm1.example.com", wanted, state)
    made = hostname.with_line(text, old, wanted)
    assert hostname.agents_line(made, "vm1.example.com", wanted, state) == wanted
    assert _with_localhost(made) == _with_localhost(text)
    host = with_file("/etc/login.defs", data)
    with_file("/etc/default/useradd", data)
    assert isinstance(defaults.number(host, "UID_MIN", 1000), int)
    assert "\n" not in defaults.useradd(host, "SHELL", "/bin/sh")


def _command_line(data: bytes) -> None:
    host = with_file("/proc/cmdline", data)
    with_file("/sys/class/dmi/id/product_serial", data)
    for name, line in nocloud_line.read(host).items():
        assert line
        assert name


def _small(data: bytes) -> None:
    text = as_text(data)
    uuid = machine_uuid.normalise(text)
    assert machine_uuid.normalise(uuid) == uuid
    assert not uuid or machine_uuid.is_same_uuid(uuid, machine_uuid.swap_bytes(uuid))
    address = notify_socket.parse(text)
    assert address is None or address.types


def _url(data: bytes) -> None:
    """What the settings take for a URL can be sent to, or is refused by name."""
    text = as_text(data)
    found, problems = settings.parse(f"CONFIG_REPORT_URL={text}")
    urls = (text,) if problems else (text, found.report_url)
    for url in urls:
        try:
            scheme, host, _, path = poster._split(url)
        except poster.Refused:
            continue
        assert scheme in ("http", "https")
        assert host.isprintable()
        assert re.fullmatch(r"[!-~]*", path)


def _ganeti(data: bytes) -> None:
    """Ganeti's environment makes a document, or the error names the variable."""
    pairs = (line.partition("=") for line in as_text(data).split("\0"))
    environment = {name: value for name, _, value in pairs}
    for error in Variables(environment).wrong_parameters():
        assert error.message
    ganeti.document(environment)


_ENVIRONMENT = (
    b"INSTANCE_NAME=vm1.example.com\0NIC_COUNT=1\0NIC_0_MAC=aa:00:00:00:00:01\0NIC_0_IP=192.0.2.7\0"
    b"NIC_0_NETWORK_SUBNET=192.0.2.0/24\0NIC_0_NETWORK_GATEWAY=192.0.2.1\0OSP_IPV6=2001:db8::10/64\0"
    b"OSP_SSHKEY=" + KEY.encode() + b"\0OSP_USER=admin\0OSP_LOCALE=fr_FR.UTF-8\0OSP_PACKAGES=vim nginx"
)
_SETTINGS = (
    b"# comment\nCONFIG_HOSTNAME=1\nexport CONFIG_NODHCP='eth1 eth2'\nCONFIG_DISK_ROOT=\"/srv\"\n"
    b"CONFIG_MOUNT_OWNER=root:users:0775\nCONFIG_NETWORK_ROLLBACK=30\nMY_TOKEN=a\\ b\n"
    b"CONFIG_MEMORY_ONLINE=x\nCONFIG_REPORT_URL=https://192.0.2.1/x\nCONFIG_MOUNT_MODE=autofs\nCONFIG_DATASOURCE=gandi,nocloud\n"
)
_PASSWD = (
    b"root:x:0:0:root:/root:/bin/bash\nadmin:$6$x$y:1000:1000:,,,:/home/admin:/bin/sh\nsudo:x:27:admin\n"
    b"admin:100000:65536\n"
)
_TEXTS: dict[str, Iterable[bytes]] = {
    "crypttab": [f"# comment\ncr UUID={UUIDS[3]} none luks\nold /dev/sda4 none\n".encode()],
    "command-line": [b"BOOT_IMAGE=/vmlinuz root=/dev/sda1 ro resume=UUID=9999-11 console=ttyS0\n"],
    "resume": [b"RESUME=UUID=77772222-1111-4111-8111-111111111111\n", b"RESUME='/dev/sda2'\n"],
    "grub-search": [b"search.fs_uuid 77772222-1111-4111-8111-111111111111 root hd0,msdos1\n"
                    b"\tsearch --no-floppy --fs-uuid --set=root 99992222-1111-4111-8111-111111111111\n"],
}  # fmt: skip

TARGETS = (
    Target(
        "settings", _settings, lambda: [_SETTINGS], (), (b"CONFIG_", b"export ", b"'", b"\\", b"#", b"=")
    ),
    Target("fstab", _fstab, lambda: [FSTAB], (), (b"UUID=", b"\\040", b"/dev/disk/by-", b" swap ")),
    Target("mended-fstab", _mended_fstab, lambda: [FSTAB], (), (b"UUID=", b"/dev/vda1", b" / ", b" swap ")),
    *(
        Target(
            name, _mended(mend), partial(_TEXTS.__getitem__, name), (), (b"UUID=", b"/dev/vda2", b'"', b"'")
        )
        for name, mend in _FORMS
    ),
    Target("accounts", _accounts, lambda: [_PASSWD], (), (b":x:", b"::", b"\n", b",")),
    Target(
        "sshd-config",
        _sshd,
        lambda: [b"Port 22\nAuthorizedKeysFile .ssh/authorized_keys %h/x\nMatch User x\n"],
        (),
        (b"AuthorizedKeysFile", b"Match", b'"', b"%h", b"%u", b"%%", b"none"),
    ),
    Target(
        "authorized-keys",
        _keys,
        lambda: [b"\n".join((KEY.encode(), *OTHERS))],
        (),
        (b'command="', b"ssh-rsa ", b"AAAA", b'\\"', b"cert-authority,"),
    ),
    Target(
        "assignments", _assignments, lambda: [b'# x\nLANG="fr_FR.UTF-8"\nexport LC_ALL=C\n'], (), (b"LANG=",)
    ),
    Target(
        "interfaces-file",
        _interfaces_file,
        lambda: [
            WHOLE.encode(),
            b"auto lo eth0\nallow-hotplug eth0 eth1\niface eth0 inet dhcp\n  mtu 1500\n",
        ],
        (),
        (b"iface eth0 ", b"auto eth0", b"\\\n", b"mapping ", b"source "),
    ),
    Target(
        "network-files",
        _network_files,
        lambda: [
            b"[Match]\nName=eth* !lo\nMACAddress=52:54:00:12:34:56\nType=ether\n[Network]\nDHCP=yes\n",
            b"[connection]\ntype=ethernet\ninterface-name=eth0\n[ethernet]\nmac-address=52:54:00:12:34:56\n",
        ],
        (),
        (b"[Match]", b"Name=", b"*", b"[!", b"type=ethernet"),
    ),
    Target(
        "apt-sources",
        _sources,
        lambda: [
            b"Types: deb\nURIs: http://deb.debian.org/debian\nSuites: trixie\nComponents: main\n\n"
            b"Types: deb\nURIs: http://security.debian.org\nSuites: trixie-security\n",
            b"deb http://deb.debian.org/debian trixie main\n"
            b"deb [signed-by=/x] http://security.debian.org/debian-security trixie-security main\n",
        ],
        (),
        (b"URIs:", b"deb ", b"-security", b"http://deb.debian.org/debian"),
    ),
    Target(
        "debians-sources",
        _debians,
        lambda: [
            b"# x\ndeb http://deb.debian.org/debian trixie main contrib\ndeb http://x/y stable main\n"
            b"deb http://security.debian.org/debian-security trixie-security main\n",
            b"Types: deb\nURIs: http://deb.debian.org/debian\nSuites: trixie trixie-updates x\n"
            b"Components: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n\n"
            b"Types: deb\nURIs: http://other/\nSuites: stable\nComponents: main\n"
            b"Signed-By:\n -----BEGIN\n .\n",
        ],
        (),
        (b"deb ", b"URIs: ", b"Suites: trixie", b"Components: main", b"[signed-by=", b"\n\n", b"\n "),
    ),
    Target(
        "hosts",
        _hosts,
        lambda: [
            b"127.0.0.1\tlocalhost\n127.0.1.1\told.example.com old\n\n# IPv6\n::1 ip6-localhost localhost\n",
            b"UID_MIN 1000\nUID_MAX 0xEA60\nSHELL=/bin/bash\n",
        ],
        (),
        (b"127.0.1.1", b"localhost", b"vm1", b"#", b"UID_MIN "),
    ),
    Target(
        "command-line-of-nocloud",
        _command_line,
        lambda: [b'root=/dev/vda "ds=nocloud;s=http://x/;i=vm1" network-config=e30=\n'],
        (),
        (b"ds=nocloud;", b"ds=nocloud-net;", b"i=", b"network-config="),
    ),
    Target(
        "uuids-and-addresses",
        _small,
        lambda: [b"vsock:2:9999\n", UUIDS[0].encode(), b"/run/x", b"@abstract"],
    ),
    Target(
        "url", _url, lambda: [b"https://example.com:8443/a%20b?c=d", b"http://[::1]/"], (), (b"://", b"[")
    ),
    Target(
        "ganeti-environment", _ganeti, lambda: [_ENVIRONMENT], (ConfigError,), (b"OSP_", b"NIC_0_", b"\0")
    ),
)
