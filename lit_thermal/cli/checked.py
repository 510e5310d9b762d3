"""What the files and overrides of a command say is checked before the parser reads it, which imports what they name."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentParser, get_loader, set_loader
from omegaconf import OmegaConf

from lit_thermal import plain_yaml, trust
from lit_thermal.cli.arguments import CONFIG, FREE, Source, sources
from lit_thermal.errors import InputError
from lit_thermal.moved import with_current_paths


def check_words(words: list[str], packages: tuple[str, ...]) -> None:
    """Check the files and overrides of a command, and the files that these name.

    Args:
        words: those after the verb.
        packages: where classes may come from.

    Raises:
        InputError: a file cannot be read, or one of them says what a config may not say.
    """
    for name, value in sources(words):
        if value is None or name in FREE:
            continue
        if name in CONFIG:
            path = Path(value)
            config = read_yaml(path)
            trust.check_values(config, str(path), packages)
            trust.check_named(config, path.parent, packages, frozenset({path.resolve()}))
            continue
        tree = parsed(name, value)
        trust.check_values({name.rpartition(".")[2]: tree}, name, packages)
        trust.check_named(tree, Path(), packages)


def parsed(option: str, text: str) -> Any:
    """Return the text of an override as the YAML that it is, or as itself where it is none.

    Raises:
        InputError: it is YAML that may not be read.
    """
    try:
        plain_yaml.check(text)
        return plain_yaml.load(text, option)
    except plain_yaml.RefusedYAMLError as error:
        raise InputError(f"{option}{error}") from error
    except (InputError, yaml.YAMLError):
        return text


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a config file.

    Raises:
        InputError: it cannot be read, is not YAML, or is not a mapping.
    """
    tree = plain_yaml.read(path)
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise InputError(f"{path} holds {type(tree).__name__} {str(tree)[:40]!r} where keys and values are expected")
    return tree


def read_sources(words: list[str]) -> Iterator[Source]:
    """Yield the files and overrides of a command; each is read when those before it were found right."""
    for name, value in sources(words):
        if name in CONFIG:
            yield Source(str(value), read_yaml(Path(str(value))))
        elif name.startswith("--") and name not in FREE:
            if value is None:
                raise InputError(f"{name} needs a value")
            yield Source(f"{name}={value}", {"value": value}, tuple(name[2:].split(".")))
        elif not name.startswith("--"):
            raise InputError(f"{name!r} is no option; give files by -c FILE and values by --key=value")


def read_plainly(mode: str) -> None:
    """Let parsers read YAML by `plain_yaml`, and refuse what asks for more than another value in `${...}`.

    Old import paths of classes that have moved within lit_thermal are replaced by their present ones.

    Args:
        mode: mode of the parsers.
    """
    ArgumentParser(parser_mode=mode).parse_string("{}")  # makes the loader of that mode known
    plain = get_loader(mode)
    if plain.__module__ != __name__:

        def load(text: str) -> Any:
            plain_yaml.check(text)
            return with_current_paths(plain(text.removeprefix("\ufeff")))

        set_loader(mode, load, (yaml.YAMLError,))
    for resolver in ("create", "decode", "deprecated", "dict.keys", "dict.values", "env", "select"):
        OmegaConf.clear_resolver(f"oc.{resolver}")
