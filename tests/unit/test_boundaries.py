"""The boundaries in agent/: imports point one way, one module has effects, and files have a largest size."""

from __future__ import annotations

import ast
import functools
import importlib
import re
import subprocess
import sys
from collections.abc import Set
from pathlib import Path

import pytest

from tests.unit.modules import MODULES, PACKAGE, inside, tree

#: The packages and the modules beside them, from the lowest: each imports only from itself and those before.
LAYERS = (
    "lib",
    "host",
    "config",
    "report",
    "systemd",
    "udev",
    "block",
    "state",
    "reader.common",
    "reader.formats",
    "reader.dialects",
    "reader",
    "context",
    "accounts",
    "programs",
    "network",
    "sources",
    "image",
    "hotplug",
    "disks.base",
    "disks.usage",
    "disks.growth",
    "disks.offline",
    "disks",
    "metrics",
    "steps",
    "stages",
    "restored",
    "reporting",
    "daemon",
    "timeline",
    "cli",
    "__main__",
)
#: Modules beside the packages.
FREE = ("__init__", "__main__", "context", "report", "stages")
LONGEST = 400


def _imports(part: ast.AST) -> set[str]:
    """Return the absolute names that a module, or a part of it, imports anywhere, also for type checking."""
    found = set[str]()
    for node in ast.walk(part):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
    return found


@functools.cache
def _imported(module: Path) -> frozenset[str]:
    """Return the absolute names that a module of the package imports anywhere."""
    return frozenset(_imports(tree(module)))


