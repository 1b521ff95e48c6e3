"""``ganeti packages``: install the operator's packages in an instance that is made, in its own tree.

Before its document is applied: the locale is made by a package. So the operator's mirror is written here,
as the document's step ``apt`` does, which then finds it so.
"""

from __future__ import annotations

from agent.config.system import Archive
from agent.image import debian_sources, ganeti_creation
from agent.image.ganeti_variables import Variables
from agent.lib.errors import ConfigError, HostError
from agent.steps import apt

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.host.host import Host

#: Seconds for apt in all: it downloads.
_TIMEOUT = 1800.0
#: What apt reads the proxy from: its URL may have a password.
_PROXIES = ("http_proxy", "https_proxy")


def install(host: Host, environment: Mapping[str, str]) -> None:
    """Install what is not installed yet. Raise ConfigError for a wrong parameter, or packages that are not
    installed in the end.
    """
    variables = Variables(environment)
    for error in variables.wrong_parameters():
        raise error
    lacking = [name for name in ganeti_creation.wanted_packages(variables) if not _is_installed(host, name)]
    if not lacking:
        return
    if not host.which("apt-get"):
        what = "OSP_PACKAGES: the system has no apt-get"
        raise ConfigError(what, hint="put the packages into the image")
    mirror, security = variables.parameter("apt_mirror"), variables.parameter("apt_security")
    if mirror or security:
        archive = Archive(
            mirror or debian_sources.MIRROR, security or "", variables.parameter("suite") or ""
        )
        apt.write_archive(host, archive)
    more = {name: environment[name] for name in _PROXIES if environment.get(name)}
    more["DEBIAN_FRONTEND"] = "noninteractive"
    install = ("apt-get", "-q", "-y", "--no-install-recommends", "install", "--", *lacking)
    try:
        for argv in (("apt-get", "-q", "update"), install):
            host.run(argv, timeout=_TIMEOUT, environment=more)
    except HostError as error:
        what = f"OSP_PACKAGES: {error.message}"
        raise ConfigError(what, hint="correct the names, or let the node reach the mirror") from error


def _is_installed(host: Host, name: str) -> bool:
    argv = ("dpkg-query", "-W", "-f", "${db:Status-Status}\\n", name)
    return "installed" in host.run(argv, changes=False, check=False).stdout.split("\n")
