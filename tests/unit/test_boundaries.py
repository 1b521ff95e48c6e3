"""The package's walls: imports point one way, one module has effects, no room grows without bound."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "agent"
MODULES = sorted(PACKAGE.rglob("*.py"))
#: What leaves may not import: each other's folders, and what stands above them.
LEAVES = ("sources", "network", "steps", "hotplug")
ABOVE = ("agent.daemon", "agent.stages", "agent.control", "agent.__main__")
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
        "pydantic": ("parse/",),
        "pydantic_core": ("parse/",),
        "pyudev": ("tagfilter.py",),
        "subprocess": ("command.py",),
        "systemd": ("journal.py", "daemon.py"),
    }
    inside = str(module.relative_to(PACKAGE))
    for library, allowed in rooms.items():
        used = any(_inside(name, library) for name in _imports(_tree(module)))
        assert not used or inside.startswith(allowed), f"{inside} imports {library}"


@pytest.mark.parametrize("module", MODULES, ids=lambda m: str(m.relative_to(PACKAGE)))
def test_what_is_for_host_alone_is_used_by_host_alone(module: Path) -> None:
    used = {"agent.command", "agent.atomic"} & _imports(_tree(module))
    assert not used or module == PACKAGE / "host.py"


@pytest.mark.parametrize(
    "module",
    [m for m in MODULES if m.name not in ("host.py", "atomic.py", "homefile.py")],
    ids=lambda m: str(m.relative_to(PACKAGE)),
)
def test_only_host_opens_a_file_for_writing(module: Path) -> None:
    writers = {"write_text", "write_bytes", "mkdir", "makedirs", "unlink", "rename", "touch", "symlink"}
    writers |= {"rmtree", "chmod", "chown", "fchmod", "fchown", "rmdir", "truncate", "replace"}
    for node in ast.walk(_tree(module)):
        if not isinstance(node, ast.Call):
            continue
        match node.func:
            case ast.Name("open"):
                mode = node.args[1] if len(node.args) > 1 else None
                ok = mode is None or (isinstance(mode, ast.Constant) and set(str(mode.value)) <= set("rb"))
                assert ok, f"{module.name}:{node.lineno} opens for writing"
            case ast.Attribute(value=ast.Name("os" | "shutil"), attr=attribute):
                assert attribute not in writers, f"{module.name}:{node.lineno} calls {attribute}"
            case ast.Attribute(attr="write_text" | "write_bytes" | "touch" | "rmdir" | "chmod" as attribute):
                pytest.fail(f"{module.name}:{node.lineno} calls {attribute}")


@pytest.mark.parametrize("module", MODULES, ids=lambda m: str(m.relative_to(PACKAGE)))
def test_no_file_over_four_hundred_lines(module: Path) -> None:
    assert len(module.read_text().splitlines()) <= LONGEST


PROGRAM = PACKAGE.parent / "bin/gandi-agent"


@pytest.mark.parametrize("module", [*MODULES, PROGRAM], ids=lambda m: m.name)
def test_only_the_terminal_prints(module: Path) -> None:
    """What others wrote is made harmless in one place; the reader's answer is for its parent."""
    if module in (PACKAGE / "terminal.py", PACKAGE / "parse/child.py"):
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
                assert module.name == "canonical.py", "what is hashed and stored, never printed"


def test_only_main_exits() -> None:
    for module in MODULES:
        if module.name == "__main__.py":
            continue
        called = {ast.unparse(n.func) for n in ast.walk(_tree(module)) if isinstance(n, ast.Call)}
        assert not called & {"sys.exit", "exit", "os._exit"}, module
