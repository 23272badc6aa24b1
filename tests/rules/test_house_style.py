"""Checks the parts of the house style that ruff, mypy, and import-linter don't."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from tests.support.tracked_files import ROOT, tracked

# Put together here, so that this file does not hold them.
REGISTRY_HOSTS = [
    ".".join(parts)
    for parts in (
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("maven", "apache", "org"),
        ("maven", "org"),
        ("npmjs", "org"),
        ("crates", "io"),
        ("golang", "org"),
        ("deb", "debian", "org"),
    )
]
MACHINE_PATHS = ["/" + folder for folder in ("work/", "root/", "home/", "Users/")]


def _modules(*folders: str) -> Iterator[tuple[str, ast.Module]]:
    for path in tracked(*(f"{folder}/*.py" for folder in folders)):
        yield str(path.relative_to(ROOT)), _parsed(path)


@cache
def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def _calls(tree: ast.AST, *names: str) -> Iterator[ast.Call]:
    """Calls of a function of that name, wherever it comes from."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = node.func
            name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", None)
            if name in names:
                yield node


def test_a_package_lists_its_modules_and_packages() -> None:
    for path in tracked("normalizer/*__init__.py", "projector/*__init__.py"):
        package = path.parent
        said = ast.get_docstring(_parsed(path)) or ""
        listed = re.findall(r"^ *([a-z_]+)(?:\.py|/)? {2,}\S", said, re.MULTILINE)
        files = tracked(f"{package.relative_to(ROOT)}/*.py")
        parts = {file.relative_to(package).parts[0].removesuffix(".py") for file in files}

        assert sorted(listed) == sorted(parts - {"__init__", "__main__"}), package.name


def test_a_module_has_its_tests_in_the_folder_of_its_package() -> None:
    """Folder projections has the tests of the projector's own modules, library the normalizer's."""
    folders: dict[str, set[str]] = {}
    for path in tracked("normalizer/*.py", "projector/*.py"):
        program, *packages, _ = path.relative_to(ROOT).parts
        own = "library" if program == "normalizer" else "projections"
        folders.setdefault(path.stem, set()).add(packages[0] if packages else own)

    elsewhere = [
        str(path.relative_to(ROOT))
        for path in tracked("tests/unit/*/test_*.py", "tests/integration/*/test_*.py")
        if path.parent.name not in folders.get(path.stem.removeprefix("test_"), {path.parent.name})
    ]

    assert elsewhere == []


def test_no_test_sleeps() -> None:
    """A test waits for a position or an event. Only polling may pause."""
    sleeping = [
        f"{name}:{call.lineno}"
        for name, tree in _modules("tests")
        for test in ast.walk(tree)
        if isinstance(test, ast.FunctionDef | ast.AsyncFunctionDef)
        and test.name.startswith("test_")
        for statement in test.body
        if not isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef)
        for call in _calls(statement, "sleep")
        if ast.unparse(call.args[0]) != "0"
    ]

    assert sleeping == []


def test_every_exception_from_a_rule_has_its_reason() -> None:
    """As a blind `except` outside the process edge: ruff asks for the noqa, this for the why."""
    bare = re.compile(r"# noqa(: [A-Z0-9, ]+)?\s*$")

    unsaid = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in tracked("*.py")
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if bare.search(line)
    ]

    assert unsaid == []


def test_no_task_is_made_outside_a_task_group() -> None:
    """A group is called tasks or group, so a task of a loop or of asyncio stands out."""
    made = [
        f"{name}:{call.lineno}"
        for name, tree in _modules("normalizer", "projector")
        for call in _calls(tree, "create_task", "ensure_future", "gather")
        if re.search(r"(tasks|group)\.create_task$", ast.unparse(call.func)) is None
    ]

    assert made == []


def test_every_connection_to_postgresql_is_opened_in_one_place() -> None:
    opened = {
        name
        for name, tree in _modules("normalizer", "projector")
        for call in _calls(tree, "connect", "create_pool")
        if ast.unparse(call.func).startswith("asyncpg.")
        and "connect" not in {keyword.arg for keyword in call.keywords}
    }

    assert opened == {"normalizer/postgres/database.py"}


def test_every_task_has_a_name() -> None:
    nameless = [
        f"{name}:{call.lineno}"
        for name, tree in _modules("normalizer", "projector")
        for call in _calls(tree, "create_task")
        if "name" not in {keyword.arg for keyword in call.keywords}
    ]

    assert nameless == []


def test_no_file_names_a_registry_or_a_machine() -> None:
    hosts, paths = ("|".join(map(re.escape, names)) for names in (REGISTRY_HOSTS, MACHINE_PATHS))
    whole = re.compile(rf"(?<![\w-])(?:{hosts})(?![\w-])|(?<![\w.])(?:{paths})")

    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in tracked()
        for number, line in enumerate(path.read_bytes().decode(errors="replace").splitlines(), 1)
        if whole.search(line)
    ]

    assert found == []


def test_no_comment_names_an_issue() -> None:
    issue = re.compile(r"#\s.*(\bissue\s+#?\d+|\s#\d+\b)", re.IGNORECASE)

    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in tracked("*.py", "*.sql", "Makefile", ".ci/*")
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if issue.search(line)
    ]

    assert found == []
