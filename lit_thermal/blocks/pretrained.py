"""Pretrained weights, downloaded from the Hugging Face hub or read from a file; skipped in `without_pretrained()`."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from torch import Tensor

from lit_thermal.errors import InputError
from lit_thermal.weights_file import check_finite, check_kinds, check_tensors, read_file

_wanted: ContextVar[bool] = ContextVar("pretrained_wanted", default=True)


@contextmanager
def without_pretrained() -> Iterator[None]:
    """Build models without their pretrained weights, because a checkpoint with all weights is loaded next.

    A trained model can thereby be restored on a machine that never had the pretrained files.
    """
    token = _wanted.set(False)
    try:
        yield
    finally:
        _wanted.reset(token)


@contextmanager
def with_pretrained() -> Iterator[None]:
    """Load pretrained weights even inside `without_pretrained()`, for frozen parts that are not in checkpoints."""
    token = _wanted.set(True)
    try:
        yield
    finally:
        _wanted.reset(token)


def pretrained_wanted() -> bool:
    """Return whether pretrained weights are to be loaded, which is false inside `without_pretrained()`."""
    return _wanted.get()


def local_folder(source: str, what: str, advice: str) -> Path | None:
    """Return the local folder of a model, or None if `source` is a name on the Hugging Face hub.

    Args:
        source: local folder, where `~` is the user's home, or owner/name on the hub.
        what: name of the kind of model with its article, for the error message.
        advice: advice for the user at the end of the error message.

    Raises:
        InputError: `source` is neither of the two.
    """
    folder = Path(source).expanduser()
    if folder.is_dir():
        return folder
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", source):
        raise InputError(f"there is no folder {source} with {what}: {advice}")
    return None


def model_folder(
    source: str, files: Sequence[str], what: str, option: str, advice: str, also_fetched: Sequence[str] = ()
) -> Path:
    """Return the local folder with the files of a model, downloaded from the Hugging Face hub if `source` is a name.

    Args:
        source: local folder, where `~` is the user's home, or owner/name on the hub.
        files: paths of the required files in the folder.
        what: name of the kind of model with its article, for error messages.
        option: name of the option by which the user gives the folder.
        advice: advice for the user at the end of error messages.
        also_fetched: paths of further files that are downloaded from the hub, but not required of a local folder.

    Raises:
        InputError: the folder or one of its files is missing, or cannot be downloaded.
    """
    folder = local_folder(source, what, advice)
    if folder is not None:
        absent = [name for name in files if not (folder / name).is_file()]
        if absent:
            raise InputError(f"the folder {source} has no {' and no '.join(absent)}: {advice}")
        return folder
    for name in (*files, *also_fetched):
        try:
            file = fetch(source, name, option)
        except InputError as error:
            raise InputError(
                f"there is no folder {source} here, and {name} of {source} could not be fetched from the Hugging Face "
                f"hub: {advice}"
            ) from error
    return file.parents[name.count("/")]


def hub_answers(repository: str) -> bool:
    """Return whether the Hugging Face hub answers a quick request about a repository."""
    from huggingface_hub import hf_hub_url

    try:
        _ask_hub(hf_hub_url(repository, "config.json"))
    except Exception:  # the kind of exception depends on the HTTP client of the hub's library
        return False
    return True


def _ask_hub(url: str) -> None:
    """Send a quick request to the hub, because without a connection a download would retry for most of a minute."""
    from huggingface_hub import constants, get_session

    if constants.HF_HUB_OFFLINE:
        raise OSError("the hub is switched off by HF_HUB_OFFLINE")
    get_session().head(url, timeout=10)


def fetch(repository: str, filename: str, option: str) -> Path:
    """Return a file of the Hugging Face hub from its local cache, after downloading it if it is missing.

    Args:
        repository: repository on the hub, as owner/name.
        filename: path of the file in the repository.
        option: name of the option by which the user can give a local file instead, used in the error message.

    Raises:
        InputError: the file is not in the cache and the hub cannot be reached.
    """
    from huggingface_hub import hf_hub_download, hf_hub_url, try_to_load_from_cache

    cached = try_to_load_from_cache(repository, filename)
    if isinstance(cached, str):
        return Path(cached)
    url = hf_hub_url(repository, filename)
    try:
        _ask_hub(url)
        return Path(hf_hub_download(repository, filename))
    except Exception as error:  # the kind of exception depends on the HTTP client of the hub's library
        raise InputError(
            f"the pretrained weights {filename} of {repository} are not on this machine and could not be fetched "
            f"({str(error).splitlines()[0][:120]}): download {url} elsewhere and give the file by {option}"
        ) from error


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a file of weights as `weights_file.read_file` does.

    Returns:
        Tensors by name, including those of a nested state dict, for example under `state_dict` or `model`.

    Raises:
        InputError: the file cannot be read, or holds no tensors.
    """
    values = read_file(path)
    parts = [values, *values.values()] if isinstance(values, dict) else []
    state = {
        name: value
        for part in parts
        if isinstance(part, dict)
        for name, value in part.items()
        if isinstance(value, Tensor)
    }
    if not state:
        raise InputError(f"weights {path} hold no tensors by name; give the file of a state dict")
    check_tensors({str(name): value for name, value in state.items()}, path)
    return state


def check_shapes(
    theirs: Mapping[str, Tensor], own: Mapping[str, Tensor], path: Path, of: str, advice: str, first: str
) -> None:
    """Refuse weights that are not, name by name, of the shapes and kinds of a network, or not finite.

    Args:
        theirs: weights of the file, by name.
        own: weights of the network that is to load them, by name.
        path: path of the file, used in the error message.
        of: name of the kind of network, used in the error message.
        advice: advice at the end of the error message.
        first: name of the weight that identifies a network best; it is compared first.

    Raises:
        InputError: the weights do not fit.
    """
    for name in (first, *own, *theirs):
        there, here = (str(tuple(state[name].shape)) if name in state else "absent" for state in (theirs, own))
        if there != here:
            raise InputError(f"weights {path} are of another {of}: {name} is {there} there and {here} here; {advice}")
    check_kinds(theirs, own, path)
    check_finite(theirs, own, path)


def unwrapped(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a state dict without the prefixes of wrappers, `module.` (parallel) and `_orig_mod.` (compiled) modules.

    The names of compiled parts contain `_orig_mod.` in the middle too.
    """
    # Keys may be numbers in an unsuitable file; they become text and are reported as unknown names later.
    return {re.sub(r"^(module\.)+", "", str(name).replace("_orig_mod.", "")): value for name, value in state.items()}
