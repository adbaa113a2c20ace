"""Feature functions by name: what `serve.functions` of a configuration means."""

import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from nearline.errors import ConfigError
from nearline.serve import FeatureFunction


def feature_functions(names: Sequence[str], folder: Path) -> list[FeatureFunction]:
    """Import each ``"module:name"``, modules of `folder` before installed ones, also those they import later.

    Raises
    ------
    ConfigError
        A name that is not of that form, leads nowhere or not to a `FeatureFunction`; a module that cannot be imported;
        two functions of one bag.
    """
    if names:
        sys.path.insert(0, str(folder.resolve()))
    functions = [_imported(name) for name in names]
    if len({one.bag for one in functions}) < len(functions):
        raise ConfigError("serve.functions: expected one function for each bag")
    return functions


def _imported(name: str) -> FeatureFunction:
    module, _, attribute = name.partition(":")
    if not module or not attribute:
        raise ConfigError(f'serve.functions: expected "module:name", got {name!r}')
    try:
        found = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, SyntaxError) as error:
        raise ConfigError(f"serve.functions: {name!r}: {error}") from error
    if not isinstance(found, FeatureFunction):
        raise ConfigError(
            f"serve.functions: {name!r}: expected a FeatureFunction, got {type(found).__name__}"
        )
    return found
