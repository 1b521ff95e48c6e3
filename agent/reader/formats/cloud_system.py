"""The keys of ``#cloud-config`` about the system: packages, time, mounts, power; and those that are refused.

Format: cloud-init's module reference.
"""

from __future__ import annotations

import re

from agent.config import system
from agent.lib.canonical_json import canonical
from agent.lib.records import dataclass
from agent.lib.text import WHITE
from agent.reader.common import values
from agent.reader.common.lenient import ITSELF, named, part, parts, plain, unused, value
from agent.reader.common.problem import UNSUPPORTED, shown
from agent.reader.common.values import Choice, Whole
from agent.reader.formats import cloud_disks, cloud_ssh
from agent.reader.formats import cloud_system_values as written_as
from agent.reader.formats.cloud_account_forms import in_place, listed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from agent.reader.common.merge import Draft

#: Maximum bytes of all these parts: they have to fit into the answer beside accounts and NICs.
_ALL = 1 << 20


@dataclass(frozen=True, slots=True)
class Keyboard:
    """``keyboard``."""

    layout: str = value(written_as.layout, exact=True)
    model: str = value(written_as.xkb, "pc105", exact=True)
    variant: str = value(written_as.xkb, "", exact=True)
    options: str = value(written_as.xkb, "", exact=True)


@dataclass(frozen=True, slots=True)
class Ntp:
    """``ntp``."""

    enabled: bool = value(values.boolean, default=True, exact=True)
    ntp_client: str = value(Choice(("", "auto", "systemd-timesyncd", "chrony")), "", exact=True)
    servers: list[str | None] | None = parts(written_as.time_host, split=True)
    pools: list[str | None] | None = parts(written_as.time_host, split=True)


@dataclass(frozen=True, slots=True)
class CaCerts:
    """``ca_certs``."""

    remove_defaults: bool = value(values.boolean, default=False, exact=True)
    trusted: list[str | None] | None = parts(written_as.certificate)


@dataclass(frozen=True, slots=True)
class AptSource:
    """``apt.sources.NAME``."""

    source: str = value(written_as.source, "", exact=True)
    key: str = value(written_as.armored, "", exact=True)
    filename: str = value(values.line, "")
    append: bool = value(written_as.appended, default=True, exact=True)


@dataclass(frozen=True, slots=True)
class Mirror:
    """``apt.primary[]``, ``apt.security[]``."""

    uri: str = value(written_as.mirror)
    arches: bool = value(written_as.architectures, default=True, exact=True)


@dataclass(frozen=True, slots=True)
class Apt:
    """``apt``."""

    sources: dict[str, AptSource | None] | None = named(AptSource)
    primary: list[Mirror | None] | None = parts(Mirror)
    security: list[Mirror | None] | None = parts(Mirror)
    proxy: str = value(written_as.proxy, "")
    http_proxy: str = value(written_as.proxy, "")
    https_proxy: str = value(written_as.proxy, "")
    ftp_proxy: str = value(written_as.proxy, "")
    conf: str = value(written_as.bounded_text, "")


@dataclass(frozen=True, slots=True)
class Swap:
    """``swap``."""

    #: As in cloud-init, there is no swap file without a size.
    size: int | None = value(values.size, exact=True)
    filename: str = value(values.path, "/swap.img", exact=True)
    maxsize: int | None = value(values.size, None, exact=True)


@dataclass(frozen=True, slots=True)
class Power:
    """``power_state``."""

    mode: str = value(Choice(("poweroff", "reboot", "halt")), exact=True)
    delay: int = value(written_as.delay, 0, exact=True)
    message: str = value(values.line, "")
    timeout: int | None = value(Whole(0, 86400), 30)
    condition: tuple[str, ...] = value(written_as.condition, (), exact=True)


@dataclass(frozen=True, slots=True)
class PhoneHome:
    """``phone_home``."""

    url: str = value(written_as.url, exact=True)
    post: tuple[str, ...] = value(written_as.posted, written_as.POSTED, exact=True)
    tries: int | None = value(Whole(1, 100), 10)


@dataclass(frozen=True, slots=True)
class Grow:
    """``growpart``."""

    mode: str = value(written_as.mode, "auto", exact=True)
    devices: list[str | None] | None = parts(written_as.grown, exact=True)


@dataclass(frozen=True, slots=True)
class VendorData:
    """``vendor_data``, ``vendor_data2``."""

    enabled: bool = value(values.boolean, default=True, exact=True)


