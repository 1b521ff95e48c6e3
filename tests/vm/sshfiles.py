"""Configurations of sshd's to which a file is hard to add."""

from __future__ import annotations

#: The main file and those that sshd follows from it (OpenSSH's servconf.c, SERVCONF_MAX_DEPTH).
DEEPEST = 17


def too_deep() -> dict[str, str]:
    """Files of which the last allowed one includes the folder of drop-ins: sshd takes them as long as that
    folder is empty.
    """
    chain = [f"/etc/ssh/deep/{depth}" for depth in range(1, DEEPEST)]
    places = ["/etc/ssh/sshd_config", *chain]
    targets = [*chain, "/etc/ssh/sshd_config.d/*.conf"]
    return {place: f"Include {target}\n" for place, target in zip(places, targets, strict=True)}
