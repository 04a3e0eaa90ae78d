"""A plan with a mistake in it: the real modules, with some functions changed in their syntax tree.

A change names a function and the expression in it that changes; expressions are compared as trees.
So neither formatting nor comments matter. A change that fits no place, or several, is an error.
"""

from __future__ import annotations

import ast
import functools
import sys
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, ModuleType
from typing import Protocol

import pytest

from farlet import planning

PLAN, PREDICATES, WISHES, POD_SECRET = "plan", "predicates", "wishes", "pod_secret"
EPHEMERAL, DEADLINE = "ephemeral", "deadline"
_FOLDER = Path(planning.__file__).parent


class Change(Protocol):
    """How one function of one module differs."""

    @property
    def module(self) -> str:
        """`PLAN`, or a module that it uses."""
        ...

    @property
    def function(self) -> str:
        """The name of the function."""
        ...

    def apply(self, function: ast.FunctionDef) -> None:
        """Change the syntax tree of the function."""
        ...


@dataclass(frozen=True, slots=True)
class Skipped:
    """The `if` statement of this condition is missing."""

    function: str
    condition: str
    module: str = PLAN

    def apply(self, function: ast.FunctionDef) -> None:
        skipping = _Skipping(_dumped(self.condition))
        skipping.visit(function)
        _once(skipping.count, self)


@dataclass(frozen=True, slots=True)
class Replaced:
    """Another expression is in the place of this one."""

    function: str
    expression: str
    by: str
    module: str = PLAN

    def apply(self, function: ast.FunctionDef) -> None:
        replacing = _Replacing(_dumped(self.expression), _parsed(self.by))
        replacing.visit(function)
        _once(replacing.count, self)


@dataclass(frozen=True, slots=True)
class Answers:
    """The function returns this, whatever its arguments are."""

    function: str
    expression: str
    module: str = PLAN

    def apply(self, function: ast.FunctionDef) -> None:
        function.body = [ast.Return(_parsed(self.expression))]


class _Skipping(ast.NodeTransformer):
    def __init__(self, condition: str) -> None:
        self._condition = condition
        self.count = 0

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
        if ast.dump(node.test) != self._condition:
            return self.generic_visit(node)
        self.count += 1
        return node.orelse or [ast.Pass()]


class _Replacing(ast.NodeTransformer):
    def __init__(self, expression: str, by: ast.expr) -> None:
        self._expression = expression
        self._by = by
        self.count = 0

    def visit(self, node: ast.AST) -> ast.AST:
        if not isinstance(node, ast.expr) or ast.dump(node) != self._expression:
            changed: ast.AST = self.generic_visit(node)
            return changed
        self.count += 1
        return self._by


def plan(changes: tuple[Change, ...]) -> ModuleType:
    """`farlet.planning.plan` as it would be. Nothing that is imported already changes."""
    with pytest.MonkeyPatch.context() as patch:
        for name in (PREDICATES, WISHES, POD_SECRET, EPHEMERAL, DEADLINE):
            used = _changed(name, changes, patch)
            patch.setitem(sys.modules, f"farlet.planning.{name}", used)
            patch.setattr(planning, name, used)
        return _changed(PLAN, changes, patch)


def _changed(name: str, changes: tuple[Change, ...], patch: pytest.MonkeyPatch) -> ModuleType:
    module = ModuleType(f"mutant_{name}")
    patch.setitem(sys.modules, module.__name__, module)  # dataclasses look their module up
    exec(_compiled(name, tuple(one for one in changes if one.module == name)), vars(module))
    return module


@functools.cache
def _compiled(name: str, changes: tuple[Change, ...]) -> CodeType:
    """Most modules of a mutant are unchanged: they are compiled once."""
    tree = ast.parse((_FOLDER / f"{name}.py").read_text())
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    for change in changes:
        change.apply(functions[change.function])
    return compile(ast.fix_missing_locations(tree), f"{name}.py with a mistake", "exec")


def _parsed(expression: str) -> ast.expr:
    return ast.parse(expression, mode="eval").body


def _dumped(expression: str) -> str:
    return ast.dump(_parsed(expression))


def _once(count: int, change: Change) -> None:
    assert count == 1, f"{change} fits {count} places"
