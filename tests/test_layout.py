"""The tree keeps its promises: whose packages these are, who may import whom, how long files get, what docs name."""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("stream", "memory", "daemon")
FORBIDDEN = {  # importer -> what it may not import; dependencies point one way
    "stream": ("memory", "daemon", "bench", "tests"),
    "memory": ("daemon", "stream.train", "bench", "tests"),
    "daemon": ("stream.train", "bench", "tests"),
}
# Training runs whole banks, so it stands above memory; and one command of the command line starts it.
EXEMPT = {"stream/train/": ("memory",), "daemon/__main__.py": ("stream.train",)}
MAX_FILE_LINES, MAX_FUNCTION_LINES = 400, 60
LATER = re.compile("TO" + "DO|FIX" + "ME")  # in two parts, so that this file may be searched as well
TABLE_LINE = re.compile(r"[a-z_.]+:[A-Z]\w*$")  # `module:Class`, which a method table imports on demand
LOG_CALL = re.compile(r"\.(exception|error|warning|critical)$|(^|[._])log(ger)?$")
TEXTS = (".py", ".md", ".toml", ".yaml", ".yml", ".service", ".conf", ".html", ".js", "Makefile", ".ci/run")
Function = ast.FunctionDef | ast.AsyncFunctionDef


def tracked(*suffixes: str) -> list[str]:
    """Files of the repository as git knows them; all files where there is no git (an unpacked archive)."""
    try:
        done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=30)
        names = done.stdout.splitlines()
    except (OSError, subprocess.CalledProcessError):
        names = [str(path.relative_to(ROOT)) for path in ROOT.rglob("*") if path.is_file()]
    hidden = [name for name in names if name.startswith((".venv", ".git/", "runs/", "dist/"))]
    return sorted(name for name in set(names) - set(hidden) if name.endswith(suffixes) and (ROOT / name).exists())


SOURCES = [name for name in tracked(".py") if name.split("/")[0] in (*PACKAGES, "bench")]


def parse(name: str) -> ast.Module:
    return ast.parse((ROOT / name).read_text(encoding="utf-8"), name)


def imports(tree: ast.Module, module: str) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of everything a file imports, relative imports and `import_module("...")` included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = module.split(".")[: -node.level] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{origin}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Constant) and TABLE_LINE.match(str(node.value)):
            yield node.lineno, str(node.value).partition(":")[0]


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_come_from_this_repository(package: str) -> None:
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    assert Path(spec.origin).parent == ROOT / package
    claimed = set(importlib.metadata.packages_distributions().get(package, ()))
    assert claimed <= {"longwatch"}, f"{claimed} also install a package `{package}`"


@pytest.mark.parametrize("name", [name for name in SOURCES if name.split("/")[0] in PACKAGES])
def test_dependencies_point_one_way(name: str) -> None:
    module = name.removesuffix(".py").replace("/", ".")
    allowed = [word for start, words in EXEMPT.items() if name.startswith(start) for word in words]
    banned = [word for word in FORBIDDEN[name.split("/")[0]] if word not in allowed]
    for line, imported in imports(parse(name), module):
        wrong = [word for word in banned if f"{imported}.".startswith(f"{word}.")]
        assert not wrong, f"{name}:{line} imports {imported}"


def test_the_import_check_sees_every_form() -> None:
    text = 'import daemon.a\nfrom daemon import b\nfrom ..x import c\nT = {"n": "stream.train.loss:Loss"}\n'
    found = [name for _, name in imports(ast.parse(text), "stream.gate.still")]
    assert found == ["daemon.a", "daemon.b", "stream.x.c", "stream.train.loss"]


@pytest.mark.parametrize("name", tracked(".py"))
def test_files_and_functions_stay_short(name: str) -> None:
    tree = parse(name)
    lines = len((ROOT / name).read_text(encoding="utf-8").splitlines())
    assert lines <= MAX_FILE_LINES, f"{name} has {lines} lines; one file, one idea"
    for node in ast.walk(tree):
        if isinstance(node, Function) and node.end_lineno is not None:
            length = node.end_lineno - node.lineno + 1
            assert length <= MAX_FUNCTION_LINES, f"{name}:{node.lineno} {node.name} has {length} lines"


def is_broad(handler: ast.ExceptHandler) -> bool:
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(kind is None or ast.unparse(kind) in ("Exception", "BaseException") for kind in kinds)


def is_answered(handler: ast.ExceptHandler) -> bool:
    """It logs, raises again, or keeps the exception whole for someone who will."""
    for node in ast.walk(handler):
        if isinstance(node, ast.Raise):
            return True
        if isinstance(node, ast.Assign):
            parts = (node.value, *getattr(node.value, "elts", ()))
            if any(isinstance(part, ast.Name) and part.id == handler.name for part in parts):
                return True
        if isinstance(node, ast.Call) and LOG_CALL.search(ast.unparse(node.func)):
            return True
    return False


@pytest.mark.parametrize("name", SOURCES)
def test_broad_excepts_are_logged(name: str) -> None:
    for node in ast.walk(parse(name)):
        if isinstance(node, ast.ExceptHandler) and is_broad(node):
            assert is_answered(node), f"{name}:{node.lineno} swallows every exception without a log line"


def test_the_except_check_can_fail() -> None:
    (quiet, loud, narrow) = (
        node
        for text in ("except Exception: pass", "except: self._log.exception('x')", "except OSError: pass")
        for node in ast.walk(ast.parse(f"try: pass\n{text}"))
        if isinstance(node, ast.ExceptHandler)
    )
    assert is_broad(quiet)
    assert not is_answered(quiet)
    assert is_broad(loud)
    assert is_answered(loud)
    assert not is_broad(narrow)


@pytest.mark.parametrize("name", tracked(*TEXTS))
def test_nothing_is_left_for_later(name: str) -> None:
    for number, line in enumerate((ROOT / name).read_text(encoding="utf-8").splitlines(), 1):
        assert not LATER.search(line), f"{name}:{number} {line.strip()}"


def test_structure_names_every_source_file_once() -> None:
    text = (ROOT / "docs" / "structure.md").read_text(encoding="utf-8")
    rows = re.findall(r"^- `([^`]+)` - (\S.*)$", text, flags=re.MULTILINE)
    named = Counter(path for path, _ in rows)
    assert [path for path, count in named.items() if count > 1] == []
    assert [path for path in named if not (ROOT / path).exists()] == [], "named, but not there"
    assert [path for path in SOURCES if path not in named] == [], "there, but not named"
