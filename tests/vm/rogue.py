#!/usr/bin/python3
"""Random attacks of an unprivileged user on the agent: ``rogue.py SEED DISK``, run as that user in the home
folder until it is ended. ``DISK`` is the mountpoint of the user's data disk while it is attached.

Each program that it leaves anywhere writes to MARK when it is run as root. Standard library only.
"""

from __future__ import annotations

import array
import contextlib
import ctypes
import fcntl
import os
import random
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

#: A file that only root can make.
MARK = "/ROOT-RAN-HIS"
PROGRAM = f'#!/bin/sh\n[ "$(id -u)" = 0 ] && echo "$0" >>{MARK}\nexit 0\n'
MODULE = f"import os\nif os.geteuid() == 0: open({MARK!r}, 'a').write(__file__)\n"
#: Seconds for one attack.
BOUND = 8
#: Names and texts: ends of lines that the kernel does not know, escapes, options, paths.
HOSTILE = (
    "a\fb",
    "a\vb",
    "a\x1cb",
    "a\x85b",
    "a\u2028b",
    "a\rb",
    "a\nb",
    "a b\tc",
    "\x1b]0;x\x07\x1b[2J",
    "\u202eabc",
    "-rf",
    "--help",
    "..",
    "a\\040b\\012c",
    "%n%s",
    "$(id)",
    "`id`",
    ";id;",
    "' \"",
    ",dev,suid,",
    "#x",
    "/dev/vda",
    "/dev/vdb",
    "ext4",
    "swap",
    "gandi",
    "config-2",
    "(deleted)",
    "\udcff\udcfe",
    "x" * 200,
)
FOLDERS = ("/etc", "/root", "/var/lib/gandi", "/run/gandi", "/usr/local/bin", "/", "/proc/self", "/dev")
FILES = (
    "/etc/shadow",
    "/etc/passwd",
    "/etc/sudoers.d/x",
    "/root/.ssh/authorized_keys",
    "/run/gandi/status.json",
)
UNITS = ("ssh.service", "cron.service", "gandi-agent.service", "-.mount", "../../etc/shadow", "a\x00b", "*")


