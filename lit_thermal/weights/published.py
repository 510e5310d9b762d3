"""Published models: a folder with weights as safetensors, the record of the model, and a card; nothing in it is run."""

import json
from pathlib import Path
from typing import Any

import lit_thermal
from lit_thermal.errors import InputError, short
from lit_thermal.files import replacing, write_text
from lit_thermal.plain_files import read_json
from lit_thermal.weights.find import CARD, CONFIG, WEIGHTS, is_hub_id
from lit_thermal.weights.model_card import model_card
from lit_thermal.weights_file import read_file

_KEPT = ("model", "version", "normalize", "training_seconds", "training_steps")


def read_published(folder: Path) -> dict[str, Any]:
    """Read a published model as a checkpoint: `state_dict`, and `lit_thermal`, the record of the model.

    Raises:
        InputError: a file cannot be read, or the config has no record of a model.
    """
    config = read_json(folder / CONFIG, "the config of a published model")
    record = config.get("lit_thermal") if isinstance(config, dict) else None
    if not isinstance(record, dict) or not isinstance(record.get("model"), dict):
        raise InputError(f"{folder / CONFIG} has no record of a model under 'lit_thermal': publish the model again")
    return {"state_dict": read_file(folder / WEIGHTS, "published weights"), "lit_thermal": record}


def fetched(name: str) -> Path:
    """Return the folder of a model of the hub, after downloading its weights and its config if they are missing.

    Raises:
        InputError: the hub cannot be reached, or has no such model.
    """
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=[WEIGHTS, CONFIG]))
    except Exception as error:  # the kind of exception depends on the HTTP client of the hub's library
        raise InputError(
            f"there is no file or folder {name}, and {name} could not be fetched from the hub ({short(error)}): give "
            "an existing checkpoint, or download the model elsewhere and give its folder"
        ) from error


def publish(
    checkpoint: dict[str, Any],
    target: str,
    *,
    metrics: dict[str, Any] | None = None,
    license: str = "apache-2.0",
    overwrite: bool = False,
) -> str:
    """Write a checkpoint as a published model to a folder, or upload it to the hub.

    Args:
        checkpoint: checkpoint whose weights fit its recorded model.
        target: folder, or `owner/name` on the hub, where the user is logged in by `hf auth login`.
        metrics: record of the run's test, from which the card is made.
        license: licence of the weights, as the hub names it.
        overwrite: replace the files of an earlier publication.

    Returns:
        The folder or the address of the model.

    Raises:
        InputError: the folder holds a model already, or cannot be written, or the upload fails.
    """
    if is_hub_id(target):
        return _upload(checkpoint, target, metrics, license)
    write_published(checkpoint, Path(target), metrics=metrics, license=license, overwrite=overwrite)
    return target


def write_published(
    checkpoint: dict[str, Any],
    folder: Path,
    *,
    name: str | None = None,
    metrics: dict[str, Any] | None = None,
    license: str = "apache-2.0",
    overwrite: bool = False,
) -> None:
    """Write weights, config and card to a folder; arguments as in `publish`."""
    from safetensors.torch import save_file

    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file: give a folder, or owner/name on the hub")
    if not overwrite and any((folder / file).exists() for file in (WEIGHTS, CONFIG, CARD)):
        raise InputError(f"{folder} holds a published model: choose another folder or give --overwrite")
    record = {key: checkpoint["lit_thermal"].get(key) for key in _KEPT}
    # safetensors refuses tensors that share memory
    state = {key: value.clone().contiguous() for key, value in checkpoint["state_dict"].items()}
    with replacing(folder / WEIGHTS) as aside:
        save_file(state, aside, metadata={"format": "pt"})
    text = json.dumps({"lit_thermal": record, "library_name": "lit_thermal"}, indent=2)
    write_text(folder / CONFIG, text + "\n")
    values = sum(value.numel() for value in state.values())
    card = model_card(name or str(folder), record, values, metrics, license, lit_thermal.__version__)
    write_text(folder / CARD, card)


def _upload(checkpoint: dict[str, Any], name: str, metrics: dict[str, Any] | None, license: str) -> str:
    import tempfile

    from huggingface_hub import HfApi

    with tempfile.TemporaryDirectory() as folder:
        write_published(checkpoint, Path(folder), name=name, metrics=metrics, license=license)
        try:
            hub = HfApi()
            address = hub.create_repo(name, exist_ok=True)
            hub.upload_folder(repo_id=name, folder_path=folder, commit_message="Weights, config and card")
        except Exception as error:  # the kind of exception depends on the HTTP client of the hub's library
            raise InputError(
                f"{name} could not be uploaded ({short(error)}): log in by `hf auth login`, or give a folder such as "
                f"./{name}"
            ) from error
    return str(address)
