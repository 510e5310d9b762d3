"""The verbs of Lightning's Trainer, with model, data and every block given by name in the config."""

import argparse
import contextlib
import importlib
import os
import pkgutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import Namespace, set_parsing_settings
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import Callback, LightningDataModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter, Checkpoint, ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from lightning.pytorch.utilities.exceptions import MisconfigurationException, SIGTERMException
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from omegaconf.errors import OmegaConfBaseException

from lit_thermal import trust
from lit_thermal.blocks.pretrained import without_pretrained
from lit_thermal.callbacks import GalleryFrames, NonFiniteGuard, PredictionWriter
from lit_thermal.cli import quiet, run_folder
from lit_thermal.cli.arguments import sources, with_found_files
from lit_thermal.cli.checked import check_words, read_plainly, read_sources
from lit_thermal.cli.diagnose import explain, refuse_nulls
from lit_thermal.cli.failures import check_wandb, end_workers_that_cannot_send, foreseen, quiet_writers
from lit_thermal.cli.hints import Argument, arguments
from lit_thermal.cli.keep import BestAndLast, KeepConfig, StepSeeds, StopBetweenSteps, TellProgress
from lit_thermal.cli.run_folder import short_path
from lit_thermal.errors import InputError
from lit_thermal.files import check_name, locked
from lit_thermal.methods.base import SuperResolver
from lit_thermal.sweeping.runner import PROGRESS_FILE
from lit_thermal.weights import check_fit, read_checkpoint, transplant
from lit_thermal.weights.checkpoint import check_resumes, check_training, constructor_error
from lit_thermal.weights.checkpoint_io import WholeCheckpointIO
from lit_thermal.weights.schedule import rates_ahead, told

for name in ("blocks", "callbacks", "data", "generative", "losses", "methods", "networks"):
    # a class is known by its short name once its module is imported
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
    "ckpt_path": Argument(str | None, None),
    "from": Argument(str | None, None),
}
"""The keys at the top of a config."""

MODE = "omegaconf+"
"""How the parser reads values: with `${...}` that names another value."""

WHOLE_FILES = (SingleDeviceStrategy, DDPStrategy)
"""Strategies that write a checkpoint as one file; the sharded ones write folders, which they alone can read."""


