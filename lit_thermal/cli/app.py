"""Verbs of the Trainer (fit, validate, test, predict) as a command line; a config names model, blocks and data."""

import argparse
import contextlib
import importlib
import pkgutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import Namespace, set_parsing_settings
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities.exceptions import MisconfigurationException, SIGTERMException
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from omegaconf.errors import OmegaConfBaseException

from lit_thermal import trust
from lit_thermal.blocks.pretrained import without_pretrained
from lit_thermal.callbacks.keep_config import KeepConfig
from lit_thermal.callbacks.stop_between_steps import StopBetweenSteps
from lit_thermal.cli import quiet, run_folder
from lit_thermal.cli.arguments import sources, with_found_files
from lit_thermal.cli.checked import check_words, read_plainly, read_sources
from lit_thermal.cli.diagnose import explain, refuse_nulls
from lit_thermal.cli.failures import check_wandb, end_workers_that_cannot_send, foreseen, quiet_writers
from lit_thermal.cli.hints import Argument, arguments
from lit_thermal.cli.results import print_results
from lit_thermal.cli.run_folder import short_path
from lit_thermal.cli.run_parts import callbacks_of_run, loggers_of_run
from lit_thermal.cli.start_weights import WHOLE_FILES, choose_weights, load_weights
from lit_thermal.errors import InputError
from lit_thermal.files import check_folder, check_name, locked
from lit_thermal.methods.base import SuperResolver
from lit_thermal.moved import current_option
from lit_thermal.weights.checkpoint import constructor_error
from lit_thermal.weights.checkpoint_io import WholeCheckpointIO

for name in ("blocks", "callbacks", "data", "generative", "losses", "methods", "networks"):
    # jsonargparse knows a class by its short name once its module is imported.
    package = importlib.import_module(f"lit_thermal.{name}")
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        importlib.import_module(module.name)

TOP = {
    "experiment": Argument(str, "run"),
    "seed_everything": Argument(bool | int, 0),
    "trainer": Argument(Any, group=arguments(Trainer)),
    "model": Argument(SuperResolver),
    "data": Argument(LightningDataModule),
    "then_test": Argument(bool, False),
    "out": Argument(str | None, None),
    "ckpt_path": Argument(str | None, None),
    "from": Argument(str | None, None),
}
"""Top-level keys of a config."""

MODE = "omegaconf+"
"""Parser mode for YAML in which `${...}` refers to another value."""