@dataclass(frozen=True, slots=True)
class SystemKeys(cloud_ssh.Ssh):
    """The keys of the document that this module reads."""

    locale: str = value(written_as.locale, "")
    keyboard: Keyboard | None = part(Keyboard)
    ntp: Ntp | None = part(Ntp)
    ca_certs: CaCerts | None = part(CaCerts)
    packages: list[system.Package | None] | None = parts(written_as.package, split=True)
    package_update: bool = value(values.boolean, default=False)
    package_upgrade: bool = value(values.boolean, default=False)
    package_reboot_if_required: bool = value(values.boolean, default=False)
    apt_update: bool = value(values.boolean, default=False)
    apt_upgrade: bool = value(values.boolean, default=False)
    apt_reboot_if_required: bool = value(values.boolean, default=False)
    apt: Apt | None = part(Apt)
    disk_setup: dict[str, cloud_disks.DiskSetup | None] | None = named(cloud_disks.DiskSetup)
    fs_setup: list[cloud_disks.Filesystem | None] | None = parts(cloud_disks.Filesystem)
    mounts: list[tuple[str | None, ...] | None] | None = parts(written_as.mount)
    mount_default_fields: tuple[str | None, ...] = value(written_as.defaults, (None,) * 4)
    swap: Swap | None = part(Swap)
    power_state: Power | None = part(Power)
    phone_home: PhoneHome | None = part(PhoneHome)
    final_message: str = value(written_as.message, "")
    growpart: Grow | None = part(Grow)
    resize_rootfs: bool = value(written_as.resized, default=True)
    vendor_data: VendorData | None = part(VendorData)


unused(
    Ntp,
    refused={
        "peers": "only servers and pools are written",
        "allow": "this machine serves no time",
        "config": "no template of the client's configuration is written: use write_files",
    },
    off=("config",),
)
unused(CaCerts)
unused(
    AptSource,
    refused={
        "keyid": "a key is not fetched from the network: write it as key",
        "keyserver": "a key is not fetched from the network: write it as key",
    },
)
unused(
    Mirror,
    refused={
        "search": "no list of mirrors is tried: write one as uri",
        "search_dns": "no list of mirrors is tried: write one as uri",
        "key": "write it as the key of an entry of sources",
        "keyid": "a key is not fetched from the network",
        "keyserver": "a key is not fetched from the network",
    },
    off=("search_dns",),
)
unused(
    Apt,
    section=True,
    harmless={"preserve_sources_list": "the image's sources are never removed"},
    refused={
        "sources_list": "the image's own list is kept: write the lines as entries of sources",
        "disable_suites": "the image's own sources are kept",
        "add_apt_repo_match": "each entry of sources is written as it is",
        "debconf_selections": "run debconf-set-selections in bootcmd",
    },
)
unused(Swap)
unused(Power)
unused(PhoneHome)
unused(Grow, harmless={"ignore_growroot_disabled": "/etc/growroot-disabled is not read"})
# The other keys do not change whether vendor data are used.
unused(VendorData, unsupported={"prefix": "vendor data run without another program"}, unknown=ITSELF)


def normalise(document: dict[str, Any]) -> None:
    """Convert the other forms of keys that depend on more than one value."""
    if document.get("ntp", {}) is None:
        document["ntp"] = {}
    for key, off in (("growpart", {"mode": "off"}), ("vendor_data", {"enabled": False})):
        if values.is_false(document.get(key)):
            document[key] = off
    if isinstance(certs := document.get("ca_certs"), dict):
        for key in [key for key in certs if plain(key) == "trusted"]:
            certs[key] = in_place(map(written_as.certificates, listed(certs[key])))
    if isinstance(many := document.get("packages"), list):
        # Packages of one manager: each of them an item of its own, so that a wrong one costs only itself.
        document["packages"] = in_place(map(_packages_of_manager, many))


def _packages_of_manager(written: Any) -> list[Any]:
    if not isinstance(written, dict):
        return [written]
    return [{kind: one} for kind, several in written.items() for one in listed(several)]


def add(found: SystemKeys, name: str, draft: Draft, *, has_vendor_data: bool) -> None:
    """Add what the document says of the system to the draft; ``has_vendor_data``: it has that key, which
    may be invalid.
    """
    # As in cloud-init: vendor data are used if it says so, or nothing.
    if has_vendor_data and not (found.vendor_data and found.vendor_data.enabled):
        draft.ignores_vendor_data = True
    more = system.System(
        locale=found.locale,
        keyboard=_keyboard(found.keyboard),
        ntp=_ntp(found.ntp, name, draft),
        ca_certs=_ca_certs(found.ca_certs),
        packages=_packages(found),
        apt=_apt(found.apt, f"{name}: apt", draft),
        tables=cloud_disks.tables(found.disk_setup, name, draft),
        filesystems=cloud_disks.filesystems(found.fs_setup, name, draft),
        mounts=tuple(_mount(one, found.mount_default_fields) for one in found.mounts or () if one),
        swap=_swap(found.swap),
        power=_power(found.power_state),
        phone_home=_phone_home(found.phone_home),
        final_message=found.final_message,
        grow_root=found.resize_rootfs and _grows(found.growpart),
    )
    if more == system.System():
        return
    whole = system.merged(draft.system, more)
    if len(canonical(system.to_dict(whole))) > _ALL:
        what = f"packages, certificates and mounts of more than {_ALL} bytes in all: left out"
        draft.add_problem(name, what, "deliver less")
        return
    draft.system = whole


