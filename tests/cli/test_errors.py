"""Every mistake in a config is reported in one sentence, with the key, what was given and the nearest names."""

import pytest
from toy import CONFIG

IN_FILES = [
    ("heads: 3", "headz: 3", "bad.yaml: model.mixer.headz: GatedMixer has no 'headz'; did you mean heads?"),
    ("heads: 3", "heads: many", "bad.yaml: model.mixer.heads: an integer is expected, not 'many'"),
    ("GatedMixer", "GatdMixer", "bad.yaml: model.mixer: there is no Mixer 'GatdMixer'; did you mean GatedMixer"),
    ("class_path: StandIn\n", "class_path: StanIn\n", "there is no SuperResolver 'StanIn'; did you mean StandIn"),
    (
        "class_path: StandIn\n",
        "class_path: nowhere.StandIn\n",
        "bad.yaml: model: 'nowhere.StandIn' is outside the",
    ),
    (
        "class_path: StandIn\n",
        "class_path: stand_in.A.StandIn\n",
        "no SuperResolver 'stand_in.A.StandIn'; did you mean",
    ),
    ("class_path: StandIn\n", "class_path: OtherStandIn\n", "model.mixer: OtherStandIn has no 'mixer' (it has scale)"),
    ("class_path: StandInData", "class_path: StandinDat", "no LightningDataModule 'StandinDat'; did you mean StandInD"),
    ("model:\n", "modle:\n", "bad.yaml: modle: the config has no 'modle'; did you mean model?"),
    ("init_args: {heads: 3}", "heads: 3", "model.mixer.heads: class_path and init_args are expected, not 'heads'"),
    ("max_epochs: 2", "max_epoch: 2", "trainer.max_epoch: trainer has no 'max_epoch'; did you mean max_epochs"),
    ("max_epochs: 2", "max_epochs: two", "trainer.max_epochs: an integer or null is expected, not 'two'"),
    (
        "max_epochs: 2",
        "max_epochs: ${oc.env:NO_SUCH}",
        "trainer.max_epochs refers to the environment variable 'NO_SUCH'",
    ),
    ("max_epochs: 2", "max_epochs: ${", "trainer.max_epochs: "),
    (
        "data.init_args.scale",
        "data.init_args.scal",
        "refers to ${data.init_args.scal}, which the config does not have; did",
    ),
    ("data.init_args.scale", "data.init_args.scal", "did you mean ${data.init_args.scale}"),
    ("accelerator: cpu", "callbacks: [{class_path: EarlyStoping}]", "no Callback 'EarlyStoping'; did you mean EarlySt"),
    (
        "accelerator: cpu",
        "callbacks: [EarlyStopping]",
        "trainer.callbacks.0: EarlyStopping needs the argument 'monitor'",
    ),
    (
        "{class_path: GatedMixer, init_args: {heads: 3}}",
        "NeedyMixer",
        "model.mixer: NeedyMixer needs the argument 'rank'",
    ),
    ("model:\n", "model: [a\n", "bad.yaml, line 4, column 13: not YAML: "),
    (CONFIG, "- a\n", "bad.yaml holds list"),
    (CONFIG, "trainer: 3\n", "bad.yaml: trainer: keys and values are expected, not 3"),
    (CONFIG, "", "bad.yaml holds no keys and values: write some, or leave the file out"),
    ("accelerator: cpu", "accelerator: quantum", "trainer: You selected an invalid accelerator name"),
]

