"""Text from outside is split where the kernel splits it: what else Python takes for an end of line, a blank
or a digit is not used in the package, and no reader of a system file takes it for one.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from tests.unit.modules import MODULES, PROJECT, tree

PROGRAM = PROJECT / "bin/gandi-agent"
#: Each calls what follows on text that is checked before, or that only a letter is taken from.
ALLOWED = {
    ("agent/lib/text.py", "isdigit"): "number(): of ASCII alone",
    ("agent/disks/policy.py", "isdecimal"): "which characters of a label a folder's name keeps",
}
NEVER = {
    "splitlines": "use text.lines",
    "isdigit": "use text.number",
    "isdecimal": "use text.number",
    "isnumeric": "use text.number",
    "isspace": "name the characters",
    "read_text": "read bytes",
    "write_text": "write bytes",
}
BARE = {
    "split": "use text.words",
    "rsplit": "use text.words",
    "strip": "use text.BLANKS or text.WHITE",
    "lstrip": "use text.BLANKS or text.WHITE",
    "rstrip": "use text.BLANKS or text.WHITE",
}
#: Classes of a pattern that have more members in Unicode than in ASCII.
CLASSES = re.compile(r"(?<!\\)(?:\\\\)*\\[sSdDwWbB]")


def _found(module: ast.AST) -> Iterator[tuple[int, str, str]]:
    """Line, name and remedy of each call that has a wider idea of lines, blanks or digits."""
    named = {ast.unparse(n.targets[0]): n.value for n in ast.walk(module) if isinstance(n, ast.Assign)}
    for node in ast.walk(module):
        if not isinstance(node, ast.Call):
            continue
        function, keywords = node.func, {word.arg: word.value for word in node.keywords}
        name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
        separator = node.args[0] if node.args else keywords.get("sep")
        none = separator is None or (isinstance(separator, ast.Constant) and separator.value is None)
        if isinstance(function, ast.Attribute) and (name in NEVER or (name in BARE and none)):
            yield node.lineno, name, NEVER.get(name) or BARE[name]
        for word in {"text", "universal_newlines"} & set(keywords):
            if isinstance(keywords[word], ast.Constant):
                yield node.lineno, word, "take bytes and decode them"
        if _opens_text(function, node, keywords):
            yield node.lineno, "open", 'open it as bytes, or with newline="\\n"'
        if _is_wide(function, node, named):
            yield node.lineno, name, "name the characters of the class, or re.ASCII"


def _opens_text(function: ast.expr, call: ast.Call, keywords: dict[str | None, ast.expr]) -> bool:
    """Whether it is open(), os.fdopen() or io.open() with universal newlines."""
    spelled = ast.unparse(function)
    mode = call.args[1] if len(call.args) > 1 else keywords.get("mode")
    binary = isinstance(mode, ast.Constant) and "b" in str(mode.value)
    newline = keywords.get("newline")
    exact = isinstance(newline, ast.Constant) and newline.value in ("\n", "")
    return spelled in ("open", "io.open", "os.fdopen", "io.TextIOWrapper") and not binary and not exact


def _is_wide(function: ast.expr, call: ast.Call, named: dict[str, ast.expr]) -> bool:
    """Whether it is a function of ``re`` with a pattern of text that means Unicode's classes or cases; the
    pattern may be a constant of the module's.
    """
    if not ast.unparse(function).startswith("re.") or not call.args:
        return False
    pattern = named.get(ast.unparse(call.args[0]), call.args[0])
    parts = [node.value for node in ast.walk(pattern) if isinstance(node, ast.Constant)]
    text, said = "".join(part for part in parts if isinstance(part, str)), ast.unparse(call)
    folded = "IGNORECASE" in said and not any(isinstance(part, bytes) for part in parts)
    return (bool(CLASSES.search(text)) or folded) and "re.ASCII" not in said


def test_nothing_splits_text_as_python_does() -> None:
    sources = {str(module.relative_to(PROJECT)): tree(module) for module in (*MODULES, PROGRAM)}
    wrong = [
        f"{name}:{line}: {what}: {remedy}"
        for name, source in sources.items()
        for line, what, remedy in _found(source)
        if (name, what) not in ALLOWED
    ]
    assert not wrong


def test_what_is_allowed_is_used() -> None:
    used = {(name, what) for name, _ in ALLOWED for _, what, _ in _found(tree(PROJECT / name))}
    assert set(ALLOWED) <= used


@pytest.mark.parametrize(
    "wrong",
    [
        "x.splitlines()",
        "x.splitlines(True)",
        "x.split()",
        "x.split(None, 5)",
        "x.split(maxsplit=1)",
        "x.strip()",
        "[one.rstrip() for one in x]",
        "x.isdigit()",
        "subprocess.run(x, text=True)",
        "open(x)",
        "open(x, 'w', encoding='utf-8')",
        "os.fdopen(x)",
        "Path(x).read_text()",
        r"re.compile(r'\s+')",
        r"re.sub(rf'a{x}\d', '', y)",
        "re.compile('ssh', re.IGNORECASE)",
        "X = r'\\s'\nre.match(X, y)",
    ],
)
def test_the_lint_finds(wrong: str) -> None:
    assert list(_found(ast.parse(wrong)))


@pytest.mark.parametrize(
    "right",
    [
        "x.split('\\n')",
        "x.strip(BLANKS)",
        "x.split(sep=':', maxsplit=1)",
        "open(x, 'rb')",
        "open(x, newline='\\n')",
        "os.open(x, flags)",
        r"re.compile(r'\s+', re.ASCII)",
        r"re.compile(rb'\s+')",
        r"re.compile('a\\\\s')",
        r"re.compile(r'\\s')",
    ],
)
def test_the_lint_lets_pass(right: str) -> None:
    assert not list(_found(ast.parse(right)))
