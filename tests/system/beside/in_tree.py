"""Runs in namespaces of its own: make a machine of a seed in an overlay of Debian's tree, by the agent or by
cloud-init, and print what it has become as JSON. Arguments: the side, the tree, a folder for the overlay,
the seed's folder, paths to compare.
"""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

#: The stages of a boot with cloud-init, without the one that runs the customer's programs.
STAGES = (["init", "--local"], ["init"], ["modules", "--mode", "config"])
MAC = "52:54:00:00:00:10"
#: All of /dev: nothing there leads to this host's disks.
DEVICES = ("full", "null", "random", "tty", "urandom", "zero")


def main(side: str, tree: str, base: str, seed: str, *look: str) -> None:
    """Configure the overlay and print it."""
    root = Path(base, "root")
    for name in ("root", "upper", "work"):
        Path(base, name).mkdir(parents=True)
    options = f"lowerdir={tree},upperdir={base}/upper,workdir={base}/work"
    sh("mount", "-t", "overlay", "overlay", "-o", options, root)
    # sysfs has the interfaces of the network namespace in which it is mounted.
    sh("ip", "link", "add", "net0", "address", MAC, "type", "veth", "peer", "name", "other")
    for kind, name in (("proc", "proc"), ("sysfs", "sys"), ("tmpfs", "run"), ("tmpfs", "dev")):
        sh("mount", "-t", kind, kind, root / name)
    for name in DEVICES:
        (root / "dev" / name).touch()
        sh("mount", "--bind", f"/dev/{name}", root / "dev" / name)
    said = agent(root, seed) if side == "agent" else cloud_init(root, seed)
    print(json.dumps({"said": said, **became(root, Path(tree), look)}))


def sh(*argv: object) -> str:
    """Return the output of a command that must succeed."""
    return subprocess.run([*map(str, argv)], check=True, text=True, capture_output=True).stdout


def agent(root: Path, seed: str) -> str:
    """Apply the seed by the agent; a failed item is part of the result, not of the test."""
    target = root / "var/tmp/seed"
    target.mkdir()
    copy(seed, target)
    (root / "etc/default/gandi").write_text("CONFIG_DEFAULT_USER=debian\n")
    return entered(root, "gandi-agent", "apply", "--root", "/", "--source", "/var/tmp/seed")


def cloud_init(root: Path, seed: str) -> str:
    """Run cloud-init's stages, and return its warnings."""
    target = root / "var/lib/cloud/seed/nocloud"
    target.mkdir(parents=True)
    copy(seed, target)
    said = "".join(entered(root, "cloud-init", *stage) for stage in STAGES)
    log = lines(root / "var/log/cloud-init.log")
    return said + "".join(f"{line}\n" for line in log if "WARNING" in line or "ERROR" in line)


def copy(seed: str, target: Path) -> None:
    """Copy the files of a seed."""
    for file in Path(seed).iterdir():
        (target / file.name).write_bytes(file.read_bytes())


def entered(root: Path, *argv: str) -> str:
    """Return what a program within the tree prints."""
    argv = ("chroot", str(root), *argv)
    done = subprocess.run(argv, text=True, capture_output=True, check=False, timeout=300)
    return done.stdout + done.stderr


def became(root: Path, tree: Path, look: tuple[str, ...]) -> dict[str, object]:
    """Return accounts, names, network files, and the files at the paths; of accounts and groups root and
    those that the tree has not.
    """
    shadow = dict(line.split(":", 1) for line in lines(root / "etc/shadow"))
    groups = {fields[0]: fields[3] for fields in (line.split(":") for line in lines(root / "etc/group"))}
    before = {line.split(":")[0] for line in lines(tree / "etc/passwd")} - {"root"}
    known = {line.split(":")[0] for line in lines(tree / "etc/group")}
    accounts = {}
    for line in lines(root / "etc/passwd"):
        name, _, uid, gid, gecos, home, shell = line.split(":")
        if name not in before:
            keys = root / home.lstrip("/") / ".ssh/authorized_keys"
            field, changed, *rest = shadow[name].split(":")
            accounts[name] = {
                "uid": uid if int(uid) >= 1000 and uid == "1777" else "system" if int(uid) < 1000 else "any",
                "group": gid if int(gid) < 1000 else "own",
                "gecos": gecos,
                "home": home,
                "has home": (root / home.lstrip("/")).is_dir(),
                "shell": shell,
                "groups": sorted(group for group, members in groups.items() if name in members.split(",")),
                "password": "locked" if field.startswith(("!", "*")) else field or "open",
                "must change it": changed == "0",
                "inactive": rest[3],
                "expires": rest[4],
                "keys": sorted(one.split("command=")[-1] for one in lines(keys) if not one.startswith("#")),
            }
    hosts = lines(root / "etc/hosts")
    looked = (path for name in look for path in below(root / name.lstrip("/")))
    return {
        "accounts": accounts,
        "groups": {name: members for name, members in groups.items() if name not in known | set(accounts)},
        "hostname": lines(root / "etc/hostname"),
        "hosts": sorted(" ".join(line.split()) for line in hosts if line.strip()[:1] not in "#"),
        "timezone": os.readlink(root / "etc/localtime").rpartition("zoneinfo/")[2],
        "network": {
            path.name: path.read_text() for path in sorted((root / "etc/systemd/network").glob("10-*"))
        },
        "files": {str(path.relative_to(root)): one(path) for path in looked},
    }


def lines(path: Path) -> list[str]:
    """Return the lines of a file, none if it is missing."""
    return path.read_text().splitlines() if path.exists() else []


def below(path: Path) -> list[Path]:
    """Return a file, or a folder's files and folders."""
    return [path, *sorted(path.rglob("*"))] if path.is_dir() else [path]


def one(path: Path) -> object:
    """Return mode, owner and content of a file; None if it is missing."""
    if not path.exists():
        return None
    info = path.stat()
    content = "" if path.is_dir() else path.read_text(errors="replace")
    return [oct(stat.S_IMODE(info.st_mode)), info.st_uid, info.st_gid, content]


if __name__ == "__main__":
    main(*sys.argv[1:])