def _inside(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


# -- layers ---------------------------------------------------------------------------------------

#: A module that is named by a string, and a name in it.
PLACE = re.compile(r"(agent(?:\.\w+)+)(?::(\w+))?")


def _name(module: Path) -> str:
    """Return the module's dotted name; for an ``__init__``, the package's."""
    return ".".join(("agent", *module.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")


NAMES = {_name(module): module for module in MODULES}


def _layer(name: str) -> str:
    """Return the package of a module, or its own name if it is beside them; "" for agent itself."""
    inside = name.split(".")[1:]
    is_room = name in NAMES and NAMES[name].name == "__init__.py"
    return ".".join(inside if is_room or len(inside) == 1 else inside[:-1])


def _places(tree: ast.AST) -> set[tuple[str, str]]:
    """Return the modules of agent that a module names by a string, each with the name in it."""
    texts = (n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str))
    return {(found[1], found[2] or "") for text in texts if (found := PLACE.fullmatch(text))}


def _uses(tree: ast.Module) -> set[str]:
    """Return the modules of agent that a module needs at run time: imported anywhere in it, or named."""
    names = _used(tree) | {module for module, _ in _places(tree)}
    return {name for name in names if name in NAMES and name != "agent"}


def _upward(name: str, uses: Set[str]) -> list[str]:
    """Return those of the used modules that are above the module."""
    own = LAYERS.index(_layer(name))
    return sorted(used for used in uses if LAYERS.index(_layer(used)) > own)


def test_no_arrow_points_back_up() -> None:
    names = [name for name in NAMES if name != "agent"]
    homeless = [name for name in names if _layer(name) not in LAYERS]
    assert not homeless, "in no layer: add it to LAYERS and docs/architecture.md"
    upward = {name: _upward(name, _uses(tree(NAMES[name]))) for name in names}
    assert not {name: above for name, above in upward.items() if above}, (
        "it imports modules above it in LAYERS"
    )
    # For type checking, a step's context may be named below it too, and nothing else.
    seen = {name: _upward(name, _imported(NAMES[name]) & set(NAMES) - {"agent"}) for name in names}
    assert not {name: above for name, above in seen.items() if not set(above) <= {"agent.context"}}


def test_an_arrow_back_up_would_be_seen() -> None:
    late = ast.parse("def f():\n    from agent.daemon import loop\n")
    assert _upward("agent.steps.swap", _uses(late)) == ["agent.daemon", "agent.daemon.loop"]
    named = ast.parse("PLACE = 'agent.steps.swap:apply'")
    assert _upward("agent.disks.handler", _uses(named)) == ["agent.steps.swap"]
    assert not _upward("agent.steps.swap", _uses(ast.parse("from agent.block import blank")))
    # Imported at run time, and again for types.
    both = "from agent.daemon import loop\nif TYPE_CHECKING:\n    from agent.daemon.loop import Loop\n"
    assert "agent.daemon.loop" in _upward("agent.steps.swap", _uses(ast.parse(both)))


def _circles(arrows: dict[str, set[str]]) -> list[list[str]]:
    """Return the groups of modules that need each other, directly or through others."""
    reach = {name: set(uses) for name, uses in arrows.items()}
    for middle in reach:
        for uses in reach.values():
            if middle in uses:
                uses |= reach[middle]
    knots = {frozenset(o for o in reach[name] if name in reach[o]) for name in reach if name in reach[name]}
    return sorted(map(sorted, knots))


def test_no_modules_need_each_other() -> None:
    # A package's __init__ is loaded before any module in it: that is not an import by the module.
    arrows = {name: _uses(tree(module)) - {name} for name, module in NAMES.items()}
    circles = _circles({name: {u for u in uses if not _inside(name, u)} for name, uses in arrows.items()})
    assert not circles, f"import each other: {'; '.join(map(', '.join, circles))}"


def test_a_circle_would_be_seen() -> None:
    assert _circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]
    assert _circles({"a": {"b"}, "b": {"c"}, "c": set(), "d": {"a"}}) == []


def test_every_room_is_in_use_and_has_more_than_one_module() -> None:
    rooms: dict[str, int] = {}
    for name, module in NAMES.items():
        if module.name != "__init__.py":
            rooms[_layer(name)] = rooms.get(_layer(name), 0) + 1
    single = {room for room, modules in rooms.items() if modules == 1}
    assert single == set(FREE) - {"__init__"}, "a package needs more than one module"
    assert set(rooms) == set(LAYERS)


def test_each_place_that_a_string_names_is_there() -> None:
    named = {place for module in MODULES for place in _places(tree(module))}
    assert any(what for _, what in named)
    for module, what in named:
        assert module in NAMES, module
        assert not what or callable(getattr(importlib.import_module(module), what))


def test_docs_name_every_room() -> None:
    """The table of docs/architecture.md has a row for each, from the lowest."""
    page = (PACKAGE.parent / "docs/architecture.md").read_text()
    rows = re.findall(r"^\| `agent/([\w/]+?)(?:/|\.py)` \|", page, re.MULTILINE)
    assert tuple(row.replace("/", ".") for row in rows) == LAYERS


def test_libraries_stay_in_their_room() -> None:
    rooms = {
        "pydantic": ("reader/",),
        "pydantic_core": ("reader/",),
        "pyudev": ("udev/tag_filter.py",),
        "subprocess": (),
        "systemd": ("systemd/journal.py", "daemon/control_socket.py"),
    }
    wrong = [
        f"{inside(module)} imports {library}"
        for module in MODULES
        for library, allowed in rooms.items()
        if any(_inside(name, library) for name in _imported(module))
        and not inside(module).startswith(allowed)
    ]
    assert not wrong


def test_delivered_bytes_are_parsed_in_the_reader_alone() -> None:
    """Parsers are imported there only, not in a process with privileges."""
    parsers = {used for used in NAMES if used.startswith(("agent.reader.formats", "agent.reader.dialects."))}
    parsers |= {"agent.reader.swap_disk"}
    others = [name for name in NAMES if not _inside(name, "agent.reader")]
    wrong = [f"{name} imports {used}" for name in others for used in _imported(NAMES[name]) & parsers]
    assert not wrong


def test_a_boot_does_not_import_what_edits_account_files() -> None:
    """Only ``changes`` imports it, in the function that asks first whether programs are run."""
    own = {"agent.accounts.file_changes", "agent.accounts.account_files", "agent.accounts.hashing"}
    own |= {"agent.host.lock_files"}
    others = {name for name in NAMES if name not in own and own & _uses(tree(NAMES[name]))}
    assert others == {"agent.accounts.changes"}
    top = [node for node in tree(NAMES["agent.accounts.changes"]).body if isinstance(node, ast.ImportFrom)]
    assert not own & {str(node.module) for node in top}


#: Prints what is imported by the daemon and by each step of a boot that needs nothing of its document.
BOOT = """
import importlib, sys
import agent.__main__, agent.daemon.loop
from agent.stages import STAGES
for step in (step for stage in STAGES.values() for step in stage if not step.config_field):
    importlib.import_module(step.entry_point.partition(":")[0])
print(*sys.modules)
"""


def test_a_boot_compiles_no_expression_before_it_is_used() -> None:
    """A module with one that a machine never needs would cost each first boot up to 1 M instructions."""
    argv = (sys.executable, "-c", BOOT)
    done = subprocess.run(argv, cwd=PACKAGE.parent, capture_output=True, text=True, check=True)
    imported = [NAMES[name] for name in done.stdout.split() if name in NAMES]
    assert len(imported) > 80
    compiled = [
        f"{inside(module)}:{node.lineno}"
        for module in imported
        for node in tree(module).body
        if isinstance(node, ast.Assign) and "re.compile(" in ast.unparse(node.value)
    ]
    assert compiled == []


def test_what_is_for_host_alone_is_used_by_host_alone() -> None:
    own = {f"agent.host.{name}" for name in ("commands", "atomic_write")}
    # captive: a program that runs beside others, until its block has ended.
    allowed = {"host/host.py": own, "host/captive.py": {"agent.host.commands"}}
    used = {inside(module): own & _imported(module) for module in MODULES}
    assert not {name: which for name, which in used.items() if not which <= allowed.get(name, set())}


#: The modules that may change a name, in a descriptor that Host.place returned.
WRITERS = tuple(
    f"host/{name}.py" for name in ("atomic_write", "untrusted_dir", "descriptor_walk", "lock_files")
)
#: Functions that change a name, and the arguments by which they do so by descriptor.
CHANGES: dict[str, tuple[str, ...]] = {}
CHANGES |= {name: ("dir_fd",) for name in ("mkdir", "rmdir", "unlink", "remove", "mkfifo", "mknod", "utime")}
CHANGES |= {name: ("src_dir_fd", "dst_dir_fd") for name in ("rename", "replace", "link")}
CHANGES |= {name: ("dir_fd",) for name in ("symlink", "chmod", "chown")}
#: Functions that cannot work by descriptor.
NEVER = {"makedirs", "removedirs", "renames", "lchown", "lchmod", "truncate", "setxattr", "removexattr"}
NEVER |= {"mkfifoat", "chflags", "lchflags"}
ON_DESCRIPTORS = {"fchmod", "fchown"}
WRITING = {"O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC", "O_APPEND", "O_TMPFILE"}
#: Methods of pathlib and tarfile that change a name by its path. Host has a mkdir and a symlink too.
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
    """Return every O_ name in a call's flags, also in the module's constants; a variable by its name."""
    found = set[str]()
    for part in ast.walk(node):
        if isinstance(part, ast.Attribute) and part.attr.startswith("O_"):
            found.add(part.attr)
        elif isinstance(part, ast.Name) and part.id != "os":
            found |= _flags(known[part.id], known) if part.id in known else {part.id}
    return found


def _by_path(call: ast.Call, known: dict[str, ast.expr], *, is_writer: bool) -> str:
    """Return what is wrong with a call that may change a name; "" for nothing."""
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


def _wrong(module: ast.Module, *, is_writer: bool = False, is_host: bool = False) -> list[str]:
    """Return the writes of a module, with lines, that are not by descriptor or that it must not do."""
    known = {
        target.id: node.value
        for node in module.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    found = [f"imports {name}" for name in sorted(LIBRARIES & _used(module))]
    for node in ast.walk(module):
        # Host.opened: with one of these flags, it goes through Host.place.
        if not isinstance(node, ast.Call) or (is_host and ast.unparse(node).startswith(_OPENED)):
            continue
        if why := _by_path(node, known, is_writer=is_writer):
            found.append(f"{node.lineno} {why}")
    return found


#: The two calls of Host.opened: their flags are its caller's.
_OPENED = ("os.open(place.name, flags, ", "os.open(path, flags & ~_BY_PLACE")


@functools.cache
def _used(module: ast.Module) -> frozenset[str]:
    """Return what a module imports, except for type checking."""
    checked = [n for n in module.body if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING"]
    return frozenset(name for node in module.body if node not in checked for name in _imports(node))


def test_every_write_goes_by_descriptor_and_through_host() -> None:
    found = {
        name: _wrong(tree(module), is_writer=name in WRITERS, is_host=name == "host/host.py")
        for module in MODULES
        if (name := inside(module))
    }
    # The type of --root, which becomes a Host's root: nothing is written by it.
    allowed = {"cli/arguments.py": ["imports pathlib.Path"]}
    assert {name: wrong for name, wrong in found.items() if wrong} == allowed


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
    assert _wrong(ast.parse(f"import os\nFLAGS = os.O_RDWR\n{line}\n"), is_writer=True)


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
    assert not _wrong(ast.parse(f"import os\n{line}\n"))


def test_no_file_over_four_hundred_lines() -> None:
    lines = {inside(module): len(module.read_text().splitlines()) for module in MODULES}
    assert not {name: count for name, count in lines.items() if count > LONGEST}


PROGRAM = PACKAGE.parent / "bin/gandi-agent"


def test_only_the_terminal_prints() -> None:
    """Untrusted text is escaped in one module; the reader's answer is for its parent."""
    printers = {"print", "input", "sys.stdout", "sys.stderr", "sys.__stdout__", "sys.__stderr__"}
    libraries = {"logging", "warnings", "syslog", "pprint", "sys.stdout"}
    wrong = []
    for module in {*MODULES, PROGRAM} - {PACKAGE / "host/terminal.py", PACKAGE / "reader/child.py"}:
        for node in ast.walk(tree(module)):
            if isinstance(node, ast.Name | ast.Attribute) and ast.unparse(node) in printers:
                wrong.append(f"{module}:{node.lineno} writes to a terminal")
        wrong += [f"{module} imports {name}" for name in libraries & _imported(module)]
    assert not wrong


def test_what_is_printed_as_json_is_ascii() -> None:
    for module in MODULES:
        for node in ast.walk(tree(module)):
            if isinstance(node, ast.keyword) and node.arg == "ensure_ascii":
                # What is hashed and stored, and the reader's answer to its parent: never printed.
                assert module.name in ("canonical_json.py", "child.py"), module


def test_only_main_exits() -> None:
    for module in MODULES:
        # A fork ends as the reader, the guard or what maps the ids of a namespace.
        if module.name in ("__main__.py", "child.py", "client.py", "guard.py", "user_namespace.py"):
            continue
        called = {ast.unparse(n.func) for n in ast.walk(tree(module)) if isinstance(n, ast.Call)}
        assert not called & {"sys.exit", "exit", "os._exit"}, module


def test_a_unit_test_needs_neither_root_nor_guest() -> None:
    """Also not by what it imports: in the guest's tree they run without the packages of the rig. The soak's
    test, which is about guests, is not run there.
    """
    root = PACKAGE.parent
    waiting = [module for module in (root / "tests/unit").rglob("*.py") if module.name != "test_soak.py"]
    seen = set(waiting)
    while waiting:
        module = waiting.pop()
        for name in _imports(ast.parse(module.read_text())):
            why = f"{module.relative_to(root)} imports {name}"
            assert not any(_inside(name, other) for other in ("tests.vm", "tests.system", "tests.soak")), why
            file = root / f"{name.replace('.', '/')}.py"
            if _inside(name, "tests") and file.exists() and file not in seen:
                seen.add(file)
                waiting.append(file)
