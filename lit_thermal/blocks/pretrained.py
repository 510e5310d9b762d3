"""Weights that others trained: fetched from the Hugging Face hub or given as a file, skipped where they are moot."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lit_thermal.errors import InputError

_wanted: ContextVar[bool] = ContextVar("pretrained_wanted", default=True)


@contextmanager
def without_pretrained() -> Iterator[None]:
    """Build models without their pretrained weights, because a checkpoint with every weight is loaded next.

    A trained model can so be restored on a machine that never had the pretrained files.
    """
    token = _wanted.set(False)
    try:
        yield
    finally:
        _wanted.reset(token)


@contextmanager
def with_pretrained() -> Iterator[None]:
    """Fetch pretrained weights also inside `without_pretrained`: for parts that are frozen and in no checkpoint."""
    token = _wanted.set(True)
    try:
        yield
    finally:
        _wanted.reset(token)


def pretrained_wanted() -> bool:
    """False inside `without_pretrained`."""
    return _wanted.get()


def fetch(repository: str, filename: str, option: str) -> Path:
    """Return a file of the Hugging Face hub, from its local cache or downloaded into it.

    Args:
        repository: owner/name on the hub.
        filename: in the repository.
        option: what the user sets to give the file by path instead, for the sentence.

    Raises:
        InputError: the file is not in the cache and the hub cannot be reached.
    """
    from huggingface_hub import constants, get_session, hf_hub_download, hf_hub_url, try_to_load_from_cache

    cached = try_to_load_from_cache(repository, filename)
    if isinstance(cached, str):
        return Path(cached)
    url = hf_hub_url(repository, filename)
    try:
        if constants.HF_HUB_OFFLINE:
            raise OSError("the hub is switched off by HF_HUB_OFFLINE")
        # One quick look first: offline, the download itself would try again for most of a minute.
        get_session().head(url, timeout=10)
        return Path(hf_hub_download(repository, filename))
    except Exception as error:  # whatever client the hub's library uses raises its own kinds
        raise InputError(
            f"the pretrained weights {filename} of {repository} are not on this machine and could not be fetched "
            f"({str(error).splitlines()[0][:120]}): download {url} elsewhere and give the file by {option}"
        ) from error


def read_held(path: Path) -> Any:
    """Read a file of weights (.safetensors, or what `torch.save` wrote) onto the CPU as it is; no code in it is run.

    Raises:
        InputError: it cannot be read, or holds more than tensors and plain values.
    """
    from safetensors.torch import load_file

    try:
        return load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except Exception as error:  # what a reader trips over first depends on the file
        reason = str(error).splitlines()[0].split(". ")[0][:120]
        raise InputError(
            f"weights {path} cannot be read ({reason}): the file is damaged, or holds more than tensors"
        ) from error


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a file of weights as `read_held` does.

    Returns:
        Name to tensor; a state dict inside, as under `state_dict` or `model`, is unfolded.

    Raises:
        InputError: it cannot be read, or holds no tensors.
    """
    held = read_held(path)
    parts = [held, *held.values()] if isinstance(held, dict) else []
    state = {
        name: value
        for part in parts
        if isinstance(part, dict)
        for name, value in part.items()
        if isinstance(value, Tensor)
    }
    if not state:
        raise InputError(f"weights {path} hold no tensors by name; give the file of a state dict")
    return state


def check_shapes(
    theirs: Mapping[str, Tensor], own: Mapping[str, Tensor], path: Path, of: str, advice: str, first: str
) -> None:
    """Refuse weights that are not, name by name, of the shapes of a network.

    Args:
        theirs: the weights of a file.
        own: those of the network that is to take them.
        path: the file.
        of: what the sentence calls such a network.
        advice: what to do.
        first: name of the weight that says most about which network a file is of; it is looked at first.

    Raises:
        InputError: they are not.
    """
    for name in (first, *own, *theirs):
        there, here = (str(tuple(state[name].shape)) if name in state else "absent" for state in (theirs, own))
        if there != here:
            raise InputError(f"weights {path} are of another {of}: {name} is {there} there and {here} here; {advice}")


def unwrapped(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a state dict without what wrappers put before its names: `module.` of parallel, `_orig_mod.` of compiled.

    Compiled parts have it in the middle of names too.
    """
    # a file may hold tensors by numbers too: they stay what does not belong there
    return {re.sub(r"^(module\.)+", "", str(name).replace("_orig_mod.", "")): value for name, value in state.items()}
