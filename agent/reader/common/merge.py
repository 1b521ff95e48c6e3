"""Merge the documents of a drive into one configuration: the first value for anything is kept.

So a dialect adds the document with the highest precedence first: a reset password, then user data, then the
drive's metadata, then vendor data.
"""

from __future__ import annotations

from enum import StrEnum

from agent.config.model import (
    PER_INSTANCE,
    AccountOptions,
    File,
    Group,
    Identity,
    InstanceConfig,
    User,
    merge_parts,
    program,
)
from agent.lib import public_key
from agent.lib.digest import sha256
from agent.lib.records import replace
from agent.lib.text import is_text
from agent.reader.common import fields, password_hashes, values
from agent.reader.common.problem import ERROR, HARMLESS, UNSUPPORTED, Problem, bounded, shown
from agent.reader.common.result import Reading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.config.model import Naming, Script, Sshd
    from agent.config.nics import Nic
    from agent.config.system import System

#: Stands for the account of CONFIG_DEFAULT_USER, which documents do not name.
DEFAULT = ""
#: The name under which user data is stored unchanged.
USER_DATA = "user-data"
#: The kinds of programs for the end of the boot, in their order, which is cloud-init's; those of a kind run
#: in the order of their files' names. Programs that have neither run where cloud-init runs runcmd.
KINDS = ("per-once", "per-boot", "per-instance", "script")
_RUNCMD = (KINDS.index("script"), "runcmd")
#: Maximum bytes of all stored content: in base64 it fits into the answer that the parser client accepts.
KEPT = 10 << 20
#: Maximum programs and files in all.
ITEMS = 1000
#: Maximum characters of all public keys.
KEYS = 2 << 20
#: Maximum accounts, and maximum groups.
USERS = GROUPS = 256
#: Maximum characters of a password (PAM_MAX_RESP_SIZE).
_PASSWORD = 512
#: Maximum items of metadata, and maximum characters of each.
_METADATA, _METADATA_TEXT = 500, 8 << 10


class PasswordForm(StrEnum):
    """How a document writes a password."""

    HASH = "hash"
    PLAIN = "plain"
    EITHER = "either"


