"""Each file of requirements pins its direct dependencies and their dependencies, and nothing else."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from importlib.metadata import distribution, packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.gateway import ROOT

RUN, TRACING, TESTS = (
    ROOT / "requirements.txt",
    ROOT / "gateway/telemetry/tracing/requirements.txt",
    ROOT / "tests/requirements.txt",
)
# Finds import statements, and the name of the top-level package that each one imports.
IMPORT = re.compile(r"^\s*(?:from|import) (\w+)(?=[\w.]* import |[\w.]*(?: as \w+)?(?:  #.*)?$)", re.MULTILINE)


def direct_dependencies(file: Path) -> list[Requirement]:
    listed = re.search(r"Direct dependencies:\n((?:#   .+\n)+)", file.read_text())
    assert listed is not None, file
    return [Requirement(name) for name in listed[1].replace("#", "").split()]


def pinned(file: Path) -> dict[str, Requirement]:
    lines = [Requirement(line) for line in file.read_text().splitlines() if not line.startswith(("#", "-"))]
    return {canonicalize_name(line.name): line for line in lines if line.marker is None or line.marker.evaluate()}


def needed_by(requirement: Requirement) -> Iterator[Requirement]:
    for line in distribution(requirement.name).requires or []:
        needed = Requirement(line)
        if needed.marker is None or any(
            needed.marker.evaluate({"extra": extra}) for extra in requirement.extras or {""}
        ):
            yield needed


def installed_with(requirements: list[Requirement]) -> set[str]:
    """The names of all distributions that these requirements install, their own names included."""
    found: set[tuple[str, frozenset[str]]] = set()
    remaining = list(requirements)
    while remaining:
        requirement = remaining.pop()
        key = (canonicalize_name(requirement.name), frozenset(requirement.extras))
        if key not in found:
            found.add(key)
            remaining += needed_by(requirement)
    return {name for name, _ in found}


@pytest.mark.parametrize(
    ("file", "installed_before"),
    [(RUN, []), (TRACING, [RUN]), (TESTS, [RUN, TRACING])],
    ids=["gateway", "tracing", "tests"],
)
def test_a_file_pins_what_its_direct_dependencies_need(file: Path, installed_before: list[Path]) -> None:
    expected = installed_with(direct_dependencies(file))
    for other in installed_before:
        expected -= installed_with(direct_dependencies(other))
    assert set(pinned(file)) == expected
    assert {str(line.specifier)[:2] for line in pinned(file).values()} == {"=="}
    assert "--only-binary :all:\n" in file.read_text()


@pytest.mark.parametrize(
    ("folders", "files"),
    [(["gateway"], [RUN, TRACING]), (["tests"], [RUN, TRACING, TESTS])],
    ids=["gateway", "tests"],
)
def test_what_is_imported_is_pinned(folders: list[str], files: list[Path]) -> None:
    pins = {name for file in files for name in pinned(file)}
    distributions = packages_distributions()
    sources = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    packages = {name for path in sources for name in IMPORT.findall(path.read_text())}
    packages -= {*sys.stdlib_module_names, "gateway", "tests", "wsgi", "_typeshed"}
    # An import needs one pinned distribution. Several distributions may share a package, as with `from
    # opentelemetry.sdk …`.
    missing = [
        name for name in packages if not pins & {canonicalize_name(owner) for owner in distributions.get(name, [])}
    ]
    assert missing == (["dotenv"] if folders == ["gateway"] else [])
