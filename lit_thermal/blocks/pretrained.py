"""Weights that others trained: fetched from the Hugging Face hub or given as a file, skipped where they are moot."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

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
