"""Make the native document of an instance that Ganeti creates, from the environment of its OS scripts.

Ganeti sets INSTANCE_*, NIC_COUNT and NIC_<N>_* (ganeti-os-interface(7)); OSP_* are the parameters that the
operator declares for this OS (docs/ganeti.md). This has no effects. An error names the invalid variable and
never its value, which may be a secret.
"""

from __future__ import annotations

import ipaddress

from agent.config.nics import ANYWHERE
from agent.lib.errors import ConfigError
from agent.lib.text import WHITE, delivered_lines, words
from agent.reader.common import fields

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any, TypeVar

    Interface = ipaddress.IPv4Interface | ipaddress.IPv6Interface
    T = TypeVar("T")
#: Far more NICs than a machine has: a limit for an invalid count.
_NICS = 64


def document(environment: Mapping[str, str]) -> dict[str, Any]:
    """Return the document, ready for JSON. Raise ConfigError that names a missing or invalid variable."""
    variables = _Variables(environment)
    name = variables.required("INSTANCE_NAME", fields.hostname)
    made: dict[str, Any] = {
        "version": 1,
        "id": variables.get("INSTANCE_UUID") or name,
        "hostname": name,
        "nics": [_nic(variables, number) for number in range(_nic_count(variables))],
        "users": _users(variables),
    }
    if servers := variables.words("OSP_DNS", fields.address):
        made["nameservers"] = [str(server) for server in servers]
    if zone := variables.get("OSP_TIMEZONE"):
        made["timezone"] = zone
    if console := _console(variables):
        made["consoles"] = [console]
    return made


def _console(variables: _Variables) -> str:
    """Return the terminal that the hypervisor shows to the operator (gnt-instance console), "" if none. Xen
    PV always has one. KVM's is a parameter of the hypervisor, which Ganeti passes as Python's str() has it.
    """
    if variables.get("HYPERVISOR") == "xen-pvm":
        return "hvc0"
    return "ttyS0" if variables.get("INSTANCE_HV_serial_console").lower() == "true" else ""


class _Variables:
    """The environment and the readers of its values; each error names the variable."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment

    def get(self, name: str) -> str:
        """Return the value, "" if it is empty or missing."""
        return self._environment.get(name, "").strip(WHITE)

    def read(self, name: str, reader: Callable[[str], T]) -> T | None:
        """Return the value parsed by the reader, None without a value."""
        value = self.get(name)
        return self._parsed(name, reader, value) if value else None

    def required(self, name: str, reader: Callable[[str], T | None]) -> T:
        """Return the value parsed by the reader. Raise ConfigError without a value."""
        found = self.read(name, reader)
        if found is None:
            raise ConfigError(f"{name}: missing", hint="Ganeti or the operator must set it")
        return found

    def words(self, name: str, reader: Callable[[str], T]) -> list[T]:
        """Return each word of the value parsed by the reader."""
        return [self._parsed(name, reader, word) for word in words(self.get(name).replace("\n", " "))]

    def lines(self, name: str, reader: Callable[[str], T]) -> list[T]:
        """Return each line of the value parsed by the reader."""
        written = (line for line in delivered_lines(self.get(name)) if line.strip(WHITE))
        return [self._parsed(name, reader, line) for line in written]

    @staticmethod
    def _parsed(name: str, reader: Callable[[str], T], value: str) -> T:
        try:
            return reader(value)
        except ValueError as error:
            what, _, hint = str(error).partition("; ")
            raise ConfigError(f"{name}: {what}", hint=hint) from error


def _nic_count(variables: _Variables) -> int:
    count = variables.required("NIC_COUNT", fields.number)
    if count > _NICS:
        raise ConfigError(f"NIC_COUNT: more than {_NICS}", hint="see: gnt-instance info")
    return count


def _nic(variables: _Variables, number: int) -> dict[str, Any]:
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
        for names in (("NETWORK_GATEWAY", "OSP_GATEWAY"), ("NETWORK_GATEWAY6", "OSP_GATEWAY6"))
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


def _operator_addresses(variables: _Variables) -> list[Interface]:
    """Return the addresses of OSP_IPV4 and OSP_IPV6."""
    found: list[Interface] = [*variables.words("OSP_IPV4", _cidr(4)), *variables.words("OSP_IPV6", _cidr(6))]
    return found


def _ganeti_address(variables: _Variables, prefix: str) -> list[Interface]:
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


def _gateway(variables: _Variables, prefix: str, known: str, chosen: str) -> fields.IP | None:
    """Return the gateway: for the first NIC the operator's, if set, else Ganeti's."""
    found = variables.read(chosen, fields.address) if prefix == "NIC_0_" else None
    return found or variables.read(f"{prefix}{known}", fields.address)


def _default(gateway: fields.IP, addresses: Sequence[Interface]) -> dict[str, Any]:
    inside = any(gateway in address.network for address in _addresses_of_family(addresses, gateway.version))
    route = {"to": ANYWHERE[gateway.version], "via": str(gateway)}
    return route if inside and not gateway.is_link_local else route | {"on_link": True}


def _addresses_of_family(addresses: Sequence[Interface], version: int) -> list[Interface]:
    return [address for address in addresses if address.version == version]


def _cidr(version: int) -> Callable[[str], Interface]:
    def read(word: str) -> Interface:
        address, slash, _ = word.partition("/")
        example = "203.0.113.10/24" if version == 4 else "2001:db8::10/64"
        try:
            found = ipaddress.ip_interface(word)
            if not slash or found.version != version or not fields.address(address):
                raise ValueError
        except ValueError:
            raise ValueError(
                f"not an IPv{version} address with its prefix; write for example {example}"
            ) from None
        return found

    return read


def _users(variables: _Variables) -> list[dict[str, Any]]:
    """Return the accounts. Keys and password are for OSP_USER, an administrator, else for root. Root without
    a delivered password is locked, since instance-debootstrap leaves its password blank.
    """
    name = variables.read("OSP_USER", fields.user) or "root"
    keys = [line for _, line in variables.lines("OSP_SSHKEY", fields.key)]
    password = variables.read("OSP_PASSWORD_HASH", fields.password)
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
