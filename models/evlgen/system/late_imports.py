"""Do something when somebody else imports a module, without importing it: other libraries learn of us at no cost."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType


def when_imported(module: str, action: Callable[[], None]) -> None:
    """Call `action` once: right after `module` is imported, or at once where it is imported already."""
    if module in sys.modules:
        action()
    else:
        sys.meta_path.insert(0, _Waiting(module, action))


class _Waiting(MetaPathFinder):
    """Finds nothing itself; of the module that it waits for it has the others find it, and adds the action."""

    def __init__(self, module: str, action: Callable[[], None]) -> None:
        self.module, self.action = module, action

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self.module:
            return None
        sys.meta_path.remove(self)
        spec = find_spec(fullname)
        loader = spec.loader if spec is not None else None
        if loader is None:
            return spec
        execute = loader.exec_module

        def execute_and_act(module: ModuleType) -> None:
            execute(module)
            self.action()

        loader.exec_module = execute_and_act  # type: ignore[method-assign]
        return spec
