"""No module imports itself through others, in Python and in the crates."""

import ast
import re
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Final

import pytest

from tests.support.tracked_files import ROOT, tracked

PACKAGES: Final = ("normalizer", "projector", "simulator", "bench", "release", "docs_site")
CRATES: Final = ("contract/rust/src", "native/lane/src", "native/python/src")


def _circle(imports: dict[str, set[str]]) -> list[str]:
    """The modules of one circle, or nothing."""
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def _python_imports(package: str) -> dict[str, set[str]]:
    paths = {_module(path): path for path in tracked(f"{package}/*.py")}
    return {
        name: {one for one in _imported(path, paths) if one in paths and one != name}
        for name, path in paths.items()
    }


def _module(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imported(path: Path, modules: dict[str, Path]) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Import(names=names):
                yield from (name.name for name in names)
            case ast.ImportFrom(module=str(module), names=names):
                for name in names:
                    submodule = f"{module}.{name.name}"
                    yield submodule if submodule in modules else module
            case _:
                pass


def _rust_imports(folder: str) -> dict[str, set[str]]:
    """The modules of a crate. A type that lib.rs hands on counts as an import of its module."""
    texts = {
        path.stem if path.parent == ROOT / folder else path.parent.name: ""
        for path in tracked(f"{folder}/*.rs")
    }
    for path in tracked(f"{folder}/*.rs"):
        name = path.stem if path.parent == ROOT / folder else path.parent.name
        texts[name] += re.sub(r"//.*", "", path.read_text())
    handed_on = {
        name: module
        for module, names in re.findall(r"pub use (\w+)::\{?([\w, \n]+)\}?;", texts.pop("lib"))
        for name in re.findall(r"\w+", names)
    }
    return {
        module: {
            handed_on.get(name, name)
            for group in re.findall(r"\bcrate::(?:\{([^}]*)\}|(\w+))", text)
            for name in re.findall(r"\w+", "".join(group))
        }
        & texts.keys() - {module}
        for module, text in texts.items()
    }


@pytest.mark.parametrize("package", PACKAGES)
def test_no_python_module_imports_itself_through_others(package: str) -> None:
    imports = _python_imports(package)

    assert any(imports.values())
    assert _circle(imports) == []


@pytest.mark.parametrize("folder", CRATES)
def test_no_module_of_a_crate_imports_itself_through_others(folder: str) -> None:
    imports = _rust_imports(folder)

    assert not imports or any(imports.values())
    assert _circle(imports) == []


def test_a_circle_is_found() -> None:
    assert set(_circle({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}})) == {"a", "b", "c"}