class App(LightningCLI):
    """LightningCLI with one folder per run, defaults for logging and checkpoints, and `--from`.

    Args:
        words: the verb and the words that follow it.
        locks: context that keeps the lock of the run folder until it is closed; by default as long as this object.
    """

    def __init__(self, words: list[str], locks: contextlib.ExitStack | None = None) -> None:
        words = [current_option(word) for word in words]
        self._verb = words[0]
        self._locks = contextlib.ExitStack() if locks is None else locks
        self._stop = StopBetweenSteps()
        self._options = {name for name, _ in sources(words)}
        self._allowed = trust.allowed(trust.CONFIGS)
        set_parsing_settings(omegaconf_absolute_to_relative_paths=True)
        read_plainly(MODE)
        super().__init__(
            SuperResolver,
            LightningDataModule,
            save_config_callback=None,
            seed_everything_default=0,
            # `omegaconf+` resolves ${...} after all files and overrides are read. Errors are raised for `explain`.
            parser_kwargs={"parser_mode": MODE, "allow_abbrev": False, "exit_on_error": False},
            subclass_mode_model=True,
            subclass_mode_data=True,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
            args=words,
        )

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]
        """Return the verb, and the arguments of the Trainer's method that a config cannot set.

        Only this verb gets a parser, because the start would take twice as long with those of all verbs.
        """
        ours = {"model", "dataloaders", "datamodule", "weights_only"}
        verbs = {
            "fit": {"model", "train_dataloaders", "val_dataloaders", "datamodule", "weights_only"},
            "validate": ours | {"verbose"},
            "test": ours | {"verbose"},
            "predict": ours | {"return_predictions"},
        }
        return {self._verb: verbs[self._verb]}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the config keys that this project needs in addition to Lightning's."""
        parser.add_argument("--experiment", type=str, default="run", help="Name of the folder that contains the runs.")
        parser.add_argument(
            "--from",
            type=str | None,
            default=None,
            metavar="CKPT",
            help="Checkpoint from which all matching weights are loaded; `last` or `best`: from the newest run.",
        )
        parser.add_argument(
            "--then_test",
            type=bool,
            default=False,
            help="Test the best checkpoint after training (`fit` only).",
        )

        parser.add_argument(
            "--out",
            type=str | None,
            default=None,
            metavar="FOLDER",
            help="Empty or new folder for the results of `predict` (default: predictions in the run folder).",
        )

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse the command line; a mistake raises an `InputError` of one sentence."""
        check_words(args[1:], self._allowed)
        try:
            self.config = parser.parse_args(args)
            trust.check_classes(self.config[self.config.subcommand], "the config", self._allowed)
        except (argparse.ArgumentError, OmegaConfBaseException, InputError) as error:
            raise InputError(explain(error, read_sources(args[1:]), TOP, self._allowed)) from error
        except RecursionError as error:
            raise InputError("the config has classes within classes too deep to be read: write it flatter") from error
        seed = self.config[self.config.subcommand].seed_everything
        if not 0 <= seed < 2**32:
            raise InputError(f"seed_everything is {seed} and must be from 0 to {2**32 - 1}")

    def _parse_ckpt_path(self) -> None:
        # Lightning would replace the model's settings in the config and on the command line by those in the checkpoint.
        pass

    def before_instantiate_classes(self) -> None:
        """Find the requested checkpoint and create the run folder."""
        verb = str(self.subcommand)
        config = self.config[verb]
        tree = yaml.safe_load(self.parser.dump(self.config, skip_unset=False))[verb]
        for key in ("model", "data"):
            refuse_nulls(tree[key], TOP[key].hint, key, self._allowed)
        if config.experiment in ("", ".", "..") or {"/", "\\", "\0"} & set(config.experiment):
            raise InputError(f"experiment is {config.experiment!r}; it names one folder, without / or \\")
        check_name(config.experiment)
        if verb == "predict" and config.out is not None and _is_first():
            check_folder(config.out, "--out")
            if Path(config.out).is_dir() and any(Path(config.out).iterdir()):
                raise InputError(f"--out {config.out} is not empty: name a new folder")
        experiment = Path(config.trainer.default_root_dir or run_folder.ROOT).absolute() / config.experiment
        self._checkpoint = choose_weights(config, experiment, self._options, _is_first())
        self._made: Path | None = None
        resumed = run_folder.folder_of(Path(config.ckpt_path), experiment) if config.ckpt_path else None
        file_name = "config.yaml"
        if verb == "fit" and resumed is not None:
            self.folder = resumed
            file_name = f"config-resumed-{time.strftime('%Y%m%d-%H%M%S')}.yaml"
        elif _is_first():
            self._made = self.folder = run_folder.new_folder(experiment, verb)
        else:
            self.folder = experiment  # until `KeepConfig` sends the run folder of the first process
        if verb == "fit" and _is_first():
            self._locks.enter_context(
                locked(self.folder / run_folder.LOCK, f"the run folder {short_path(self.folder)}")
            )
        for key in ("ckpt_path", "from"):
            tree[key] = config[key] and str(Path(config[key]).absolute())
        self._model_config = tree["model"]
        self._keep_config = KeepConfig(self.folder, yaml.safe_dump(tree, sort_keys=False), file_name)
        for spec in _specs(config.trainer.logger):
            if "save_dir" in spec.get("init_args", {}):
                spec.init_args.save_dir = str(self.folder / (spec.init_args.save_dir or ""))

    def instantiate_classes(self) -> None:
        """Build data, model and trainer, and load the requested weights."""
        try:
            # A checkpoint holds all weights, so that pretrained files are not needed on this machine.
            whole = bool(self.config[self.subcommand].ckpt_path)
            with without_pretrained() if whole else contextlib.nullcontext():
                super().instantiate_classes()
            self.model.config = self._model_config
            checkpoint, self._checkpoint = self._checkpoint, None  # the memory is free once the weights are copied
            config = self.config[self.subcommand]
            load_weights(str(self.subcommand), config, self.model, self._model_config, self.trainer, checkpoint)
        except BaseException as error:
            run_folder.discard(self._made)
            if isinstance(error, ValueError):
                raise constructor_error(error) from None
            raise

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Build the trainer with the run folder, and with default callbacks and loggers if the config names none."""
        verb, config = str(self.subcommand), self.config_init[self.subcommand]
        callbacks = callbacks_of_run(verb, config, self.folder, [self._keep_config, self._stop])
        logger = loggers_of_run(config.trainer.logger, self.folder)
        try:
            trainer = super().instantiate_trainer(
                default_root_dir=str(self.folder), callbacks=callbacks, logger=logger, **kwargs
            )
        except (ValueError, ModuleNotFoundError) as error:  # all arguments of the Trainer come from the config
            raise InputError(f"trainer: {error}") from error
        check_wandb(trainer)
        if isinstance(trainer.strategy, WHOLE_FILES) and type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
            trainer.strategy.checkpoint_io = WholeCheckpointIO()
        return trainer

    def fit(self, **kwargs: Any) -> None:
        """Train, and with `then_test` test the best checkpoint (the last weights if no metric was monitored)."""
        then_test = self.config[self.subcommand].then_test
        if then_test and hasattr(self.datamodule, "target_sizes"):
            # Mistakes in the test data are reported before the training.
            self._run(self.datamodule.setup, {"stage": "test"}, show_results=False)
        self._run(self.trainer.fit, kwargs, show_results=not then_test)
        if not then_test:
            return
        saved = getattr(self.trainer.checkpoint_callback, "best_model_path", "")
        self._set_seed()  # the test draws the same random numbers as a separate `test` run
        arguments = {"model": self.model, "datamodule": self.datamodule, "ckpt_path": saved or None, "verbose": False}
        self._run(self.trainer.test, arguments)

    def validate(self, **kwargs: Any) -> None:
        """Measure on the validation data."""
        self._run(self.trainer.validate, kwargs)

    def test(self, **kwargs: Any) -> None:
        """Measure on the test data; the model prints its table."""
        self._run(self.trainer.test, kwargs | {"verbose": False})

    def predict(self, **kwargs: Any) -> None:
        """Restore the prediction data; `PredictionWriter`, or a writer from the config, saves each finished batch."""
        self._run(self.trainer.predict, kwargs | {"return_predictions": False})

    def _run(self, verb: Callable[..., Any], arguments: dict[str, Any], show_results: bool = True) -> None:
        # Processes of a distributed run must stop at once: a process that takes another step would wait for the others.
        alone = self.trainer.world_size == 1
        try:
            with self._stop.listening() if alone else contextlib.nullcontext(), quiet_writers():
                verb(**arguments)
        except (InputError, MisconfigurationException):
            if self.trainer.global_step == 0:
                run_folder.discard(self._made)
            raise
        except Exception as error:
            explained = foreseen(error, self.trainer)
            if explained is None:
                raise
            if self.trainer.global_step == 0:
                run_folder.discard(self._made)
            raise explained from error
        except SIGTERMException:
            print_results(self.trainer, str(self.subcommand))
            raise
        except SystemExit:
            # Lightning ends an interrupted run gracefully and then exits with code 1.
            if not self.trainer.interrupted:
                raise
            print_results(self.trainer, str(self.subcommand))
            raise KeyboardInterrupt from None
        if show_results:
            print_results(self.trainer, str(self.subcommand))


def run(words: list[str]) -> int:
    """Run a verb of the Trainer.

    Args:
        words: the verb and the words that follow it.

    Returns:
        The exit code.
    """
    quiet.silence()
    end_workers_that_cannot_send()
    try:
        with contextlib.ExitStack() as locks, trust.only(trust.allowed(trust.CONFIGS)):
            App([words[0], *with_found_files(words[1:])], locks)
    except SIGTERMException:  # is a SystemExit
        return 128 + signal.SIGTERM
    except SystemExit as leave:  # --help, --print_config
        return int(leave.code or 0)
    except MisconfigurationException as error:
        raise InputError(str(error)) from error
    return 0


def _is_first() -> bool:
    """Return whether this is the process of rank 0, which makes and locks the run folder."""
    return int(getattr(rank_zero_only, "rank", 0)) == 0


def _specs(value: Any) -> list[Namespace]:
    """Return the class paths with arguments among the values of a key that takes one or a list."""
    values = value if isinstance(value, list) else [value]
    return [v for v in values if isinstance(v, Namespace) and "class_path" in v]