class App(LightningCLI):
    """LightningCLI with one folder per run, defaults for logging and checkpoints, and `--from`.

    Args:
        words: the verb and what follows it.
        held: keeps the lock of the run folder until it is closed.
    """

    def __init__(self, words: list[str], held: contextlib.ExitStack) -> None:
        self._verb = words[0]
        self._held = held
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
            # `omegaconf+` resolves ${...} after all files and overrides; errors are raised for `explain`
            parser_kwargs={"parser_mode": MODE, "allow_abbrev": False, "exit_on_error": False},
            subclass_mode_model=True,
            subclass_mode_data=True,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
            args=words,
        )

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]
        """Return the verb with the arguments of the Trainer's method that a config does not give.

        The verb is known before anything is parsed, and with the parsers of the others a start takes twice as long.
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
        """Add the keys that all verbs have besides Lightning's."""
        parser.add_argument("--experiment", type=str, default="run", help="Name of the folder that holds the runs.")
        parser.add_argument(
            "--from",
            type=str | None,
            default=None,
            metavar="CKPT",
            help="Checkpoint to take every weight from that fits; `last` and `best` name the newest run's.",
        )
        parser.add_argument(
            "--then_test",
            type=bool,
            default=False,
            help="Whether `fit` measures its best checkpoint on the test data when it has trained.",
        )

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse the words; a mistake is told in one sentence."""
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
            raise InputError(f"seed_everything is {seed} and must lie from 0 to {2**32 - 1}")

    def _parse_ckpt_path(self) -> None:
        # Lightning would replace what the config and the command line say about the model by what the checkpoint says.
        pass

    def before_instantiate_classes(self) -> None:
        """Find the checkpoint that was asked for and make the run folder."""
        verb = str(self.subcommand)
        config = self.config[verb]
        tree = yaml.safe_load(self.parser.dump(self.config, skip_unset=False))[verb]
        for key in ("model", "data"):
            refuse_nulls(tree[key], TOP[key].hint, key, self._allowed)
        if config.experiment in ("", ".", "..") or {"/", "\\", "\0"} & set(config.experiment):
            raise InputError(f"experiment is {config.experiment!r}; it names one folder, without / or \\")
        check_name(config.experiment)
        experiment = Path(config.trainer.default_root_dir or run_folder.ROOT).absolute() / config.experiment
        self._choose_weights(config, experiment)
        self._made: Path | None = None
        resumed = run_folder.folder_of(Path(config.ckpt_path), experiment) if config.ckpt_path else None
        file_name = "config.yaml"
        if verb == "fit" and resumed is not None:
            self.folder = resumed
            file_name = f"config-resumed-{time.strftime('%Y%m%d-%H%M%S')}.yaml"
        elif _is_first():
            self._made = self.folder = run_folder.new_folder(experiment, verb)
        else:
            self.folder = experiment  # until the first process tells which run it made
        if verb == "fit" and _is_first():
            self._held.enter_context(locked(self.folder / run_folder.LOCK, f"the run folder {short_path(self.folder)}"))
        for key in ("ckpt_path", "from"):
            tree[key] = config[key] and str(Path(config[key]).absolute())
        self._model_config = tree["model"]
        self._keep_config = KeepConfig(self.folder, yaml.safe_dump(tree, sort_keys=False), file_name)
        for spec in _specs(config.trainer.logger):
            if "save_dir" in spec.get("init_args", {}):
                spec.init_args.save_dir = str(self.folder / (spec.init_args.save_dir or ""))

    def _choose_weights(self, config: Namespace, experiment: Path) -> None:
        """Resolve `last` and `best`, and read the checkpoint before anything is made for the run."""
        found: list[str] = []
        for key in ("ckpt_path", "from"):
            if (which := config[key]) in ("last", "best"):
                # the first process of several may have made its own run folder by now, which is newer
                config[key] = str(short_path(run_folder.find_checkpoint(experiment, which, strict=_is_first())))
                found.append(f"{which} checkpoint of {experiment.name}: {config[key]}")
        if config.ckpt_path and config["from"]:
            if {"--ckpt_path", "--from"} <= self._options:
                raise InputError("--ckpt_path and --from exclude each other: one needs every weight to fit")
            config["ckpt_path" if "--from" in self._options else "from"] = None
        for key in ("ckpt_path", "from"):
            if config[key] and "://" in config[key]:  # Lightning would fetch it and run what it says
                raise InputError(f"{key} {config[key]} is an address: download the file and give its path")
        path = config.ckpt_path or config["from"]
        for line in found:
            if path and line.endswith(f": {path}"):
                _print(line)
        self._checkpoint = read_checkpoint(path) if path and not (config.ckpt_path and os.path.isdir(path)) else None

    def instantiate_classes(self) -> None:
        """Build data, model and trainer, and take the weights that were asked for."""
        try:
            # a checkpoint holds every weight: what a block would start from need not be on this machine
            whole = bool(self.config[self.subcommand].ckpt_path)
            with without_pretrained() if whole else contextlib.nullcontext():
                super().instantiate_classes()
            self._take_weights()
        except BaseException as error:
            run_folder.discard(self._made)
            if isinstance(error, ValueError):
                raise constructor_error(error) from None
            raise

    def _take_weights(self) -> None:
        """Check that the checkpoint to load fits, or take from it what does."""
        self.model.config = self._model_config
        config = self.config[self.subcommand]
        checkpoint, self._checkpoint = self._checkpoint, None
        if config.ckpt_path:
            if checkpoint is None and isinstance(self.trainer.strategy, WHOLE_FILES):
                checkpoint = read_checkpoint(config.ckpt_path)  # a folder: says so
            if checkpoint is not None:
                check_fit(self.model, checkpoint, config.ckpt_path)
                if self.subcommand == "fit":
                    check_training(checkpoint, config.ckpt_path)
                    schedule = told(rates_ahead(self.model, checkpoint, self.trainer.max_steps))
                    check_resumes(self._model_config, checkpoint, config.ckpt_path, schedule)
                    if schedule:
                        _print(f"the training goes on from step {checkpoint['global_step']}: {schedule}")
                if "pytorch-lightning_version" not in checkpoint:  # Lightning fails without it
                    raise InputError(f"{config.ckpt_path} was not written by `fit`; give it by --from instead")
        elif checkpoint is not None:
            taken = transplant(self.model, checkpoint["state_dict"], config["from"])
            _print(f"weights from {config['from']}:\n{taken.table()}")
        elif self.subcommand != "fit" and any(True for _ in self.model.parameters()):
            _print("neither --ckpt_path nor --from was given: the weights are those of a new model")

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Build the trainer with this run's folder, and with loggers and checkpoints where the config names none."""
        config = self.config_init[self.subcommand].trainer
        given = config.callbacks
        callbacks = [self._keep_config, self._stop, *([given] if isinstance(given, Callback) else given or [])]
        if PROGRESS_FILE in os.environ:
            callbacks.append(TellProgress(Path(os.environ[PROGRESS_FILE])))
        checkpoints = (self.folder / "checkpoints").resolve()
        for callback in callbacks:
            if isinstance(callback, ModelCheckpoint) and callback.dirpath is None:
                callback.dirpath = str(checkpoints)
        if self.subcommand == "fit":
            if not any(isinstance(c, NonFiniteGuard) for c in callbacks):
                callbacks.insert(0, NonFiniteGuard())
            if config.enable_checkpointing is not False and not any(isinstance(c, Checkpoint) for c in callbacks):
                callbacks.append(BestAndLast(checkpoints))
            seed = self.config[self.subcommand].seed_everything
            if seed is not False:
                callbacks.append(StepSeeds(seed))
        tests = self.subcommand == "test" or (self.subcommand == "fit" and self.config[self.subcommand].then_test)
        if tests and not any(isinstance(c, GalleryFrames) for c in callbacks):
            callbacks.append(GalleryFrames())
        if self.subcommand == "predict" and not any(isinstance(c, BasePredictionWriter) for c in callbacks):
            callbacks.append(PredictionWriter())
        logger = config.logger
        if logger is None or logger is True:
            logger = [
                CSVLogger(self.folder, name="csv"),
                TensorBoardLogger(self.folder, name="tensorboard", default_hp_metric=False),
            ]
        try:
            trainer = super().instantiate_trainer(
                default_root_dir=str(self.folder), callbacks=callbacks, logger=logger, **kwargs
            )
        except (ValueError, ModuleNotFoundError) as error:  # all that the Trainer gets comes from the config
            raise InputError(f"trainer: {error}") from error
        check_wandb(trainer)
        if isinstance(trainer.strategy, WHOLE_FILES) and type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
            trainer.strategy.checkpoint_io = WholeCheckpointIO()
        return trainer

    def fit(self, **kwargs: Any) -> None:
        """Train, and where `then_test` says so test the best checkpoint (the last weights if none was monitored)."""
        then_test = self.config[self.subcommand].then_test
        if then_test and hasattr(self.datamodule, "target_sizes"):
            # what the test cannot take is told before the training
            self._run(self.datamodule.setup, {"stage": "test"}, tell=False)
        self._run(self.trainer.fit, kwargs, tell=not then_test)
        if not then_test:
            return
        saved = getattr(self.trainer.checkpoint_callback, "best_model_path", "")
        self._set_seed()  # whatever training drew, the test is that of a run of its own
        arguments = {"model": self.model, "datamodule": self.datamodule, "ckpt_path": saved or None, "verbose": False}
        self._run(self.trainer.test, arguments)

    def validate(self, **kwargs: Any) -> None:
        """Measure on the validation data."""
        self._run(self.trainer.validate, kwargs)

    def test(self, **kwargs: Any) -> None:
        """Measure on the test data; the model prints its table."""
        self._run(self.trainer.test, kwargs | {"verbose": False})

    def predict(self, **kwargs: Any) -> None:
        """Restore the prediction data; `PredictionWriter`, or the config's own, writes each batch as it comes."""
        self._run(self.trainer.predict, kwargs | {"return_predictions": False})

    def _run(self, verb: Callable[..., Any], arguments: dict[str, Any], tell: bool = True) -> None:
        # processes of a distributed run must stop at once: one that takes another step would wait for the others
        alone = self.trainer.world_size == 1
        try:
            with self._stop.listening() if alone else contextlib.nullcontext(), quiet_writers():
                verb(**arguments)
        except (InputError, MisconfigurationException):
            if self.trainer.global_step == 0:
                run_folder.discard(self._made)
            raise
        except Exception as error:
            told = foreseen(error, self.trainer)
            if told is None:
                raise
            if self.trainer.global_step == 0:
                run_folder.discard(self._made)
            raise told from error
        except SIGTERMException:
            self._tell_where()
            raise
        except SystemExit:
            # Lightning ends an interrupted run gracefully and then leaves with code 1
            if not self.trainer.interrupted:
                raise
            self._tell_where()
            raise KeyboardInterrupt from None
        if tell:
            self._tell_where()

    @rank_zero_only
    def _tell_where(self) -> None:
        """Print where the results are."""
        print(f"run folder: {short_path(self.trainer.default_root_dir)}")
        for callback in self.trainer.checkpoint_callbacks if self.subcommand == "fit" else ():
            if isinstance(callback, ModelCheckpoint) and callback.best_model_path:
                score = callback.best_model_score
                measured = f"   ({callback.monitor} {score:.4g})" if score is not None else ""
                print(f"best checkpoint: {short_path(callback.best_model_path)}{measured}")
            if isinstance(callback, ModelCheckpoint) and callback.last_model_path:
                print(f"last checkpoint: {short_path(callback.last_model_path)}")
        folders = {"samples": "sample pictures", "gallery": "pictures for reports", "predictions": "restored frames"}
        for name, what in folders.items():
            written = Path(self.trainer.default_root_dir) / name
            if written.is_dir():
                print(f"{what}: {short_path(written)}")


def run(words: list[str]) -> int:
    """Run a verb of the Trainer.

    Args:
        words: the verb and what follows it.

    Returns:
        The exit code.
    """
    quiet.silence()
    end_workers_that_cannot_send()
    try:
        with contextlib.ExitStack() as held, trust.only(trust.allowed(trust.CONFIGS)):
            App([words[0], *with_found_files(words[1:])], held)
    except SIGTERMException:  # is a SystemExit
        return 128 + signal.SIGTERM
    except SystemExit as leave:  # --help, --print_config
        return int(leave.code or 0)
    except MisconfigurationException as error:
        raise InputError(str(error)) from error
    return 0


def _is_first() -> bool:
    """Whether this is the process of rank 0, which makes and locks the run folder."""
    return int(getattr(rank_zero_only, "rank", 0)) == 0


@rank_zero_only
def _print(text: str) -> None:
    print(text, flush=True)


def _specs(value: Any) -> list[Namespace]:
    """Return the class paths with arguments among the values of a key that takes one or a list."""
    values = value if isinstance(value, list) else [value]
    return [v for v in values if isinstance(v, Namespace) and "class_path" in v]
