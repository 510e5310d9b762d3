"""Old import paths of classes that have since moved to another file of lit_thermal.

Configs of earlier runs and records in checkpoints name classes by full path, and must still work after a move.
"""

import importlib
import logging
import re
from functools import lru_cache
from typing import Any

from lit_thermal.lazy import places

PACKAGES = ("lit_thermal", "lit_thermal.callbacks")
"""Packages that are searched; in a checkout, the callbacks are in a separate folder."""
OPTIONS = {
    "--model.tokenizer_steps": "--trainer.callbacks.steps",
    "--model.tokenizer_lr": "--trainer.callbacks.lr",
}
"""Old options of the command line and their present ones: the callback TokenizerFirst is last in real_iisr.yaml."""
_PATH = re.compile(r"lit_thermal(\.[^\W\d]\w*)+\.[A-Z]\w*")
_log = logging.getLogger(__name__)


@lru_cache(maxsize=1024)
def current(name: str) -> str:
    """Return the current import path of a class of lit_thermal, given its old or current path.

    A path that cannot be imported is replaced if lit_thermal defines exactly one public class of that name; each
    replacement is logged once. Every other text is returned unchanged.
    """
    if not _PATH.fullmatch(name) or _exists(name):
        return name
    kind = name.rpartition(".")[2]
    found = {f"{module}.{kind}" for package in PACKAGES for module in places(package).get(kind, ())}
    if len(found) != 1 or name in found:
        return name
    path = found.pop()
    _log.warning("%s has moved to %s", name, path)
    return path


def with_current_paths(tree: Any) -> Any:
    """Apply `current` to every string value of a config; lists and mappings are changed in place.

    A config from a file may contain itself (YAML aliases), so each part is visited only once.

    Returns:
        The same tree, or the new string if the tree is a single string.
    """
    if isinstance(tree, str):
        return current(tree)
    todo: list[Any] = [tree]
    seen: set[int] = set()
    while todo:
        part = todo.pop()
        if not isinstance(part, (dict, list)) or id(part) in seen:
            continue
        seen.add(id(part))
        for key, value in list(part.items() if isinstance(part, dict) else enumerate(part)):
            if isinstance(value, str):
                part[key] = current(value)
            else:
                todo.append(value)
    return tree


def _exists(name: str) -> bool:
    module, _, kind = name.rpartition(".")
    try:
        return hasattr(importlib.import_module(module), kind)
    except (ImportError, ValueError):
        return False


def current_option(word: str) -> str:
    """Return a word of the command line with an old option replaced by the present one; replacements are logged."""
    option, sign, value = word.partition("=")
    if option not in OPTIONS:
        return word
    _log.warning("%s has moved to %s", option, OPTIONS[option])
    return f"{OPTIONS[option]}{sign}{value}"