class Draft:
    """The configuration collected so far, and its problems."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.id = ""
        self.hostname = ""
        self.timezone = ""
        self.counter: int | None = None
        self.naming: Naming | None = None
        self.sshd: Sshd | None = None
        #: The name of the account that stands for CONFIG_DEFAULT_USER, if a document names it.
        self.default_user = ""
        #: Whether keys that the platform adds to the documents' own are wanted.
        self.platform_keys = True
        self.system: System | None = None
        #: The user data say that the vendor data are not to be used.
        self.ignores_vendor_data = False
        self.nics: tuple[Nic, ...] = ()
        self.network_disabled = False
        self.nameservers: list[str] = []
        self.search: list[str] = []
        self.problems: list[Problem] = []
        self.metadata: dict[str, str] = {}
        self.secrets: dict[str, str] = {}
        #: The number of plain passwords, unused ones included: a document with one is not stored.
        self.plain = 0
        self.kept: dict[str, bytes] = {}
        self._size = 0
        self._keys_size = 0
        self._users: dict[str, User] = {}
        self._scripts: list[tuple[tuple[int, str], Script]] = []
        self._boot: list[Script] = []
        #: By path, and whether they are written at the boot's end.
        self._files: dict[tuple[str, bool], File] = {}
        self._is_default_user_lost = False
        #: For each account that a document describes, the document's name.
        self._described: dict[str, str] = {}
        self._groups: dict[str, Group] = {}

    def reading(self) -> Reading:
        """Return the configuration with its files, problems and passwords."""
        self._name_default_user()
        config = InstanceConfig(
            identity=Identity(self.source, self.id),
            hostname=self.hostname or None,
            nameservers=tuple(dict.fromkeys(self.nameservers)),
            nics=self.nics,
            users=tuple(self._users.values()),
            scripts=tuple(script for _, script in sorted(self._scripts, key=lambda one: one[0])),
            boot=tuple(self._boot),
            files=tuple(file for (_, is_late), file in self._files.items() if not is_late),
            deferred=tuple(file for (_, is_late), file in self._files.items() if is_late),
            groups=tuple(self._groups.values()),
            naming=self.naming,
            sshd=self.sshd,
            search=tuple(dict.fromkeys(self.search)),
            metadata=tuple(sorted(self.metadata.items())),
            timezone=self.timezone or None,
            system=self.system,
            partial=any(problem.is_error for problem in self.problems),
            network_disabled=self.network_disabled,
            counter=self.counter,
        )
        problems = [*self.problems, *password_hashes.weak(config.users)]
        return Reading(config, self.kept, bounded(problems), self.secrets)

    def add_problem(self, path: str, message: str, hint: str = "", *, severity: str = ERROR) -> None:
        """Add one problem."""
        self.problems.append(Problem(path, message, hint, severity))

    def add_refused(self, path: str, error: ValueError, *, lost: str = "left out") -> None:
        """Add the problem of a value that its reader refused; ``lost`` says what that costs, "" only the
        value.
        """
        what, _, hint = str(error).partition("; ")
        self.add_problem(path, f"{what}: {lost}" if lost else what, hint)

    def add_problems(self, document: str, problems: Iterable[Problem]) -> None:
        """Add the problems of a document, each path prefixed with its name."""
        self.problems.extend(replace(problem, path=f"{document}: {problem.path}") for problem in problems)

    def add_user(self, user: User, secret: str = "") -> None:
        """Add an account; ``secret`` is its plain password. To a known one, add only what it lacks."""
        known = self._users.get(user.name)
        # The default account is not counted among the named ones.
        if known is None and user.name != DEFAULT and len(self._users.keys() - {DEFAULT}) >= USERS:
            self.add_problem("the accounts", f"more than {USERS}: the others are left out", "deliver fewer")
            self.plain += bool(secret)
            return
        has_password = user.name in self.secrets or bool(known and (known.password or known.sealed))
        self.plain += bool(secret)
        if secret and not has_password:
            self.secrets[user.name] = secret
        if known is None:
            self._users[user.name] = user
            return
        self._users[user.name] = replace(
            known,
            password=known.password or (None if has_password else user.password),
            sealed=known.sealed or ("" if has_password else user.sealed),
            keys=_keys(known.keys, user.keys),
            admin=known.admin or user.admin,
            groups=_merged(known.groups, user.groups),
            shell=known.shell or user.shell,
            sudo=known.sudo or user.sudo,
            options=merge_parts(known.options, user.options),
            # A later document does not lock an account that has a password.
            locked=known.locked and not (user.password or secret or user.sealed),
        )

    def described_by(self, account: str, document: str) -> str:
        """Return the name of the other document that describes an account, "" if it is this one."""
        other = self._described.setdefault(account, document)
        return other if other != document else ""

    def _name_default_user(self) -> None:
        """Give the default account the name that a document has for it."""
        if (self.default_user or self._is_default_user_lost) and DEFAULT in self._users:
            user, secret = self._users.pop(DEFAULT), self.secrets.pop(DEFAULT, "")
            if self.default_user:
                self.add_user(replace(user, name=self.default_user, admin=True), secret)

    def lose_default_user(self) -> None:
        """Leave out what would go to the default account: the document's own one cannot be made."""
        self._is_default_user_lost = True

    def add_password(
        self,
        name: str,
        written: str,
        path: str,
        *,
        form: PasswordForm = PasswordForm.EITHER,
        expire: bool = False,
    ) -> None:
        """Add an account's password, a crypt(3) hash, a lock (``!`` or ``*``) or plain text: by ``form``, or
        else by its first characters. An invalid value that begins like a hash is a problem, never a plain
        password. With ``expire`` it must be changed at the first login.
        """
        if not self.is_valid_password(written, path):
            return
        known = self._users.get(name)
        is_first = name not in self.secrets and not (known and known.password)
        options = AccountOptions(expire_password=True) if expire and is_first else None
        is_plain = not (password_hashes.is_meant(written) or password_hashes.is_lock(written))
        if form is PasswordForm.PLAIN or (form is PasswordForm.EITHER and is_plain):
            self.add_user(User(name, options=options), written)
            return
        try:
            hashed, locked = password_hashes.shadow_field(written)
        except ValueError as error:
            self.add_refused(path, error, lost="")
        else:
            if hashed is None:
                options = AccountOptions(lock=written)
            self.add_user(User(name, password=hashed, locked=locked, options=options))
            known = self._users[name]
            if locked and known.password is None and name not in self.secrets:
                self._users[name] = replace(known, locked=True)

    def is_valid_password(self, secret: str, path: str) -> bool:
        """Return whether plain text can be a password, or add a problem: chpasswd(8) reads one line per
        account.
        """
        if set(secret) & set("\r\n\0") or len(secret) > _PASSWORD or not is_text(secret):
            self.add_problem(
                path, "not one line of text", f"write at most {_PASSWORD} characters, no line break"
            )
            return False
        return True

    def add_keys(self, name: str, lines: Iterable[object], path: str, *, is_document: bool = False) -> None:
        """Add public keys of an account, each once; a problem names the line of an invalid one. Those that
        no cloud-config (``is_document``) has may be unwanted.
        """
        if not (self.platform_keys or is_document):
            what = "the platform's keys are left out: allow_public_ssh_keys is false"
            self.add_problem(path, what, severity=HARMLESS)
            return
        found, wrong = fields.keys(list(lines))
        for number, what, hint in wrong:
            self.add_problem(f"{path} line {number}", what, hint)
        self._name_other_options(name, found, path)
        self._keys_size += sum(map(len, found.values()))
        if self._keys_size > KEYS:
            self.add_problem(
                path, f"more than {KEYS} characters, with all keys before: left out", "deliver fewer keys"
            )
        elif found:
            self.add_user(User(name, keys=tuple(found.values())))

    def _name_other_options(self, name: str, found: dict[str, str], path: str) -> None:
        """Add a problem for each key that the account has already with other options."""
        user = self._users.get(name)
        for line in user.keys if user else ():
            other = found.get(fields.key(line)[0], line)
            if public_key.options(other) != public_key.options(line):
                what = "a key appears again with other options: the first line that has some is used"
                self.add_problem(path, what, "write it once", severity=UNSUPPORTED)

    def add_program(
        self,
        name: str,
        content: bytes,
        path: str,
        *,
        arguments: tuple[str, ...] = (),
        boot: bool = False,
        frequency: str = PER_INSTANCE,
        order: tuple[int, str] = _RUNCMD,
    ) -> None:
        """Add a program: run at the end of the boot, as often as ``frequency`` says and in the order of
        (index of KINDS, name of its file), or with ``boot`` early at each boot.
        """
        if not self._has_room(content, path):
            return
        stored = self._unused_name(name)
        self.store_content(stored, content, path)
        made = program(stored, content, arguments, frequency)
        if boot:
            self._boot.append(made)
        else:
            self._scripts.append((order, made))

    def add_group(self, group: Group, path: str) -> None:
        """Add a group; to a known one, add members."""
        if len(self._groups) >= GROUPS and group.name not in self._groups:
            self.add_problem(path, f"more than {GROUPS} groups: the others are left out", "deliver fewer")
            return
        known = self._groups.get(group.name, group)
        self._groups[group.name] = replace(group, members=_merged(known.members, group.members))

    def add_file(self, file: File, content: bytes, path: str, *, deferred: bool = False) -> bool:
        """Add a file to write, with ``deferred`` at the boot's end; its name and digest are set here. Return
        whether it was added.
        """
        place = file.path, deferred
        known = self._files.get(place)
        if not file.append and (known or (file.path, not deferred) in self._files):
            what = "the file appears twice; the first is used"
            self.add_problem(path, what, "write it once", severity=HARMLESS)
            return False
        if known and known.sealed:
            what = "its content is for the end of a sealed file: left out"
            self.add_problem(path, what, "put it into the sealed content")
            return False
        has_room = self._has_room(content, path)
        if has_room:
            if known:
                before = self.kept.pop(known.name)
                self._size -= len(before)
                file, content = appended(known, file), before + content
            name = self._unused_name(f"file-{sha256(file.path.encode()).hexdigest()[:12]}")
            self.store_content(name, content, path)
            self._files[place] = replace(file, name=name, digest=sha256(content).hexdigest())
        return has_room

    def store_content(self, name: str, content: bytes, path: str) -> None:
        """Store content under a name; if that is too much in all, add a problem instead."""
        if self._has_room(content, path):
            self._size += len(content)
            self.kept[name] = content

    def _has_room(self, content: bytes, path: str) -> bool:
        if self._size + len(content) > KEPT or len(self.kept) >= ITEMS:
            what = f"more than {KEPT} bytes, or {ITEMS} items, with all before it: left out"
            self.add_problem(path, what, "deliver less")
            return False
        return True

    def add_metadata(self, name: str, value: object) -> None:
        """Add an item of metadata for ``gandi-agent get``; only text and numbers are kept."""
        if isinstance(value, str | int | float) and len(self.metadata) < _METADATA:
            try:
                written = values.word(value)[:_METADATA_TEXT]
                self.metadata.setdefault(shown(fields.text(name)), written)
            except ValueError:
                what = "text that is not UTF-8: left out"
                self.add_problem("the metadata", what, "write it as UTF-8", severity=HARMLESS)

    def _unused_name(self, name: str) -> str:
        taken = {*self.kept, USER_DATA}
        if name not in taken:
            return name
        return next(free for n in range(2, 1 << 20) if (free := f"{name}-{n}") not in taken)


def appended(file: File, more: File) -> File:
    """Return a file to which another one's content is appended; with the owner and mode that this gives."""
    return replace(
        file,
        owner=more.owner if more.sets_owner else file.owner,
        group=more.group if more.sets_owner else file.group,
        mode=more.mode if more.sets_mode else file.mode,
        sets_owner=file.append and (file.sets_owner or more.sets_owner),
        sets_mode=file.append and (file.sets_mode or more.sets_mode),
    )


def _keys(first: tuple[str, ...], more: tuple[str, ...]) -> tuple[str, ...]:
    """Return each key once: in its first line, unless only another one restricts it."""
    found = {fields.key(line)[0]: line for line in more}
    for line in first:
        name = fields.key(line)[0]
        found[name] = fields.narrower(line, found.get(name, line))
    return tuple(found.values())


def _merged(first: tuple[str, ...], more: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*first, *more)))
