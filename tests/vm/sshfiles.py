"""Configurations of sshd to which a file cannot simply be added."""

from __future__ import annotations

#: The main file and those that sshd follows from it (OpenSSH's servconf.c, SERVCONF_MAX_DEPTH).
DEEPEST = 17


def too_deep() -> dict[str, str]:
    """Return files that include each other to the allowed depth, the last one the folder of drop-ins: sshd
    accepts them only while that folder is empty.
    """
    chain = [f"/etc/ssh/deep/{depth}" for depth in range(1, DEEPEST)]
    places = ["/etc/ssh/sshd_config", *chain]
    targets = [*chain, "/etc/ssh/sshd_config.d/*.conf"]
    return {place: f"Include {target}\n" for place, target in zip(places, targets, strict=True)}
