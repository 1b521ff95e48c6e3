"""Make the native document of an instance that Ganeti creates, from the environment of its OS scripts.

Ganeti sets INSTANCE_*, NIC_COUNT and NIC_<N>_* (ganeti-os-interface(7)). This has no effects.
"""

from __future__ import annotations

import ipaddress

from agent.config.nics import ANYWHERE
from agent.image import debian_sources
from agent.image.ganeti_variables import Variables
from agent.lib.errors import ConfigError
from agent.reader.common import fields

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from agent.image.ganeti_variables import Interface
#: Far more NICs than a machine has: a limit for an invalid count.
_NICS = 64


def document(environment: Mapping[str, str]) -> dict[str, Any]:
    """Return the document, ready for JSON. Raise ConfigError that names a missing or invalid variable."""
    variables = Variables(environment)
    name = variables.required("INSTANCE_NAME", fields.hostname)
    made: dict[str, Any] = {
        "version": 1,
        "id": variables.get("INSTANCE_UUID") or name,
        "hostname": name,
        "nics": [_nic(variables, number) for number in range(_nic_count(variables))],
        "users": _users(variables),
    }
    if servers := variables.listed("dns"):
        made["nameservers"] = [str(server) for server in servers]
    if zone := variables.parameter("timezone"):
        made["timezone"] = zone
    if locale := variables.parameter("locale"):
        made["locale"] = locale
    if apt := _apt(variables):
        made["apt"] = apt
    if console := _console(variables):
        made["consoles"] = [console]
    return made


def _apt(variables: Variables) -> dict[str, Any]:
    mirror, security = variables.parameter("apt_mirror"), variables.parameter("apt_security")
    proxy, suite = variables.parameter("apt_proxy"), variables.parameter("suite")
    made: dict[str, Any] = {}
    if mirror or security:
        archive = {"uri": mirror or debian_sources.MIRROR, "security": security, "suite": suite}
        made["archive"] = {name: value for name, value in archive.items() if value}
    return made | {"proxy": proxy} if proxy else made


def _console(variables: Variables) -> str:
    """Return the terminal that the hypervisor shows to the operator (gnt-instance console), "" if none. Xen
    PV always has one. KVM's is a parameter of the hypervisor, which Ganeti passes as Python's str() has it.
    """
    if variables.get("HYPERVISOR") == "xen-pvm":
        return "hvc0"
    return "ttyS0" if variables.get("INSTANCE_HV_serial_console").lower() == "true" else ""


def _nic_count(variables: Variables) -> int:
    count = variables.required("NIC_COUNT", fields.number)
    if count > _NICS:
        raise ConfigError(f"NIC_COUNT: more than {_NICS}", hint="see: gnt-instance info")
    return count


def _nic(variables: Variables, number: int) -> dict[str, Any]:
    """Return one NIC. The first takes the addresses of OSP_IPV4 and OSP_IPV6. A family without one there,
    and every other NIC, takes Ganeti's address (its pools are IPv4 only). Without any address: DHCP.
    """
    prefix = f"NIC_{number}_"
    nic: dict[str, Any] = {"number": number, "mac": variables.required(f"{prefix}MAC", fields.mac)}
    addresses = _operator_addresses(variables) if number == 0 else []
    addresses += [
        one for one in _ganeti_address(variables, prefix) if not _addresses_of_family(addresses, one.version)
    ]
    if not addresses:
        return nic | {"dhcp4": True}
    nic["addresses"] = [str(address) for address in addresses]
    routes = [
        _default(gateway, addresses)
        for names in (("NETWORK_GATEWAY", "gateway"), ("NETWORK_GATEWAY6", "gateway6"))
        if (gateway := _gateway(variables, prefix, *names))
        and _addresses_of_family(addresses, gateway.version)
    ]
    if routes:
        nic["routes"] = routes
    if any(route["to"] == ANYWHERE[6] for route in routes):
        nic["ra_gateway"] = False
    if _addresses_of_family(addresses, 6):
        nic["ra_address"] = False
    return nic


def _operator_addresses(variables: Variables) -> list[Interface]:
    """Return the addresses of OSP_IPV4 and OSP_IPV6."""
    return [*variables.listed("ipv4"), *variables.listed("ipv6")]


def _ganeti_address(variables: Variables, prefix: str) -> list[Interface]:
    """Return NIC_<N>_IP with the prefix of its network in Ganeti, or as a host address if it is routed."""
    address = variables.read(f"{prefix}IP", fields.address)
    if address is None:
        return []
    subnet = f"{prefix}NETWORK_SUBNET" + ("6" if address.version == 6 else "")
    network = variables.read(subnet, fields.network)
    if network is None and variables.get(f"{prefix}MODE") != "routed":
        raise ConfigError(
            f"{subnet}: missing, so the prefix of {prefix}IP is not known",
            hint="connect the NIC to a network (gnt-network connect), or give OSP_IPV4 and OSP_IPV6",
        )
    if network is not None and address not in network:
        raise ConfigError(f"{prefix}IP: not in {subnet}", hint="see: gnt-network info")
    length = address.max_prefixlen if network is None else network.prefixlen
    return [ipaddress.ip_interface(f"{address}/{length}")]


def _gateway(variables: Variables, prefix: str, known: str, chosen: str) -> fields.IP | None:
    """Return the gateway: for the first NIC the operator's, if set, else Ganeti's."""
    found: fields.IP | None = variables.parameter(chosen) if prefix == "NIC_0_" else None
    return found or variables.read(f"{prefix}{known}", fields.address)


def _default(gateway: fields.IP, addresses: Sequence[Interface]) -> dict[str, Any]:
    inside = any(gateway in address.network for address in _addresses_of_family(addresses, gateway.version))
    route = {"to": ANYWHERE[gateway.version], "via": str(gateway)}
    return route if inside and not gateway.is_link_local else route | {"on_link": True}


def _addresses_of_family(addresses: Sequence[Interface], version: int) -> list[Interface]:
    return [address for address in addresses if address.version == version]


def _users(variables: Variables) -> list[dict[str, Any]]:
    """Return the accounts. Keys and password are for OSP_USER, an administrator, else for root. Root without
    a delivered password is locked, since instance-debootstrap leaves its password blank.
    """
    name = variables.parameter("user") or "root"
    keys = variables.listed("sshkey")
    password = variables.parameter("password_hash")
    if not keys and not password:
        raise ConfigError(
            "OSP_SSHKEY: missing, and no OSP_PASSWORD_HASH either: no login would be possible",
            hint="give one of them: gnt-instance add -O sshkey=…",
        )
    user: dict[str, Any] = {"name": name, "keys": keys}
    user |= {"password": password} if password else {"locked": True}
    if name == "root":
        return [user]
    return [{"name": "root", "locked": True}, user | {"admin": True}]
