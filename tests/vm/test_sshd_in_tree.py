"""The ssh step with Debian's own sshd, in the guest's tree on the build host (``sshd -T`` needs no boot)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from agent.config.model import Identity, InstanceConfig, User
from agent.context import Context, context
from agent.host.host import Completed, Host
from agent.lib.errors import ConfigError, HostError
from agent.network import sshd
from agent.report import Outcome
from agent.steps import ssh
from tests.vm import sample
from tests.vm.rig import ImageSpec
from tests.vm.rig.tree import merged
from tests.vm.sshfiles import too_deep

IDENTITY = Identity("gandi", "1")
FOREIGN = "/etc/ssh/sshd_config.d/50-foreign.conf"


class Tree(Host):
    """The tree, with the folder that PID 1 makes for sshd: a program run in an image has an empty /run."""

    def run(self, argv: Sequence[str], **how: Any) -> Completed:
        return Host.run(self, ("sh", "-c", 'mkdir -p /run/sshd && exec "$@"', "sh", *argv), **how)


@pytest.fixture(scope="module")
def tree() -> Iterator[Path]:
    """Debian 13 with openssh-server and its host keys."""
    with merged(ImageSpec()) as root:
        yield root


@pytest.fixture
def ctx(tree: Path) -> Iterator[Context]:
    """A new instance with a key for root; files that a test leaves in the tree are removed."""
    main = (tree / "etc/ssh/sshd_config").read_text()
    found = context(Tree(tree))
    found.state.set_instance(IDENTITY)
    found.config = InstanceConfig(IDENTITY, users=(User("root", keys=(sample.KEY,)),))
    yield found
    (tree / "etc/ssh/sshd_config").write_text(main)
    for name in (ssh.DROP_IN, FOREIGN, f"{found.state.folder()}/done/ssh"):
        (tree / name[1:]).unlink(missing_ok=True)


def written(ctx: Context) -> bool:
    return ctx.host.exists(ssh.DROP_IN)


def test_it_is_heeded(ctx: Context) -> None:
    (item,) = ssh.apply(ctx)
    assert item.outcome is Outcome.CHANGED
    said = ctx.host.run((sshd.SSHD, "-T")).stdout.splitlines()
    assert {"permitrootlogin without-password", "permitemptypasswords no"} <= set(said)


def test_a_foreign_file_that_sshd_refuses_is_named(ctx: Context) -> None:
    ctx.host.write(FOREIGN, "PermitRootLogon yes\n")
    with pytest.raises(ConfigError, match=rf"{FOREIGN}: line 1: Bad configuration option: PermitRootLogon"):
        list(ssh.apply(ctx))
    assert not written(ctx)


def test_one_of_ours_that_it_refuses_is_taken_back(ctx: Context) -> None:
    """A configuration with the depth that sshd allows; with the agent's drop-in it is one deeper."""
    for name, text in too_deep().items():
        ctx.host.write(name, text)
    ctx.host.mkdir("/run/sshd")
    ctx.host.run((sshd.SSHD, "-t"))
    with pytest.raises(
        HostError, match=r"00-gandi\.conf, which was removed: .*recursive configuration includes"
    ):
        list(ssh.apply(ctx))
    assert not written(ctx)
    ctx.host.run((sshd.SSHD, "-t"))


def test_without_host_keys_it_is_not_asked(ctx: Context, tree: Path) -> None:
    keys = list((tree / "etc/ssh").glob("ssh_host_*"))
    aside = tree / "root/keys"
    aside.mkdir()
    for key in keys:
        key.rename(aside / key.name)
    try:
        list(ssh.apply(ctx))
        assert written(ctx)
    finally:
        for key in keys:
            (aside / key.name).rename(key)