def _keyboard(found: Keyboard | None) -> system.Keyboard | None:
    if found is None:
        return None
    return system.Keyboard(found.layout, found.model, found.variant, found.options)


def _ntp(found: Ntp | None, name: str, draft: Draft) -> system.Ntp | None:
    if found is None or not found.enabled:
        return None
    client = "" if found.ntp_client == "auto" else found.ntp_client
    made = system.Ntp(_there(found.servers), _there(found.pools), client)
    if made != system.Ntp():
        return made
    what, hint = "no servers and pools: the image's own stay in use", "write servers, or remove the key"
    draft.add_problem(f"{name}: ntp", what, hint, severity=UNSUPPORTED)
    return None


def _ca_certs(found: CaCerts | None) -> system.CaCerts | None:
    if found is None or not (found.trusted or found.remove_defaults):
        return None
    return system.CaCerts(_there(found.trusted), found.remove_defaults)


def _packages(found: SystemKeys) -> system.Packages | None:
    made = system.Packages(
        _there(found.packages),
        found.package_update or found.apt_update,
        found.package_upgrade or found.apt_upgrade,
        found.package_reboot_if_required or found.apt_reboot_if_required,
    )
    return None if made in (system.Packages(), system.Packages(reboot=True)) else made


def _apt(found: Apt | None, path: str, draft: Draft) -> system.Apt | None:
    if found is None:
        return None
    sources = dict[str, system.AptSource]()
    for key, one in (found.sources or {}).items():
        if one and not (one.source or one.key):
            draft.add_problem(f"{path}.sources.{shown(key)}", "no source and no key: left out", "write one")
        elif one and not _file_name(one.filename or key):
            draft.add_problem(f"{path}.sources", "an entry without a name: left out", "name it")
        elif one:
            name = _file_name(one.filename or key)
            while name in sources:
                name += "-2"
            sources[name] = system.AptSource(name, one.source, one.key)
    urls = {"http": found.http_proxy or found.proxy, "https": found.https_proxy, "ftp": found.ftp_proxy}
    if found.proxy and found.http_proxy not in ("", found.proxy):
        what, hint = "not used: http_proxy has precedence", "write one of them"
        draft.add_problem(f"{path}.proxy", what, hint, severity=UNSUPPORTED)
    mirrors = {"primary": found.primary, "security": found.security}
    for kind in [kind for kind, many in mirrors.items() if len(_there(many)) > 1]:
        what, hint = "the first mirror is used, no other", "write one"
        draft.add_problem(f"{path}.{kind}", what, hint, severity=UNSUPPORTED)
    made = system.Apt(
        tuple(sources.values()),
        tuple((kind, url) for kind, url in urls.items() if url),
        found.conf,
        tuple((kind, _there(many)[0].uri) for kind, many in mirrors.items() if _there(many)),
    )
    return None if made == system.Apt() else made


def _file_name(text: str) -> str:
    """Return a name of a file in sources.list.d, which may have letters, digits, ``_``, ``-`` and ``.``."""
    return re.sub(r"[^A-Za-z0-9_-]", "-", text.strip(WHITE).rpartition("/")[2].removesuffix(".list"))[:100]


def _mount(written: tuple[str | None, ...], preset: tuple[str | None, ...]) -> system.Mount:
    plain = ("auto", "defaults,nofail", "0", "0")
    given = (*written[2:], *(None,) * (6 - len(written)))
    fstype, options, dump, passno = (
        next(one for one in each if one is not None) for each in zip(given, preset, plain, strict=True)
    )
    spec, point = written[0] or "", written[1] or ""
    spec = f"/dev/{spec}" if written_as.KERNELS_NAME.fullmatch(spec) else spec
    return system.Mount(spec, point, fstype, options, int(dump), int(passno))


def _swap(found: Swap | None) -> system.SwapFile | None:
    # A size of 0 is a machine without a swap file.
    if found is None or found.size == 0:
        return None
    return system.SwapFile(found.filename, found.size, found.maxsize or 0)


def _power(found: Power | None) -> system.Power | None:
    if found is None:
        return None
    timeout = 30 if found.timeout is None else found.timeout
    return system.Power(found.mode, found.delay, found.message, timeout, found.condition)


def _phone_home(found: PhoneHome | None) -> system.PhoneHome | None:
    if found is None:
        return None
    return system.PhoneHome(found.url, found.post, 10 if found.tries is None else found.tries)


def _grows(found: Grow | None) -> bool:
    return found is None or (
        found.mode not in ("off", "false") and (found.devices is None or "/" in found.devices)
    )


def _there(found: Any) -> tuple[Any, ...]:
    """Return the items that could be read."""
    return tuple(one for one in found or () if one is not None)
