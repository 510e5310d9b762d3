"""Every experiment file parses, states its own name, and what it builds can be built."""

import io
from contextlib import redirect_stderr, redirect_stdout
from functools import cache
from pathlib import Path

import pytest
import yaml

import lit_thermal.experiments
from lit_thermal.cli.dispatch import main

FOLDER = Path(lit_thermal.experiments.__path__[0])
FILES = {str(p.relative_to(FOLDER)) for p in FOLDER.rglob("*.yaml")}
WHOLE = sorted(f for f in FILES if "/" not in f or f.startswith("paper/"))
ROWS = sorted(f for f in FILES if f.startswith("rows/"))
SIMULATED = ["data/aliased.yaml", "data/blurred.yaml", "data/conduction.yaml", "data/cooling.yaml", "data/noisy.yaml"]
DATA = sorted(f for f in FILES if f.startswith("data/") and f not in SIMULATED)
TESTS = sorted(f for f in FILES if f.startswith("test/"))
PHASES = sorted(f for f in FILES if f.startswith("phase/"))
OVERLAYS = sorted(f for f in FILES if f.startswith(("logger/", "strategy/")))


@cache
def printed(*words: str) -> str:
    """The configuration that `fit` would run with; the same words are asked for by many tests."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main(["fit", *words, "--print_config"])
    assert code == 0, err.getvalue()
    return out.getvalue()


def resolved(*words: str) -> dict:
    """`printed`, parsed."""
    return yaml.safe_load(printed(*words))


def test_every_file_is_covered():
    assert set(WHOLE) | set(ROWS) | set(DATA) | set(SIMULATED) | set(TESTS) | set(PHASES) | set(OVERLAYS) == FILES


@pytest.mark.parametrize("file", WHOLE)
def test_whole_experiments_parse(file):
    config = resolved("-c", file)
    assert config["experiment"] not in ("", "run")
    assert config["data"]["init_args"]["scale"] == config["model"]["init_args"]["scale"], "one scale for both"
    schedule = config["model"]["init_args"]["lr_scheduler"]
    lengths = {name: schedule["init_args"].get(name) for name in ("T_max", "steps")} if schedule is not None else {}
    for length in filter(None, lengths.values()):
        assert length == config["trainer"]["max_steps"], "the schedule ends with the training"


def test_the_length_of_training_reaches_the_schedule():
    config = resolved("-c", "theris", "--trainer.max_steps=7")
    assert config["model"]["init_args"]["lr_scheduler"]["init_args"]["T_max"] == 7


@pytest.mark.parametrize("file", DATA)
def test_data_overlays_replace_the_data(file):
    name = yaml.safe_load((FOLDER / file).read_text(encoding="utf-8"))["data"]["class_path"]
    method = {"VideoFolder": "theris", "ImageFolder": "difiisr", "FLIRIISR": "difiisr"}.get(name, "corefusion")
    key = {"CompositePairs": "name", "PairList": "file"}.get(name, "root")
    config = resolved("-c", method, "-c", file, f"--data.{key}=somewhere")
    assert config["data"]["class_path"].endswith(f".{name}") and config["data"]["init_args"][key] == "somewhere"
    assert config["data"]["init_args"]["scale"] == config["model"]["init_args"]["scale"]


@pytest.mark.parametrize("method", ["theris", "paper/theris"])
def test_the_row_without_a_spectral_mask_differs_in_the_mask_alone(method):
    whole = resolved("-c", method, "-c", "rows/theris/full.yaml")
    without = resolved("-c", method, "-c", "rows/theris/without_spectral_mask.yaml")
    assert without["model"]["init_args"].pop("mask") == {"class_path": "lit_thermal.blocks.IdentityMask"}
    del whole["model"]["init_args"]["mask"], whole["experiment"], without["experiment"]
    assert whole == without


@pytest.mark.parametrize("method", ["theris", "plain_video"])
@pytest.mark.parametrize("file", SIMULATED)
def test_scenarios_change_the_simulation_alone(file, method):
    plain, overlaid = resolved("-c", method), resolved("-c", method, "-c", file)
    before, after = plain["data"].pop("init_args"), overlaid["data"].pop("init_args")
    degraded = ("data/aliased.yaml", "data/blurred.yaml", "data/noisy.yaml")
    changed = {"degradation"} if file in degraded else {"scenario", "test_scenarios"}
    assert {key for key in before if before[key] != after[key]} == changed
    assert plain == overlaid


@pytest.mark.parametrize("file", [f for f in DATA if "parts:" in (FOLDER / f).read_text(encoding="utf-8")])
def test_parts_of_composite_data_are_configured_one_by_one(file):
    root = "file" if file.endswith("_list.yaml") else "root"
    words = [f"--data.parts.{part}.init_args.{root}=of/{part}" for part in ("irvi", "pbvs")]
    data = resolved("-c", "corefusion", "-c", file, *words)["data"]["init_args"]
    assert list(data["parts"]) == ["irvi", "llvip", "m3fd", "pbvs"]
    for part, given in data["parts"].items():
        assert given["init_args"]["scale"] == 8, part
    assert [data["parts"][part]["init_args"][root] for part in ("irvi", "pbvs")] == ["of/irvi", "of/pbvs"]
    assert data["crop"] == 0 and not data["augment"]


@pytest.mark.parametrize("file", OVERLAYS)
def test_overlays_change_the_trainer_alone(file):
    plain, overlaid = resolved("-c", "theris"), resolved("-c", "theris", "-c", file)
    changed = {key for key in plain["trainer"] if plain["trainer"][key] != overlaid["trainer"][key]}
    assert changed and changed <= {"accelerator", "devices", "logger", "precision", "strategy"}
    assert plain["model"] == overlaid["model"] and plain["data"] == overlaid["data"]


ANY_METHOD = {
    "noise": {"NoisyInput": [50, 100, 200, 400, 800]},
    "blur": {"BlurredInput": [0.4, 0.6, 0.8, 1.0, 1.5]},
    "degradation": {"CoarserInput": [1.25, 1.5, 2, 3], "WorseInput": [1, 1.5, 2, 3]},
}
"""What overlays of a test that need no guide have beside the data as they are."""


@pytest.mark.parametrize(("name", "method"), zip(ANY_METHOD, ["theris", "difiisr", "real_iisr"], strict=True))
def test_overlays_of_any_method(name, method):
    config = resolved("-c", method, "-c", f"test/{name}.yaml")
    found: dict[str, list[float]] = {}
    for condition in config["data"]["init_args"]["test_conditions"]:
        degree = next(iter(condition.get("init_args", {}).values()), None)
        found.setdefault(condition["class_path"].rsplit(".")[-1], []).append(degree)
    assert found == {"Complete": [None]} | ANY_METHOD[name]
    assert "RobustnessCurve" in [c["class_path"].rsplit(".")[-1] for c in config["trainer"]["callbacks"]]


@pytest.mark.parametrize("file", TESTS)
def test_overlays_of_a_test_change_its_conditions_alone(file):
    plain, overlaid = resolved("-c", "corefusion"), resolved("-c", "corefusion", "-c", file)
    before, after = plain["data"]["init_args"], overlaid["data"]["init_args"]
    assert {key for key in before if before[key] != after[key]} == {"test_conditions"}
    assert plain["model"] == overlaid["model"] and plain["trainer"] == overlaid["trainer"]
    if Path(file).stem in ANY_METHOD:
        return
    given = [(c["class_path"].rsplit(".")[-1], c.get("init_args", {})) for c in after["test_conditions"]]
    names = {"robustness": ["GuideOnly"], "misalignment": []}[Path(file).stem]
    assert [name for name, _ in given[: 3 + len(names)]] == ["Complete", "ThermalOnly", *names, "ShuffledGuide"]
    assert [given["pixels"] for name, given in given if name == "DisplacedGuide"] == [0, 1, 2, 4, 8, 16, 32]
    severities = [] if names else ["light", "medium", "strong"]
    assert [given["severity"] for name, given in given if name == "MisalignedGuide"] == severities


def test_contrastive_pretraining_changes_the_loss_alone():
    assert PHASES == ["phase/contrastive_pretraining.yaml"]
    plain, overlaid = resolved("-c", "corefusion"), resolved("-c", "corefusion", "-c", PHASES[0])
    before, after = plain["model"]["init_args"], overlaid["model"]["init_args"]
    changed = {key for key in before if before[key] != after[key]}
    weights = {"pixel_weight", "ssim_weight", "psnr_weight"}
    assert changed <= weights | {"beta", "drop_guide"} and {"beta", "pixel_weight"} <= changed
    assert not any(after[key] for key in weights | {"drop_guide", "drop_thermal"})
    assert plain["data"] == overlaid["data"] and plain["trainer"] == overlaid["trainer"]


ALLOWED = {
    "rows/theris/full.yaml": set(),
    "rows/theris/without_spectral_mask.yaml": {"mask"},
    "rows/theris/without_thermal_prompt.yaml": {"prompt"},
    "rows/theris/without_tfm.yaml": {"heat_weight"},
    "rows/theris/tdim_alone.yaml": {"network"},
    "rows/theris/small.yaml": {"network"},
    "rows/theris/large.yaml": {"network"},
    "rows/theris/with_scan.yaml": set(),
    "rows/theris/log_gain_mask.yaml": {"mask"},
    "rows/theris/without_scan.yaml": {"scans"},
    "rows/theris/all_scans.yaml": {"scans"},
    "rows/theris/paper_heat_loss.yaml": {"heat_loss", "heat_weighting"},
    "rows/theris/without_spatial_scan.yaml": {"scans"},
    "rows/theris/without_temporal_scan.yaml": {"scans"},
    "rows/theris/without_hilbert_scan.yaml": {"scans"},
    "rows/theris/temporal_scan_alone.yaml": {"scans"},
    "rows/theris/without_state.yaml": {"mixer"},
    "rows/theris/carrying_scan.yaml": {"mixer"},
    "rows/theris/content_prompt.yaml": {"prompt"},
    "rows/theris/noisy_still.yaml": {"frames", "crop", "max_speed", "degradation", "test_scenarios"},
    "rows/theris/cosine_interpolation.yaml": {"interpolation"},
    "rows/theris/linear_interpolation.yaml": {"interpolation"},
    "rows/theris/without_motion.yaml": {"interpolation"},
    "rows/theris/without_diffusion.yaml": {"interpolation"},
    "rows/difiisr/unguided.yaml": {"guidance"},
    "rows/difiisr/visual.yaml": {"guidance"},
    "rows/difiisr/perceptual.yaml": {"guidance"},
    "rows/difiisr/both.yaml": set(),
    "rows/difiisr/perceptual_visual_added.yaml": {"guidance"},
    "rows/difiisr/visual_perceptual_added.yaml": {"guidance"},
    "rows/difiisr/loss_sum.yaml": {"guidance"},
    "rows/difiisr/structural_condition.yaml": {"condition"},
    "rows/corefusion/aligned_training.yaml": set(),
    "rows/corefusion/misaligned_training.yaml": {"misalignment"},
    "rows/corefusion/robust.yaml": {"registration", "drop_guide", "drop_thermal", "misalignment"},
    "rows/corefusion/contrastive.yaml": {"beta", "beta_weighting", "beta_ramp", "contrastive_loss", "drop_thermal"},
    "rows/corefusion/direct.yaml": {"head", "base", "ssim_weight", "psnr_weight"},
    "rows/3m_ti/full.yaml": set(),
    "rows/3m_ti/without_reference.yaml": {"guided", "misalignment", "test_conditions"},
    "rows/3m_ti/without_prompt.yaml": {"prompt"},
    "rows/3m_ti/without_augmentation.yaml": {"misalignment"},
    "rows/3m_ti/without_skip.yaml": {"skip"},
    "rows/3m_ti/self_attention.yaml": {"attention"},
    "rows/3m_ti/feature_concat.yaml": {"attention"},
    "rows/3m_ti/cross_attention.yaml": {"attention"},
    "rows/3m_ti/feature_loss.yaml": {"perceptual_loss", "perceptual_weight"},
    "rows/real_iisr/full.yaml": set(),
    "rows/real_iisr/without_tsg.yaml": {"structure"},
    "rows/real_iisr/without_cac.yaml": {"codebook"},
    "rows/real_iisr/without_toc.yaml": {"order_weight"},
}


def test_the_distilled_recipe_has_the_guidance_of_the_released_code():
    config = resolved("-c", "paper/difiisr_distilled")
    guidance = config["model"]["init_args"]["guidance"]["init_args"]
    spectrum, vgg, segmentation = (term["init_args"] for term in guidance["terms"])
    assert spectrum["normalization"] == "batch" and segmentation["compare"] == "embeddings"
    assert (vgg["network"], vgg["layer"], vgg["normalize_input"]) == ("vgg19", "relu5_4", False)
    assert {term["weight"] for term in (spectrum, vgg, segmentation)} == {0.01}
    # The released gradient is that of the mean over the batch, with rho 1.
    assert guidance["strength"] * config["data"]["init_args"]["batch_size"] == 1
    assert (guidance["start"], guidance["every"], config["trainer"]["max_steps"]) == (200000, 1, 250000)


def test_the_papers_experiment_is_what_the_paper_describes():
    model = resolved("-c", "paper/difiisr")["model"]["init_args"]
    guidance = model["guidance"]["init_args"]
    assert model["condition"]["class_path"].endswith(".ConditionEncoder"), "its Fig. 2"
    assert guidance["through_network"], "its eq. 8"
    assert guidance["start"] == 200000 and guidance["sign"] == "descend"
    _, vgg, segmentation = (term["init_args"] for term in guidance["terms"])
    assert vgg["network"] == "vgg16" and segmentation["compare"] == "masks"


OTHER_METHOD = "rows/real_iisr/diffusion.yaml"


def test_the_diffusion_of_fig_9_is_that_of_difiisr_with_the_same_guidance_on_the_same_data():
    rows = ("-c", "rows/difiisr/unguided.yaml", "-c", "rows/difiisr/structural_condition.yaml")
    diffusion = resolved("-c", "difiisr", *rows, "--trainer.max_steps=1000")
    plain, row = resolved("-c", "real_iisr"), resolved("-c", "real_iisr", "-c", OTHER_METHOD)
    assert diffusion["model"]["init_args"]["optimizer"]["init_args"].pop("fused") is None
    assert row["model"]["init_args"]["optimizer"]["init_args"].pop("fused") is False, "what none stands for"
    assert row["model"] == diffusion["model"]
    assert plain["trainer"]["callbacks"].pop()["class_path"].endswith(".TokenizerFirst"), "DifIISR has no such phase"
    extra = row["trainer"]["callbacks"].pop()
    assert extra["class_path"].endswith(".EMA") and extra in diffusion["trainer"]["callbacks"]
    assert row["trainer"] == plain["trainer"] | {"gradient_clip_val": diffusion["trainer"]["gradient_clip_val"]}
    assert row["data"]["init_args"] == plain["data"]["init_args"] | {"crop": 16}
    assert row["experiment"] == "real_iisr-diffusion"


@pytest.mark.parametrize("file", [file for file in ROWS if file != OTHER_METHOD])
def test_a_row_changes_what_its_name_says_and_nothing_else(file):
    method = file.split("/")[1]
    base = ("-c", method, *(("-c", "rows/theris/with_scan.yaml") if method == "theris" else ()))
    whole, row = resolved(*base), resolved(*base, "-c", file)
    assert row["experiment"] == f"{method}-{Path(file).stem}"
    changed = set()
    for part in ("model", "data"):
        one, other = whole[part].pop("init_args"), row[part].pop("init_args")
        changed |= {key for key in one if one[key] != other[key]}
        assert one.keys() == other.keys() and whole[part] == row[part]
    assert changed == ALLOWED[file] and whole["trainer"] == row["trainer"]


@pytest.mark.parametrize("file", [f for f in ROWS if f.startswith("rows/difiisr/") and "condition" not in f])
def test_rows_of_guidance_differ_in_their_terms_alone(file):
    guidance = resolved("-c", "difiisr", "-c", file)["model"]["init_args"]["guidance"]
    start = resolved("-c", "difiisr")["model"]["init_args"]["guidance"]["init_args"]["start"]
    if file.endswith("unguided.yaml"):
        assert guidance["class_path"].endswith(".Unguided")
        return
    given = guidance["init_args"]

    def names(key):
        return [term["class_path"].rsplit(".")[-1] for term in given.get(key, [])]

    terms = {
        "visual": (["SpectrumTerm"], []),
        "perceptual": (["ThermalFeatureTerm"], []),
        "both": (["SpectrumTerm", "ThermalFeatureTerm"], []),
        "perceptual_visual_added": (["ThermalFeatureTerm"], ["SpectrumTerm"]),
        "visual_perceptual_added": (["SpectrumTerm"], ["ThermalFeatureTerm"]),
        "loss_sum": (["SpectrumTerm", "ThermalFeatureTerm"], []),
    }
    assert (names("terms"), names("added")) == terms[Path(file).stem] and given["start"] == start


def test_rows_of_3m_ti_have_what_their_names_say():
    def row(name):
        config = resolved("-c", "3m_ti", "-c", f"rows/3m_ti/{name}.yaml")
        return config["model"]["init_args"], config["data"]["init_args"]

    for name, slot, member in (
        ("full", "attention", "CrossModalSelfAttention"),
        ("self_attention", "attention", "SelfAttention"),
        ("feature_concat", "attention", "FeatureConcat"),
        ("cross_attention", "attention", "CrossAttention"),
        ("without_skip", "skip", "NoSkip"),
    ):
        assert row(name)[0][slot]["class_path"].rsplit(".")[-1] == member
    prompt = resolved("-c", "3m_ti")["model"]["init_args"]["prompt"]
    prompt["init_args"]["vocabulary"] = []
    assert row("without_prompt")[0]["prompt"] == prompt
    assert row("without_augmentation")[1]["misalignment"]["class_path"].endswith(".Aligned")
    alone = row("without_reference")[1]
    assert not alone["guided"] and alone["misalignment"]["class_path"].endswith(".Aligned")
    assert [condition["class_path"].rsplit(".")[-1] for condition in alone["test_conditions"]] == ["Complete"]


def test_the_paper_of_3m_ti_in_numbers():
    config = resolved("-c", "paper/3m_ti")
    model, data, trainer = (config[part].get("init_args", config[part]) for part in ("model", "data", "trainer"))
    assert (model["train"], model["unet_rank"], model["vae_rank"], model["timestep"]) == ("lora", 16, 4, 199)
    assert model["optimizer"]["class_path"] == "torch.optim.Adam" and model["optimizer"]["init_args"]["lr"] == 2e-5
    assert model["perceptual_loss"]["init_args"]["network"] == "vgg" and model["perceptual_weight"] == 1
    assert model["skip"]["init_args"]["init"] == 0 and model["attention"]["class_path"].endswith("SelfAttention")
    assert (data["batch_size"], data["side"], data["scale"]) == (4, 512, 8)
    assert data["misalignment"]["class_path"].endswith(".Combined")
    assert (trainer["max_steps"], trainer["gradient_clip_val"]) == (8000, 1.0)
    assert config["data"] == resolved("-c", "paper/3m_ti", "-c", "data/three_m_ti.yaml")["data"]
    for file in ("three_m_ti", "three_m_ti_list"):
        overlaid = resolved("-c", "paper/3m_ti", "-c", f"data/{file}.yaml")["data"]["init_args"]
        assert overlaid["batch_size"] == 4
    # The files of the authors' list are prepared: names, choice, sizes and noise are theirs.
    assert overlaid["side"] == 0 and not any(overlaid[key] for key in ("prefixes", "steps", "counts"))


def test_the_released_settings_of_3m_ti_are_words_of_its_experiment():
    lines = (FOLDER / "paper/3m_ti.yaml").read_text(encoding="utf-8").splitlines()
    words = [word for line in lines if line.startswith("#   --") for word in line[1:].split()]
    config = resolved("-c", "paper/3m_ti", *words)
    model = config["model"]["init_args"]
    released = {"train": "lora_and_unet", "latent": "sample", "guide_weight": 1, "upsampling": "two_step"}
    assert {key: model[key] for key in released} == released and model["skip"]["init_args"]["init"] == 1e-5
    assert model["optimizer"]["class_path"].endswith(".AdamW")
    given = model["optimizer"]["init_args"]
    assert (given["lr"], given["weight_decay"], list(given["betas"])) == (2e-5, 1e-2, [0.9, 0.999])


def test_one_folder_gives_sd_turbo_and_its_text_encoder():
    for more in ([], ["--model.prompt=FixedPrompt"]):
        model = resolved("-c", "paper/3m_ti", "--model.base.folder=turbo", *more)["model"]["init_args"]
        assert model["base"]["init_args"]["folder"] == model["prompt"]["init_args"]["encoder"] == "turbo"


def test_rows_of_real_iisr_have_what_their_names_say():
    def row(name):
        return resolved("-c", "real_iisr", "-c", f"rows/real_iisr/{name}.yaml")["model"]["init_args"]

    full = row("full")
    assert full["structure"]["class_path"].endswith(".ThermalStructuralGuidance")
    assert full["codebook"]["class_path"].endswith(".ConditionAdaptiveCodebook")
    assert full["order_loss"]["class_path"].endswith(".ThermalOrderLoss") and full["order_weight"] > 0
    assert row("without_tsg")["structure"]["class_path"].endswith(".NoStructure")
    assert row("without_cac")["codebook"]["class_path"].endswith(".StaticCodebook")
    assert row("without_toc")["order_weight"] == 0


def test_the_diffusion_that_real_iisr_compares_with_is_not_guided():
    rows = [word for name in ("unguided", "structural_condition") for word in ("-c", f"rows/difiisr/{name}.yaml")]
    model = resolved("-c", "difiisr", *rows)["model"]["init_args"]
    assert model["guidance"]["class_path"].endswith(".Unguided")
    assert model["condition"]["class_path"].endswith(".StructuralCondition")
    assert model["condition"]["init_args"]["structure"]["class_path"].endswith(".ThermalStructuralGuidance")


def test_the_paper_of_real_iisr_in_numbers():
    config = resolved("-c", "paper/real_iisr")
    model, data, trainer = config["model"]["init_args"], config["data"]["init_args"], config["trainer"]
    structure, codebook, order = (model[key]["init_args"] for key in ("structure", "codebook", "order_loss"))
    for encoder in (model["encoder"], structure["encoder"]):
        assert encoder["class_path"].endswith(".DINOv3Encoder") and encoder["init_args"]["pretrained"]
    assert (structure["fusion"], structure["joins"]) == ("paper", "add"), "its eq. 1"
    assert (codebook["rank"], codebook["acts"]) == (8, "decode_and_embedding") and codebook["gate"] != 0, "its eq. 2"
    assert (order["patch"], order["threshold"], order["reduction"]) == (8, 0, "mean"), "its eq. 3"
    assert (model["pixel_weight"], model["order_weight"]) == (0.2, 0.8) and model["decoding"] != "argmax", "its eq. 4"
    assert (model["depth"], model["width"], model["heads"]) == (24, 1536, 24)
    assert model["optimizer"]["class_path"] == "torch.optim.AdamW"
    assert (model["optimizer"]["init_args"]["lr"], model["optimizer"]["init_args"]["weight_decay"]) == (5e-5, 0.05)
    assert (model["negatives"], model["guidance"]) == (0, 0), "which it does not mention"
    assert (4 * data["crop"], data["batch_size"], data["augment"], trainer["max_steps"]) == (512, 4, False, 10000)
    assert round(1457 * data["split"][2]) == 265 and sum(data["split"]) == pytest.approx(1)


def test_the_released_recipe_of_real_iisr():
    config = resolved("-c", "paper/real_iisr_released")
    model, trainer = config["model"]["init_args"], config["trainer"]
    structure, codebook, order = (model[key]["init_args"] for key in ("structure", "codebook", "order_loss"))
    for encoder in (model["encoder"], structure["encoder"]):
        assert encoder["class_path"].endswith(".ConvStackEncoder")
        assert encoder["init_args"]["widths"] == [32, 128, 256, 512]
    assert (structure["fusion"], structure["joins"], structure["norm"]) == ("released", "append", "batch")
    assert structure["reduction"] == 4
    assert (codebook["rank"], codebook["gate"], codebook["acts"]) == (8, 0, "decode")
    assert (order["patch"], order["neighbours"], order["threshold"], order["reduction"]) == (8, 8, 0.1, "released")
    assert (model["decoding"], model["negatives"], model["guidance"]) == ("argmax", 0.5, 1)
    assert model["colour_fix"] == "adain" and model["sampler"]["class_path"].endswith(".Greedy")
    assert (model["pixel_weight"], model["order_weight"], model["drop_path"]) == (0.2, 0.8, 0.1)
    given, schedule = model["optimizer"]["init_args"], model["lr_scheduler"]["init_args"]
    assert (given["lr"], list(given["betas"]), given["eps"], given["weight_decay"]) == (5e-5, [0.9, 0.95], 1e-8, 0.05)
    assert (schedule["first"], schedule["hold"], schedule["last"]) == (0.005, 0.3, 0.01)
    # An epoch has two samples of each of 1,192 pairs in batches of 4, of which the warm-up is a tenth.
    epoch = 2 * 1192 // config["data"]["init_args"]["batch_size"]
    assert (trainer["max_steps"], trainer["val_check_interval"], schedule["warm_up"]) == (20 * epoch, epoch, 60)
    assert (trainer["precision"], trainer["gradient_clip_val"]) == ("16-mixed", 2.0)


@pytest.mark.parametrize("name", ["real_iisr", "real_iisr_released"])
def test_words_in_the_recipes_of_real_iisr(name):
    lines = (FOLDER / f"paper/{name}.yaml").read_text(encoding="utf-8").splitlines()
    (start,) = [line.split()[3:] for line in lines if line.startswith("#   lit_thermal fit ")]
    assert start[:2] == ["-c", f"paper/{name}"] and start[-2] == "--from"
    assert resolved(*start[:-2])["model"]["init_args"]["tokenizer_weights"] == ""
    for words in [line.split()[1:] for line in lines if line.startswith("#   --")]:
        trainer = resolved("-c", f"paper/{name}", *words)["trainer"]
        assert (str(trainer["devices"]), trainer["strategy"]) == ("4", "ddp")
