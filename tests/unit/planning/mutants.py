"""A plan with a mistake in it, made from the source of the real one."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

from farlet import planning
from unit.planning.mutations import MIRRORS, PLAN, Mutation

ROOM = Path(planning.__file__).parent


def plan(mutation: Mutation) -> ModuleType:
    """`farlet.planning.plan` as it would be. Nothing that is imported already changes."""
    with pytest.MonkeyPatch.context() as patch:
        predicates = _made(MIRRORS, mutation)
        patch.setitem(sys.modules, "farlet.planning.predicates", predicates)
        patch.setattr(planning, "predicates", predicates)
        return _made(PLAN, mutation)


def _made(name: str, mutation: Mutation) -> ModuleType:
    text = (ROOM / f"{name}.py").read_text()
    for edit in mutation.edits:
        if edit.module == name:
            assert text.count(edit.old) == 1, f"stands {text.count(edit.old)} times: {edit.old}"
            text = text.replace(edit.old, edit.new)
    module = ModuleType(f"mutant_{name}")
    exec(compile(text, f"{name}.py with a mistake", "exec"), module.__dict__)
    return module