class Rogue:
    """The user: random numbers, home and disk."""

    def __init__(self, seed: str, disk: str) -> None:
        self.chance = random.Random(seed)
        self.home, self.disk = Path.home(), Path(disk)
        self.libc = ctypes.CDLL(None, use_errno=True)

    def text(self) -> str:
        return self.chance.choice(HOSTILE)

    def name(self) -> str:
        return self.text().replace("/", "_").replace("..", "dots") or "empty"

    def place(self) -> Path:
        """Return the home, the disk, or a folder that all users may write to."""
        return self.chance.choice((self.home, self.disk, Path("/tmp"), Path("/dev/shm"), Path("/run/lock")))

    def program(self, path: Path) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(PROGRAM)
        path.chmod(self.chance.choice((0o755, 0o4755, 0o6777)))
        return path

    def gone(self, path: Path) -> None:
        """Remove a path, whatever it is."""
        with contextlib.suppress(FileNotFoundError):
            path.rename(path.parent / f"old{self.chance.getrandbits(40):x}")

    # -- mounts ----------------------------------------------------------------------

    def fuse(self) -> None:
        """Mount a FUSE filesystem with hostile names that does not answer for a while."""
        at = self.place() / self.name()
        at.mkdir(exist_ok=True)
        mine, theirs = socket.socketpair()
        options = f"subtype={self.text().replace(',', '')},fsname={self.text().replace(',', '')}"
        command = ["fusermount3", "-o", options, "--", str(at)]
        environment = os.environ | {"_FUSE_COMMFD": str(theirs.fileno())}
        with mine, theirs:
            done = subprocess.run(command, env=environment, pass_fds=[theirs.fileno()], capture_output=True)
            if done.returncode:
                return
            fds = array.array("i")
            _, found, _, _ = mine.recvmsg(1, socket.CMSG_LEN(fds.itemsize))
            fds.frombytes(found[0][2][: fds.itemsize])
        time.sleep(self.chance.uniform(0, 4))
        os.close(fds[0])
        subprocess.run(["fusermount3", "-u", "-z", "--", str(at)], capture_output=True)

    def namespaces(self) -> None:
        """Make mounts over everything in a namespace, and keep the disk busy there."""
        what = self.chance.choice(
            (
                f"mount -t tmpfs '/dev/vdb' {self.disk}",
                "mount -t tmpfs 'a b' /srv",
                f"mount --bind /etc {self.disk}; mount --bind {self.disk} /run",
                "mount -t tmpfs x /etc; echo root::0:0::/:/bin/sh >/etc/passwd",
                f"cd {self.disk}; mount --rbind / /mnt",
            )
        )
        line = f"{what}; sleep {self.chance.uniform(0, 4):.1f}"
        subprocess.run(["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", line])

    # -- accounts and jobs -----------------------------------------------------------

    def crontab(self) -> None:
        job = self.program(self.disk / "job")
        text = f"* * * * * {job}\n* * * * * cd {self.disk} && sleep 20\n@reboot {job}\n"
        subprocess.run(["crontab", "-"], input=text.encode())

    def account(self) -> None:
        command = self.chance.choice((["chfn", "-h", self.text()], ["chfn", "-r", self.text()], ["chsh"]))
        given = f"rogue-password\n{self.disk}/job\n".encode()
        subprocess.run([word for word in command if "\0" not in word], input=given)

    # -- files -----------------------------------------------------------------------

    def services(self) -> None:
        """Write the file that names the services to stop when the disk is detached."""
        folder = self.disk / ".gandi"
        self.gone(folder)
        if self.chance.random() < 0.2:
            folder.symlink_to(self.chance.choice(FOLDERS))
            return
        folder.mkdir()
        match self.chance.randrange(4):
            case 0:
                os.mkfifo(folder / "services")
            case 1:
                (folder / "services").symlink_to(self.chance.choice(FILES))
            case 2:
                (folder / "services").write_bytes(b"x" * (1 << 20))
            case _:
                lines = [self.chance.choice((*UNITS, self.text())) for _ in range(20)]
                (folder / "services").write_bytes("\n".join(lines).encode(errors="surrogateescape"))

    def swap_folders(self) -> None:
        """Exchange folders that are written to with links, and back, as fast as possible."""
        for name in (".ssh", "app"):
            (self.home / name).mkdir(exist_ok=True)
        name = self.chance.choice((".ssh", "app"))
        real, link = self.home / name, self.home / f"{name}-link"
        self.gone(link)
        link.symlink_to(self.chance.choice(FOLDERS))
        until = time.monotonic() + self.chance.uniform(0, 4)
        times = 0
        while time.monotonic() < until or times % 2:
            self.libc.renameat2(-100, os.fsencode(real), -100, os.fsencode(link), 2)  # RENAME_EXCHANGE
            times += 1

    def replace_files(self) -> None:
        """Replace the user's files that the agent reads or writes by other things."""
        path = self.chance.choice((self.home / ".ssh/authorized_keys", self.home / "app/config"))
        self.gone(path)
        match self.chance.randrange(5):
            case 0:
                path.symlink_to(self.chance.choice(FILES))
            case 1:
                os.mkfifo(path)
            case 2:
                path.mkdir()
            case 3:
                path.hardlink_to(self.home / "held")
            case _:
                path.write_bytes(
                    "\n".join(self.chance.choices(HOSTILE, k=20)).encode(errors="surrogateescape")
                )

    def names(self) -> None:
        """Make files, folders, links, sockets with hostile names; programs with names that root may call."""
        at = self.place() / self.name()
        self.gone(at)
        match self.chance.randrange(5):
            case 0:
                at.symlink_to(self.chance.choice((*FOLDERS, *FILES)))
            case 1:
                with socket.socket(socket.AF_UNIX) as made:
                    made.bind(str(at))
            case 2:
                at.write_text("x")
            case 3:
                names = ("ls", "mount", "blkid", "sitecustomize", "rc", "post-disk-attach", "fsck.ext4")
                self.program(at / self.chance.choice(names))
            case _:
                (at / "sitecustomize.py").parent.mkdir()
                (at / "sitecustomize.py").write_text(MODULE)

    def deep(self) -> None:
        before = os.getcwd()
        os.chdir(self.place())
        try:
            for _ in range(self.chance.randrange(300)):
                os.makedirs("deep", exist_ok=True)
                os.chdir("deep")
        finally:
            os.chdir(before)

    def fill(self) -> None:
        path = self.chance.choice((self.disk, Path("/tmp"), Path("/dev/shm"))) / "filled"
        try:
            with path.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, self.chance.randrange(1 << 27))
        finally:
            path.unlink(missing_ok=True)

    # -- devices and processes -------------------------------------------------------

    def loop(self) -> None:
        """Make a loop device with a hostile label through udisks."""
        path = Path("/var/tmp/rogue.img")
        with path.open("wb") as file:
            file.truncate(16 << 20)
        label = self.name().encode(errors="surrogateescape")[:16]
        subprocess.run(["mkfs.ext4", "-q", "-F", "-L", label, path])
        word = self.chance.choice(("setup", "delete"))
        where = ["--file", str(path)] if word == "setup" else ["--block-device", "/dev/loop0"]
        subprocess.run(["udisksctl", f"loop-{word}", "--no-user-interaction", *where])

    def process(self) -> None:
        """Start a process with a hostile name that uses the disk."""
        with contextlib.suppress(OSError):
            os.chdir(self.disk)
        self.libc.prctl(15, self.text().encode(errors="surrogateescape")[:15])  # PR_SET_NAME
        with contextlib.ExitStack() as held:
            for number in range(5):
                held.enter_context((self.disk / f"held{number}").open("wb"))
            time.sleep(self.chance.uniform(0, 4))

    def locks(self) -> None:
        """Take advisory locks on all that the user may open."""
        held = []
        for path in (
            *FILES,
            *FOLDERS,
            self.disk,
            "/run/gandi/disks",
            "/dev/vda",
            "/dev/vdb",
            "/run/lock",
        ):
            with contextlib.suppress(OSError):
                held.append(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
                fcntl.flock(held[-1], fcntl.LOCK_EX | fcntl.LOCK_NB)
        time.sleep(self.chance.uniform(0, 4))
        for descriptor in held:
            os.close(descriptor)

    # -- the agent and the system ----------------------------------------------------

    def sockets(self) -> None:
        paths = ["/dev/log", "/run/systemd/notify", "/run/systemd/private", "/run/udev/control"]
        paths += [str(path) for path in Path("/run/gandi").glob("*")]
        data = self.chance.choice(
            (b"READY=1\nSTOPPING=1", b"<2>gandi-agent[1]: x\x1b[2J", b"{}\n", b"\0" * 4096)
        )
        for path in paths:
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET):
                with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, kind) as client:
                    client.settimeout(1)
                    client.connect(path)
                    client.send(data)

    def events(self) -> None:
        """Send forged events, as udev and as the kernel."""
        subprocess.run(["udevadm", "trigger", "--action=remove"])
        with contextlib.suppress(OSError), socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 15) as sender:
            for groups in (1, 2):
                sender.bind((0, 0))
                sender.sendto(b"remove@/devices/x\0ACTION=remove\0SUBSYSTEM=block\0", (0, groups))

    def agent(self) -> None:
        """Run the agent's verbs in the user's folders and environments."""
        words = self.chance.choice(
            (["status"], ["disks"], ["detach", "data"], ["get"], ["run-stage", "mount"])
        )
        environment = os.environ | {
            "PYTHONPATH": str(self.home),
            "GANDI_SEED": self.text().replace("\0", ""),
        }
        subprocess.run(["gandi-agent", *words], env=environment)

    def runtime(self) -> None:
        """Make files where the agent has its own."""
        for folder in (
            "/run/gandi",
            "/var/lib/gandi",
            "/gandi",
            "/srv",
            "/etc/gandi",
            "/run/lock",
            "/var/lock",
        ):
            with contextlib.suppress(OSError):
                (
                    Path(folder) / self.chance.choice(("status.json", "disks.json", "gandi", "data"))
                ).write_text("x")
            with contextlib.suppress(OSError):
                (Path(folder) / "link").symlink_to("/etc/shadow")

    def tries(self) -> tuple[Callable[[], None], ...]:
        return (
            self.fuse,
            self.namespaces,
            self.crontab,
            self.account,
            self.services,
            self.swap_folders,
            self.replace_files,
            self.names,
            self.deep,
            self.fill,
            self.loop,
            self.process,
            self.locks,
            self.sockets,
            self.events,
            self.agent,
            self.runtime,
        )


