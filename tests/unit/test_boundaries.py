"""The package's walls: imports point one way, one module has effects, no room grows without bound."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "agent"
MODULES = sorted(PACKAGE.rglob("*.py"))
#: What leaves may not import: each other's folders, and what stands above them.
LEAVES = ("sources", "network", "steps", "hotplug", "disks")
ABOVE = ("agent.daemon", "agent.cli", "agent.stages", "agent.__main__")
LONGEST = 400


def _imports(tree: ast.AST) -> set[str]:
    """Absolute names that a module imports, wherever in it and for whatever reason."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
    return found


def _room(module: Path) -> str:
    inside = module.relative_to(PACKAGE)
    return inside.parts[0] if len(inside.parts) > 1 else ""


def _tree(module: Path) -> ast.Module:
    return ast.parse(module.read_text())


def _inside(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


@pytest.mark.parametrize("module", [m for m in MODULES if _room(m) in LEAVES], ids=lambda m: m.name)
def test_leaves_use_the_core_and_nothing_above_or_beside(module: Path) -> None:
    others = {f"agent.{room}" for room in LEAVES if room != _room(module)}
    if _room(module) == "steps":
        # A step is where a source's or a renderer's answer becomes an effect.
        others -= {"agent.sources", "agent.network"}
    if module.name == "nic.py":
        others -= {"agent.network"}  # and so is the handler of what renderers write about
    wrong = {n for n in _imports(_tree(module)) if any(_inside(n, banned) for banned in (*others, *ABOVE))}
    assert not wrong, f"{module.relative_to(PACKAGE)} imports {sorted(wrong)}"


@pytest.mark.parametrize("module", MODULES, ids=lambda m: str(m.relative_to(PACKAGE)))
def test_libraries_stay_in_their_room(module: Path) -> None:
    rooms = {
        "pydantic": ("reader/",),
        "pydantic_core": ("reader/",),
        "pyudev": ("udev/tag_filter.py",),
        "subprocess": ("host/commands.py",),
        "systemd": ("systemd/journal.py", "daemon/loop.py"),
    }
    inside = str(module.relative_to(PACKAGE))
    for library, allowed in rooms.items():
        used = any(_inside(name, library) for name in _imports(_tree(module)))
        assert not used or inside.startswith(allowed), f"{inside} imports {library}"


@pytest.mark.parametrize("module", MODULES, ids=lambda m: str(m.relative_to(PACKAGE)))
def test_what_is_for_host_alone_is_used_by_host_alone(module: Path) -> None:
    own = {f"agent.host.{name}" for name in ("commands", "atomic_write", "temporary_files")}
    used = own & _imports(_tree(module))
    allowed = {"host/host.py": own, "host/atomic_write.py": {"agent.host.temporary_files"}}
    assert used <= allowed.get(str(module.relative_to(PACKAGE)), set())


#: Who may change a name at all, in a descriptor that Host.place has led to.
WRITERS = tuple(
    f"host/{name}.py" for name in ("atomic_write", "untrusted_dir", "temporary_files", "descriptor_walk")
)
#: What changes a name, and the arguments that make it go by descriptor.
CHANGES: dict[str, tuple[str, ...]] = {}
CHANGES |= {name: ("dir_fd",) for name in ("mkdir", "rmdir", "unlink", "remove", "mkfifo", "mknod", "utime")}
CHANGES |= {name: ("src_dir_fd", "dst_dir_fd") for name in ("rename", "replace", "link")}
CHANGES |= {name: ("dir_fd",) for name in ("symlink", "chmod", "chown")}
#: There is no form of these that goes by descriptor.
NEVER = {"makedirs", "removedirs", "renames", "lchown", "lchmod", "truncate", "setxattr", "removexattr"}
NEVER |= {"mkfifoat", "chflags", "lchflags"}
ON_DESCRIPTORS = {"fchmod", "fchown"}
WRITING = {"O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC", "O_APPEND", "O_TMPFILE"}
#: Methods of pathlib's and tarfile's that change a name by its path. Host has a mkdir and a symlink too.
METHODS = {
    "write_text",
    "write_bytes",
    "touch",
    "rmdir",
    "chmod",
    "lchmod",
    "unlink",
    "rename",
    "symlink_to",
}
METHODS |= {"hardlink_to", "extract", "extractall", "mkdir", "symlink"}
LIBRARIES = {"shutil", "tempfile", "pathlib.Path"}


def _flags(node: ast.AST, known: dict[str, ast.expr]) -> set[str]:
    """Every O_ name in the flags of a call, also behind the module's constants; a variable by its name."""
    found = set[str]()
    for part in ast.walk(node):
        if isinstance(part, ast.Attribute) and part.attr.startswith("O_"):
            found.add(part.attr)
        elif isinstance(part, ast.Name) and part.id != "os":
            found |= _flags(known[part.id], known) if part.id in known else {part.id}
    return found


def _by_path(call: ast.Call, known: dict[str, ast.expr], *, is_writer: bool) -> str:
    """What is wrong with a call that may change a name; "" for nothing."""
    given = {keyword.arg for keyword in call.keywords}
    match call.func:
        case ast.Name("open") | ast.Attribute(value=ast.Name("io"), attr="open"):
            mode = call.args[1] if len(call.args) > 1 else None
            reads = mode is None or (isinstance(mode, ast.Constant) and set(str(mode.value)) <= set("rb"))
            if reads and "mode" not in given:
                return ""
            inner = call.args[0]
            is_ours = is_writer and isinstance(inner, ast.Call) and ast.unparse(inner.func) == "os.open"
            return "" if is_ours else "opens for writing"
        case ast.Attribute(value=ast.Name("os"), attr="open"):
            flags = _flags(call.args[1], known)
            if "dir_fd" in given:
                return "" if is_writer or not flags & WRITING else "opens for writing"
            return "opens a path for writing" if flags & WRITING or any(f.islower() for f in flags) else ""
        case ast.Attribute(value=ast.Name("os"), attr=name) if name in CHANGES:
            if not set(CHANGES[name]) <= given:
                return f"calls os.{name} by path"
            return "" if is_writer else f"calls os.{name}"
        case ast.Attribute(value=ast.Name("os"), attr=name) if name in NEVER:
            return f"calls os.{name}"
        case ast.Attribute(value=ast.Name("os"), attr=name) if name in ON_DESCRIPTORS:
            return "" if is_writer else f"calls os.{name}"
        case ast.Attribute(value=whose, attr="bind"):
            address = call.args[0]
            text = ast.unparse(address)
            by_descriptor = text.startswith("f'/proc/self/fd/{place.folder}/")
            return (
                ""
                if by_descriptor or isinstance(address, ast.Tuple)
                else f"{ast.unparse(whose)} binds a path"
            )
        case ast.Attribute(value=whose, attr=name) if name in METHODS:
            text = ast.unparse(whose)
            return "" if text.split(".")[-1] in ("host", "os") else f"calls {text}.{name}"
    return ""


def _wrong(source: str, *, is_writer: bool = False, is_host: bool = False) -> list[str]:
    """The writes of a module that do not go by descriptor, or are not its own to do, with their lines."""
    tree = ast.parse(source)
    known = {
        target.id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    found = [f"imports {name}" for name in sorted(LIBRARIES & _used(tree))]
    for node in ast.walk(tree):
        # Host.opened: what has a flag of these goes through Host.place.
        if not isinstance(node, ast.Call) or (is_host and ast.unparse(node).startswith(_OPENED)):
            continue
        if why := _by_path(node, known, is_writer=is_writer):
            found.append(f"{node.lineno} {why}")
    return found


#: The two calls of Host.opened: whose flags are its caller's.
_OPENED = ("os.open(place.name, flags, ", "os.open(path, flags & ~_BY_PLACE")


def _used(tree: ast.Module) -> set[str]:
    """What a module imports, but for the checker of types alone."""
    checked = [n for n in tree.body if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING"]
    return _imports(tree) - {name for node in checked for name in _imports(node)}


@pytest.mark.parametrize("module", MODULES, ids=lambda m: str(m.relative_to(PACKAGE)))
def test_every_write_goes_by_descriptor_and_through_host(module: Path) -> None:
    inside = str(module.relative_to(PACKAGE))
    wrong = _wrong(module.read_text(), is_writer=inside in WRITERS, is_host=inside == "host/host.py")
    assert not wrong, f"{inside}: {wrong}"


@pytest.mark.parametrize(
    "line",
    [
        "open(name, 'w')",
        "open(name, mode)",
        "open(name, mode='ab')",
        "os.open(name, os.O_WRONLY | os.O_CREAT)",
        "os.open(name, flags)",
        "os.open(name, FLAGS)",
        "os.mkdir(name)",
        "os.replace(one, other, src_dir_fd=folder)",
        "os.chown(name, 0, 0, follow_symlinks=False)",
        "os.truncate(name, 0)",
        "os.setxattr(name, 'user.x', b'')",
        "Path(name).write_text('')",
        "path.unlink()",
        "Path(name).mkdir()",
        "tar.extractall(name)",
        "made.bind(name)",
        "import shutil",
    ],
)
def test_a_write_by_path_would_be_seen(line: str) -> None:
    assert _wrong(f"import os\nFLAGS = os.O_RDWR\n{line}\n", is_writer=True)


@pytest.mark.parametrize(
    "line",
    [
        "open(name)",
        "open(name, 'rb')",
        "os.open(name, os.O_RDONLY)",
        "host.mkdir(name)",
        "made.bind((0, 1))",
    ],
)
def test_what_writes_nothing_is_let_pass(line: str) -> None:
    assert not _wrong(f"import os\n{line}\n")


@pytest.mark.parametrize("module", MODULES, ids=lambda m: str(m.relative_to(PACKAGE)))
def test_no_file_over_four_hundred_lines(module: Path) -> None:
    assert len(module.read_text().splitlines()) <= LONGEST


PROGRAM = PACKAGE.parent / "bin/gandi-agent"


@pytest.mark.parametrize("module", [*MODULES, PROGRAM], ids=lambda m: m.name)
def test_only_the_terminal_prints(module: Path) -> None:
    """What others wrote is made harmless in one place; the reader's answer is for its parent."""
    if module in (PACKAGE / "host/terminal.py", PACKAGE / "reader/child.py"):
        return
    printers = {"print", "input", "sys.stdout", "sys.stderr", "sys.__stdout__", "sys.__stderr__"}
    for node in ast.walk(_tree(module)):
        if isinstance(node, ast.Name | ast.Attribute):
            assert ast.unparse(node) not in printers, f"{module.name}:{node.lineno} writes to a terminal"
    assert not {"logging", "warnings", "syslog", "pprint", "sys.stdout"} & _imports(_tree(module))


def test_what_is_printed_as_json_is_ascii() -> None:
    for module in MODULES:
        for node in ast.walk(_tree(module)):
            if isinstance(node, ast.keyword) and node.arg == "ensure_ascii":
                # What is hashed and stored, and the reader's answer to its parent: never printed.
                assert module.name in ("canonical_json.py", "child.py"), module


def test_only_main_exits() -> None:
    for module in MODULES:
        if module.name in ("__main__.py", "child.py", "client.py"):  # a fork ends as the reader that it is
            continue
        called = {ast.unparse(n.func) for n in ast.walk(_tree(module)) if isinstance(n, ast.Call)}
        assert not called & {"sys.exit", "exit", "os._exit"}, module
