"""Safety checks of config files and overrides, before the parser reads them and imports the classes they name."""

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
from lit_thermal.weights.old_records import translated


def check_words(words: list[str], packages: tuple[str, ...]) -> None:
    """Check the files and overrides of a command, and the files that they name.

    Args:
        words: words after the verb.
        packages: packages whose classes a config may name.

    Raises:
        InputError: a file cannot be read, or a value is not allowed in a config.
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
    """Return the text of an override parsed as YAML, or unchanged if it is not valid YAML.

    Raises:
        InputError: the YAML has elements that are not allowed.
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
        InputError: the file cannot be read, is not YAML, is empty, or is not a mapping.
    """
    tree = plain_yaml.read(path)
    if tree is None:
        raise InputError(f"{path} holds no keys and values: write some, or leave the file out")
    if not isinstance(tree, dict):
        raise InputError(f"{path} holds {type(tree).__name__} {str(tree)[:40]!r} where keys and values are expected")
    return tree


def read_sources(words: list[str]) -> Iterator[Source]:
    """Yield the files and overrides of a command; each file is read only when it is requested."""
    for name, value in sources(words):
        if name in CONFIG:
            yield Source(str(value), read_yaml(Path(str(value))))
        elif name.startswith("--") and name not in FREE:
            if value is None:
                raise InputError(f"{name} needs a value")
            yield Source(f"{name}={value}", {"value": value}, tuple(name[2:].split(".")))
        elif not name.startswith("--"):
            raise InputError(f"{name!r} is not an option; give files by -c FILE and values by --key=value")


def read_plainly(mode: str) -> None:
    """Make parsers check YAML by `plain_yaml`, and allow only names of other values in `${...}`.

    Old import paths of classes that have moved within lit_thermal are replaced by their present ones, and arguments of
    earlier versions of a model by those of this version.

    Args:
        mode: mode of the parsers.
    """
    ArgumentParser(parser_mode=mode).parse_string("{}")  # registers the loader of that mode
    plain = get_loader(mode)
    if plain.__module__ != __name__:

        def load(text: str) -> Any:
            plain_yaml.check(text)
            return _current(with_current_paths(plain(text.removeprefix("\ufeff"))))

        set_loader(mode, load, (yaml.YAMLError,))
    for resolver in ("create", "decode", "deprecated", "dict.keys", "dict.values", "env", "select"):
        OmegaConf.clear_resolver(f"oc.{resolver}")


def _current(tree: Any) -> Any:
    """Return a config whose model, if it is stated in full, has the arguments of this version."""
    model = tree.get("model") if isinstance(tree, dict) else None
    if (
        isinstance(model, dict)
        and isinstance(model.get("class_path"), str)
        and isinstance(model.get("init_args"), dict)
    ):
        tree["model"] = translated(model)
    return tree
