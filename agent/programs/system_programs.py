"""Programs that the agent writes for a part of the document: packages, phone_home, final message, power.

They run in the unit of the customer's programs (agent/steps/script.py), before or after these.
"""

from __future__ import annotations

import re
import shlex

from agent.config.model import PER_BOOT, program
from agent.lib.errors import ConfigError
from agent.lib.records import dataclass
from agent.programs import posting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.config.model import InstanceConfig, Script
    from agent.config.system import Packages, PhoneHome, Power
    from agent.context import Context
    from agent.host.host import Host

#: Seconds that installing and upgrading packages may take in all.
PACKAGES_TIMEOUT = 3600
#: The step that writes files after packages are installed.
DEFERRED_FILES = "deferred files"
#: Flag of this boot: packages were installed that need a reboot.
REBOOT = "/run/gandi/reboot-required"
#: The name of the power state's own unit: the boot has to end before it acts, and waits for the others.
_POWER_UNIT = "gandi-power-state"
_HEAD = "#!/bin/sh\n# Written by gandi-agent from the document of the platform.\n"
_APT = """\
export DEBIAN_FRONTEND=noninteractive
status=0
get() {
    apt-get --assume-yes --quiet -o DPkg::Lock::Timeout=300 -o APT::Update::Error-Mode=any \\
        -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold "$@"
}
# A power cut may have come while packages were unpacked.
dpkg --configure -a --force-confdef --force-confold || status=$?
get update || status=$?
"""
_DNF = """\
status=0
get() {
    dnf --assumeyes --quiet "$@"
}
get makecache || status=$?
"""


@dataclass(frozen=True, slots=True)
class SystemProgram:
    """A program and its text. ``repeats``: started again until it has ended once. ``then``: a line for the
    shell after it. ``wrapper``: the start of its argv.
    """

    script: Script
    text: str
    repeats: bool = False
    timeout: int = 0
    then: str = ""
    wrapper: tuple[str, ...] = ()


def before(host: Host, config: InstanceConfig) -> Iterator[SystemProgram]:
    """Yield what runs before the customer's programs. Raise ConfigError without a package manager."""
    packages = config.system.packages if config.system else None
    if packages:
        text = _HEAD + _packages(host, packages)
        then = f"[ ! -e {REBOOT} ] || {{ rm {REBOOT}; systemctl --no-block reboot; exit; }}\n"
        yield SystemProgram(
            program("packages", text.encode()),
            text,
            repeats=True,
            timeout=PACKAGES_TIMEOUT,
            then=then if packages.reboot else "",
        )
    if packages and config.deferred:
        # In a process of its own: this one is in no stage, and waits for the lock of the present one.
        text = f"{_HEAD}exec gandi-agent run-step '{DEFERRED_FILES}'\n"
        yield SystemProgram(program("deferred-files", text.encode()), text, repeats=True, timeout=600)


def are_packages_due(ctx: Context) -> bool:
    """Return whether packages are still to be installed. Raise ConfigError without a package manager."""
    if not ctx.config or not ctx.config.system or not ctx.config.system.packages:
        return False
    return not ctx.state.is_done(next(before(ctx.host, ctx.config)).script.mark)


def after(config: InstanceConfig, version: str) -> Iterator[SystemProgram]:
    """Yield what runs after the customer's programs; ``version`` is the agent's."""
    system = config.system
    if system and system.phone_home:
        text = _HEAD + _phone_home(system.phone_home, config.identity.id)
        script = program("phone-home", text.encode())
        yield SystemProgram(script, text, repeats=True, timeout=posting.TIMEOUT)
    if system and system.final_message:
        text = _HEAD + _message(system.final_message, config.identity.source, version)
        script = program("final-message", text.encode(), frequency=PER_BOOT)
        yield SystemProgram(script, text, timeout=30)
    if system and system.power:
        text = _HEAD + _power(system.power)
        wrapper = ("systemd-run", "--quiet", "--collect", f"--unit={_POWER_UNIT}")
        yield SystemProgram(program("power-state", text.encode()), text, wrapper=wrapper)


def _packages(host: Host, packages: Packages) -> str:
    manager = next((one for one in ("apt-get", "dnf") if host.which(one)), "")
    if not manager:
        raise ConfigError("packages: neither apt-get nor dnf is installed", hint="install them by runcmd")
    separator, mine = ("=", ("", "apt")) if manager == "apt-get" else ("-", ("",))
    names = [
        f"{one.name}{separator}{one.version}" if one.version else one.name
        for one in packages.names
        if one.manager in mine
    ]
    text = _APT if manager == "apt-get" else _DNF
    if packages.upgrade:
        text += f"get {'dist-upgrade' if manager == 'apt-get' else 'upgrade'} || status=$?\n"
    if names:
        # If one cannot be installed, none of them is: then each by itself.
        every = shlex.join(names)
        text += f'get install {every} || for name in {every}; do get install "$name" || status=$?; done\n'
    if len(names) < len(packages.names):
        text += 'echo "gandi-agent: packages for apt only: not installed"; status=1\n'
    if packages.reboot:
        due = "[ -e /run/reboot-required ]" if manager == "apt-get" else "! dnf --quiet needs-restarting -r"
        text += f"if {due}; then true >{REBOOT}; fi\n"
    return f"{text}exit $status\n"


def _message(message: str, source: str, version: str) -> str:
    """Return a program that prints the message to the journal and the console, with its variables."""
    known = {"version": shlex.quote(f"gandi-agent {version}"), "datasource": shlex.quote(source)}
    known |= {"uptime": '"$uptime"', "timestamp": '"$(date -R)"'}
    pieces = re.split(r"\$(?:\{([A-Za-z_]+)\}|([A-Za-z_]+))", message)
    words = [shlex.quote(pieces[0])]
    for braced, bare, text in zip(pieces[1::3], pieces[2::3], pieces[3::3], strict=True):
        name = braced or bare
        words += [known.get(name.lower(), shlex.quote(f"${name}")), shlex.quote(text)]
    return (
        "read -r uptime _ </proc/uptime\n"
        f"message={''.join(words)}\n"
        'printf "%s\\n" "$message"\n'
        '[ ! -c /dev/console ] || printf "%s\\r\\n" "$message" >/dev/console || true\n'
    )


def _phone_home(phone: PhoneHome, instance: str) -> str:
    """Return a program that sends the POST; the URL, which may hold a token, is in no argument."""
    url = re.sub(r"\$(?:\{INSTANCE_ID\}|INSTANCE_ID)", lambda _: posting.quoted(instance), phone.url)
    request = posting.form_request(url, phone.tries, phone.post, instance)
    return f"exec {shlex.join(posting.command())} <<'END'\n{request}END\n"


def _power(power: Power) -> str:
    unless = "echo 'gandi-agent: power_state: its condition is not met'; exit 0"
    wait = f"timeout {power.timeout} systemctl is-system-running --wait >/dev/null\n"
    text = wait if power.timeout else ""  # timeout(1) takes 0 for no limit
    if power.condition:
        text += f"{shlex.join(power.condition)} || {{ {unless}; }}\n"
    if power.delay:
        flag = {"poweroff": "-P", "reboot": "-r", "halt": "-H"}[power.mode]
        said = (power.message,) if power.message else ()
        return text + f"exec {shlex.join(('shutdown', flag, f'+{power.delay}', *said))}\n"
    message = (f"--message={power.message}",) if power.message else ()
    return text + f"exec {shlex.join(('systemctl', *message, power.mode))}\n"