def attempt(rogue: Rogue, what: Callable[[], None]) -> None:
    """Run an attack in a process of its own, which is killed after BOUND seconds with all its children."""
    rogue.chance.random()
    child = os.fork()
    if not child:
        os.setsid()
        with contextlib.suppress(OSError, ValueError):
            what()
        os._exit(0)
    until = time.monotonic() + BOUND
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        if time.monotonic() > until:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return
        time.sleep(0.05)


def main() -> None:
    seed, disk = sys.argv[1:]
    rogue = Rogue(seed, disk)
    os.umask(0)
    for name in (".profile", ".bashrc", ".ssh/rc", "bin/id", ".local/bin/ls"):
        rogue.program(rogue.home / name)
    quiet = os.open(os.devnull, os.O_RDWR)
    counts = dict.fromkeys((what.__name__ for what in rogue.tries()), 0)
    ended = []
    signal.signal(signal.SIGTERM, lambda *_: ended.append(True))
    while not ended:
        what = rogue.chance.choice(rogue.tries())
        counts[what.__name__] += 1
        out = [os.dup(number) for number in (1, 2)]
        for number in (0, 1, 2):
            os.dup2(quiet, number)
        attempt(rogue, what)
        for number, kept in zip((1, 2), out, strict=True):
            os.dup2(kept, number)
            os.close(kept)
    print(*(f"{name} {count}" for name, count in counts.items()), sep=", ", flush=True)


if __name__ == "__main__":
    assert stat.S_IMODE(os.stat(__file__).st_mode) & 0o022 == 0
    main()