IN_THE_SHELL = [
    ("--model.mixr=PlainMixer", "--model.mixr=PlainMixer: StandIn has no 'mixr'; did you mean mixer?"),
    ("--model.mixer=PlanMixer", "there is no Mixer 'PlanMixer'; did you mean PlainMixer"),
    ("--model.mixer=StandIn", "there is no Mixer 'StandIn' (known: GatedMixer, NeedyMixer, PlainMixer)"),
    ("--model.mixer.class_path=PlainMixr", "did you mean PlainMixer?"),
    ("--model.mixer={class_path: GatedMixer, init_args: {hads: 3}}", "GatedMixer has no 'hads'; did you mean heads?"),
    ("--model.mixer.head=3", "--model.mixer.head=3: GatedMixer has no 'head'; did you mean heads?"),
    ("--model.init_args.mixer.init_args.head=3", "GatedMixer has no 'head'; did you mean heads?"),
    ("--model.mixer.gate=sigmod", "sigmoid or tanh is expected, not 'sigmod'; did you mean sigmoid?"),
    ("--model.mixer=null", "model.mixer cannot be null"),
    ("--model.depth=null", "model.depth cannot be null: an integer is expected"),
    ("--model.gate=tanh", "StandIn has no 'gate'; did you mean model.mixer.gate?"),
    ("--model.depth=three", "--model.depth=three: an integer is expected, not 'three'"),
    ("--model.depth", "--model.depth needs a value"),
    ("--model=StandOut", "there is no SuperResolver 'StandOut'; did you mean StandIn?"),
    ("--model.optimizer=Adm", "there is no Optimizer 'Adm'; did you mean Adam"),
    ("--model.optimizer.lrr=1e-3", "Adam has no 'lrr'; did you mean lr?"),
    ("--model.lr_scheduler=CosineAnnealing", "did you mean CosineAnnealingLR"),
    ("--trainer.max_epo=3", "trainer has no 'max_epo'; did you mean max_epochs"),
    ("--trainer.callbacks+=EMAA", "there is no Callback 'EMAA'; did you mean EMA?"),
    ("--trainer.callbacks.0=EMA", "items of a list cannot be set one by one"),
    ("--scale=3", "did you mean model.scale or data.scale?"),
    ("--seed_everything=-1", "seed_everything is -1 and must be from 0 to 4294967295"),
    ("--nothing=3", "the config has no 'nothing' (it has experiment, "),
    ("stray", "'stray' is not an option"),
    ("--ckpt_path=no.ckpt", "there is no checkpoint no.ckpt"),
    ("--ckpt_path=last", "no run in "),
    ("--ckpt_path=.", ". is a folder, not a checkpoint file; give a file such as best.ckpt"),
    ("--from=no/no.ckpt", "there is no checkpoint no/no.ckpt: the folder no does not exist"),
]


@pytest.mark.parametrize(("old", "new", "said"), IN_FILES)
def test_in_a_file(old, new, said, run, folder):
    assert old in CONFIG
    (folder / "bad.yaml").write_text(CONFIG.replace(old, new))
    refused(run("fit", "-c", "bad.yaml"), said, folder)


@pytest.mark.parametrize(("word", "said"), IN_THE_SHELL)
def test_in_the_shell(word, said, run, folder):
    refused(run("fit", "-c", "toy.yaml", word), said, folder)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "the config names no model and no data"),
        (["--model.depth=2"], "--model.depth=2: name the class first: model=NAME (known: "),
        (["-c"], "-c needs the name of an experiment or of a file"),
        (
            ["-c", "thers"],
            "there is no config file 'thers', neither here nor in the packaged experiments; did you mean theris",
        ),
        (
            ["--model.depth=3", "-c", "toy.yaml"],
            "--model.depth=3 comes before -c toy.yaml, which would replace it",
        ),
        (["-c", "toy.yaml", "--from=last", "--ckpt_path=last"], "no run in "),
        (
            ["-c", "theris", "--model.mask.grid=[17]"],
            "grid=[17]: a list of 2 (an integer, an integer) is expected",
        ),
        (["-c", "difiisr", "--model.also=null"], "model.also cannot be null; give {} for none"),
        (["-c", "theris", "--model.network.depth=-1"], "decoder_blocks must be at least 0, not -1, 0 and 5"),
        (
            ["-c", "theris", "--model.network.channels=0"],
            "image_channels must be at least 1, not 0, 16, 8, 1, 64 and 1",
        ),
    ],
)
def test_in_the_order(words, said, run, folder):
    refused(run("fit", *words), said, folder)


def refused(outcome, said, folder):
    assert outcome.code == 2
    errors = [line for line in outcome.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and said in errors[0], outcome.err
    assert "Traceback" not in outcome.err and "usage" not in outcome.err
    assert not list(folder.glob("runs/*")), "nothing half-written"


def test_a_defect_keeps_its_traceback(run):
    with pytest.raises(RuntimeError, match="negative dimension"):
        run("fit", "-c", "toy.yaml", "--model.mixer=PlainMixer", "--model.mixer.kernel=-1")
