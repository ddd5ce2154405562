"""Fails where modules of cimq import each other in a circle, where an import hides in a function to dodge one, or where
production code imports the specification that it is tested against.

    python .ci/check_imports.py [package folder]

Every import counts, whether it is made at the top, in a function, or for type checkers alone: a circle of names is a
circle for whoever reads. Functions may import what is not of cimq (an optional library), and so may commands of the
command line, which start quickly that way.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

# Commands of the command line load what they need, so that --help is quick.
COMMANDS = "cimq.cli"
# Faces of packages that hand on a name on demand, and why. What they hand on stands above them.
FACES = {
    "cimq.cost_model": "cimq.latency takes models and bundles, and stands above cimq.bundle",
    "cimq.quantization": "adc_diagnostics is part of cimq.diagnosis, which stands above it",
}
# Below the package: the specification, and the one module that may import it, for backend="reference".
SPECIFICATION = "ops.spec"
SPECIFICATION_READER = "ops.crossbar"


def modules(package: Path) -> dict[str, Path]:
    """Every module by its dotted name."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(path: Path, package: str, known: dict[str, Path]) -> Iterator[tuple[str, int, bool]]:
    """(module, line, whether inside a function) of every import of the package."""

    def walk(node: ast.AST, inside: bool) -> Iterator[tuple[str, int, bool]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.ImportFrom) and child.module and child.module.split(".")[0] == package:
                for name in child.names:
                    full = f"{child.module}.{name.name}"
                    yield (full if full in known else child.module), child.lineno, inside
            elif isinstance(child, ast.Import):
                for name in child.names:
                    if name.name.split(".")[0] == package:
                        yield name.name, child.lineno, inside
            yield from walk(child, inside or isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)))

    yield from walk(ast.parse(path.read_text(encoding="utf-8")), False)


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Groups of modules that reach each other (Tarjan's strongly connected components), each sorted."""
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(module: str) -> None:
        number[module] = low[module] = len(number)
        stack.append(module)
        for target in sorted(graph[module]):
            if target not in number:
                visit(target)
                low[module] = min(low[module], low[target])
            elif target in stack:
                low[module] = min(low[module], number[target])
        if low[module] == number[module]:
            group = stack[stack.index(module) :]
            del stack[len(stack) - len(group) :]
            if len(group) > 1:
                found.append(sorted(group))

    for module in sorted(graph):
        if module not in number:
            visit(module)
    return found


def borrows_specification(package: str, module: str, target: str) -> bool:
    """Whether a module outside of the specification imports it: an error of the rules would pass its own test."""
    specification, reader = f"{package}.{SPECIFICATION}.", f"{package}.{SPECIFICATION_READER}"
    return f"{target}.".startswith(specification) and not f"{module}.".startswith(specification) and module != reader


def faults(package: Path) -> list[str]:
    """Hidden imports and circles of a package, one sentence each."""
    known = modules(package)
    graph: dict[str, set[str]] = {module: set() for module in known}
    found = []
    for module, path in known.items():
        for target, line, inside in imports(path, package.name, known):
            where = f"{path.relative_to(package.parent)}:{line}"
            if inside and module not in FACES and not f"{module}.".startswith(f"{COMMANDS}."):
                found.append(f"{where}: {target} is imported inside a function; move what ties the two modules")
            if borrows_specification(package.name, module, target):
                found.append(f"{where}: {target} is the specification, which production code must not import")
            on_demand = inside and module in FACES
            # `import cimq` alone is the package's face, which loads modules on first use and imports none of them.
            if target in known and target not in (module, package.name) and not on_demand:
                graph[module].add(target)
    return list(dict.fromkeys(found)) + [f"circle of imports: {' <-> '.join(group)}" for group in circles(graph)]


def main() -> int:
    """Prints every fault; the exit status is 1 where there is one."""
    default = Path(__file__).resolve().parent.parent / "cimq"
    package = Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else default
    found = faults(package)
    for fault in found:
        print(fault)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
