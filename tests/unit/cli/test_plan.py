"""What ``config show`` and fault reports have of the document."""

from __future__ import annotations

import json

from agent.cli.plan import redacted
from agent.config.model import Identity, InstanceConfig
from agent.config.system import Apt, AptSource, Mount, Ntp, PhoneHome, Power, System
from agent.lib.records import replace

CONFIG = InstanceConfig(Identity("nocloud", "1"))
SECRET = "s3cret"


def test_no_secret_of_the_system_is_shown() -> None:
    system = System(
        ntp=Ntp(("192.0.2.1",)),
        apt=Apt(
            (AptSource("one", f"deb https://me:{SECRET}@192.0.2.1/ ./"),),
            (("http", f"http://me:{SECRET}@192.0.2.2/"),),
            f'Acquire::http::Proxy "http://me:{SECRET}@192.0.2.2/";',
            (("primary", f"http://me:{SECRET}@192.0.2.3/"),),
        ),
        mounts=(Mount("//192.0.2.1/share", "/srv/x", "cifs", f"username=me,password={SECRET}"),),
        power=Power("reboot", condition=("test", SECRET)),
        phone_home=PhoneHome(f"https://192.0.2.1/{SECRET}", ("fqdn",)),
    )
    shown = json.dumps(redacted(replace(CONFIG, system=system)))
    assert SECRET not in shown
    for part in ("192.0.2.1", "one", "http", "primary", "/srv/x", "reboot"):
        assert part in shown
    assert "locale" not in shown, "what it does not have is left out"


def test_a_document_without_these_parts() -> None:
    assert "system" not in redacted(CONFIG)
