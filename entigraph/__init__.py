"""Synthetic continued pretraining: from a small corpus to a scaling curve. The Python API is in docs/python.md."""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"
__all__ = ["Study", "compose", "plan", "run"]

if TYPE_CHECKING:
    from entigraph.api import Study, compose, plan, run


def __getattr__(name: str) -> Any:
    if name in __all__:  # loaded at first use, so that `import entigraph` takes no time
        return getattr(importlib.import_module("entigraph.api"), name)
    if name == "errors":
        return importlib.import_module("entigraph.errors")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
