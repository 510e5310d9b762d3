"""Error messages for wrong configs: files and overrides are checked against the type hints of the classes they name.

The message of jsonargparse for a wrong config lists all types that were tried. Here the config is checked once more,
source by source in their order, and the first key that no class accepts is reported in one sentence with the most
similar valid names.
"""

import inspect
import re
from collections.abc import Iterable, Mapping
from typing import Any

from omegaconf.errors import OmegaConfBaseException

from lit_thermal import trust
from lit_thermal.cli.arguments import Source
from lit_thermal.cli.config_walk import Walk, resolve
from lit_thermal.cli.hints import Argument, accepts_null, arguments, containers, described, slots, subclasses
from lit_thermal.cli.parser import nearest
from lit_thermal.errors import InputError


def explain(error: Exception, sources: Iterable[Source], top: Mapping[str, Argument], packages: tuple[str, ...]) -> str:
    """Explain in one sentence why a config was refused.

    Args:
        error: exception of the parser.
        sources: files and overrides in their order.
        top: top-level keys of a config.
        packages: packages whose classes a config may name.
    """
    walk = Walk(top, packages)
    try:
        for source in sources:
            walk.add(source)
        walk.complete()
    except InputError as mistake:
        return str(mistake)
    interpolation = _find(error, OmegaConfBaseException)
    if interpolation is not None:
        return _interpolation(interpolation, walk)
    if why := trust.refused_import(str(error), packages):
        return f"a name that the config puts together: {why}"
    return _shortened(str(error))


def refuse_nulls(value: Any, hint: Any, key: str, packages: tuple[str, ...]) -> None:
    """Check that no argument at or below a value of a config is null if its class needs a value.

    jsonargparse accepts null for any argument; the class would then fail later without naming the key.

    Args:
        value: value as plain data.
        hint: type of the value.
        key: key of the value in the config.
        packages: packages whose classes a config may name.

    Raises:
        InputError: an argument that needs a value is null.
    """
    slot = slots(hint)
    if not (slot and isinstance(value, dict) and isinstance(value.get("init_args"), dict)):
        return
    kind = resolve(value["class_path"], slot, packages)
    for name, argument in (arguments(kind, slot.passed) if kind else {}).items():
        given, below = value["init_args"].get(name, ""), slots(argument.hint)
        if given is None and argument.default is not None and not accepts_null(argument.hint):
            if below:
                known = ", ".join(sorted(subclasses(below))[:8])
                raise InputError(f"{key}.{name} cannot be null; name a class that does nothing (known: {known})")
            if slots(containers(argument.hint)[1]):
                raise InputError(f"{key}.{name} cannot be null; give {{}} for none")
            if argument.hint is not inspect.Parameter.empty:
                raise InputError(f"{key}.{name} cannot be null: {described(argument.hint)} is expected")
        refuse_nulls(given, argument.hint, f"{key}.{name}", packages)


def _find(error: BaseException | None, kind: type[BaseException]) -> BaseException | None:
    while error is not None and not isinstance(error, kind):
        error = error.__cause__ or error.__context__
    return error


def _interpolation(error: BaseException, walk: Walk) -> str:
    """Return the error message for a wrong `${...}`."""
    text = str(error).split("\n")[0]
    full = getattr(error, "full_key", None) or ""
    where = full.partition(".")[2] or "the config"
    key = re.search(r"resolved to '[^.']*\.([^']*)'", text) or re.search(r"Interpolation key '\.*([^']*)'", text)
    if key:
        plain = key[1].replace("init_args.", "")
        near = nearest(plain, (path for path in walk.known() if path.count(".") == plain.count(".")), most=2)
        hint = f"; did you mean {' or '.join(f'${{{_spelled(path, walk)}}}' for path in near)}?" if near else ""
        return f"{where} refers to ${{{key[1]}}}, which the config does not have{hint}"
    variable = re.search(r"Environment variable '([^']*)'", text)
    if variable:
        return f"{where} refers to the environment variable {variable[1]!r}, which is not set; set it"
    return f"{where}: {text}"


def _spelled(path: str, walk: Walk) -> str:
    """Return a path in the form that an interpolation needs, with `init_args` below each class."""
    parts = path.split(".")
    spelled = [parts[0]]
    for depth in range(1, len(parts)):
        if ".".join(parts[:depth]) in walk.classes:
            spelled.append("init_args")
        spelled.append(parts[depth])
    return ".".join(spelled)


def _shortened(text: str) -> str:
    """Return the parts of jsonargparse's message that name the key and the reason."""
    noise = ("Does not validate", "Subtypes:", "Errors:", "Given value", "- Expected a <class 'NoneType'>")
    lines = [line.strip() for line in text.splitlines()]
    kept = " ".join(line.removeprefix("- ") for line in lines if line and not line.startswith(noise))
    return kept if len(kept) <= 300 else f"{kept[:297]}..."
