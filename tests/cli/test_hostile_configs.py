"""Configs and overrides that no computer takes are refused in one sentence, as a user gives them."""

import errno
import os

import pytest
from toy import CONFIG

from lit_thermal.cli import dispatch

WORDS = {
    "digits": (f"--model.depth={'9' * 5000}", "an integer of 5000 digits"),
    "float": ("--model.noise=1e400", "1e400 is too large"),
    "deep": (f"--model.mixer={'[' * 5000}", "nested more than 64 levels deep"),
    "deep braces": (f"--trainer.callbacks={'{a: ' * 5000}", "nested more than 64 levels deep"),
    "twice": (
        "--model.mixer={class_path: PlainMixer, class_path: GatedMixer}",
        "the key 'class_path' is in line 1",
    ),
    "NUL": ("--experiment=a\0b", "a NUL character"),
    "escaped NUL": ('--experiment="a\\0b"', "a NUL character"),
    "no UTF-8": ("--experiment=caf\udce9", "UTF-8"),
    "itself": ("--model.mixer=&a [*a]", "it contains itself through an alias"),
    "pipe": ("--model.mixer=pipe", "is a pipe or a device"),
}


def refused(outcome, said, folder):
    assert outcome.code == 2, outcome.err
    (line,) = [line for line in outcome.err.splitlines() if line.startswith("error: ")]
    assert said in line and len(line) < 500 and "Traceback" not in outcome.err
    assert not list(folder.glob("runs/*"))


@pytest.mark.parametrize("case", WORDS)
def test_overrides(case, run, folder):
    os.mkfifo(folder / "pipe")
    word, said = WORDS[case]
    refused(run("fit", "-c", "toy.yaml", word), said, folder)


def test_a_key_twice_in_a_config_and_in_a_file_that_it_names(run, folder):
    (folder / "bad.yaml").write_text(CONFIG + "trainer: {max_epochs: 3}\n")
    said = "bad.yaml: the key 'trainer' is in line 11 and again in line 17"
    refused(run("fit", "-c", "bad.yaml"), said, folder)
    (folder / "parts").mkdir()
    (folder / "parts/mixer.yaml").write_text("class_path: PlainMixer\nclass_path: GatedMixer\n")
    (folder / "bad.yaml").write_text(
        CONFIG.replace("{class_path: GatedMixer, init_args: {heads: 3}}", "parts/mixer.yaml")
    )
    refused(run("fit", "-c", "bad.yaml"), "parts/mixer.yaml: the key 'class_path' is in line 1 and again", folder)
    (folder / "parts/mixer.yaml").write_text("bad.yaml")
    refused(run("fit", "-c", "bad.yaml"), "includes itself", folder)
    (folder / "parts/mixer.yaml").write_text("class_path: PlainMixer\n")
    assert run("fit", "-c", "bad.yaml", "--print_config").code == 0


def test_encodings(run, folder):
    (folder / "bom.yaml").write_bytes(b"\xef\xbb\xbf" + CONFIG.encode())
    assert run("fit", "-c", "bom.yaml", "--print_config").code == 0
    (folder / "bad.yaml").write_bytes(CONFIG.encode("utf-16"))
    refused(run("fit", "-c", "bad.yaml"), "bad.yaml is not UTF-8 text", folder)
    (folder / "bad.yaml").write_bytes(CONFIG.replace("toy", "caf\xe9").encode("cp1252"))
    refused(run("fit", "-c", "bad.yaml"), "byte 0xe9 in line 2", folder)


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "null\n"])
def test_a_config_without_keys(text, run, folder):
    (folder / "empty.yaml").write_text(text)
    refused = run("fit", "-c", "toy.yaml", "-c", "empty.yaml")
    assert refused.code == 2 and "error: empty.yaml holds no keys and values" in refused.err, refused.err


def test_a_folder_and_a_pipe_are_no_config(run, folder):
    refused(run("fit", "-c", "."), ". is a folder", folder)
    os.mkfifo(folder / "pipe.yaml")
    refused(run("fit", "-c", "pipe.yaml"), "pipe.yaml is a pipe or a device", folder)
    refused(run("sweep", "pipe.yaml"), "pipe.yaml is a pipe or a device", folder)


def test_a_sweep_file_with_a_key_twice(run, folder):
    (folder / "bad.yaml").write_text("method: grid\nparameters:\n  a: {value: 1}\n  a: {value: 2}\ncommand: []\n")
    refused(run("sweep", "bad.yaml"), "bad.yaml: the key 'a' is in line 3 and again in line 4", folder)


@pytest.mark.parametrize("asked", ["--debug", "LIT_THERMAL_DEBUG", ""])
def test_debug_shows_the_traceback_with_its_cause(asked, run, folder, monkeypatch):
    if asked and not asked.startswith("--"):
        monkeypatch.setenv(asked, "1")
    (folder / "bad.yaml").write_bytes(b"a: \xe9")
    done = run("fit", *([asked] if asked.startswith("--") else []), "-c", "bad.yaml")
    assert done.code == 2 and done.err.splitlines()[-1].startswith("error: bad.yaml is not UTF-8 text")
    assert ("Traceback" in done.err and "UnicodeDecodeError" in done.err) == bool(asked)


@pytest.mark.parametrize("number", sorted(dispatch.NO_DEFECT))
def test_what_no_program_can_help_is_one_sentence(number, run, monkeypatch):
    def fail(words):
        raise OSError(number, os.strerror(number), "some/file")

    monkeypatch.setattr(dispatch, "_run", fail)
    monkeypatch.setattr(os, "dup2", lambda *_: None)
    done = run("list")
    assert done.code == 2 and done.err == f"error: some/file: {dispatch.NO_DEFECT[number]} ({os.strerror(number)})\n"


def test_a_defect_stays_visible(run, monkeypatch):
    def fail(words):
        raise OSError(errno.ENOTTY, "odd")

    monkeypatch.setattr(dispatch, "_run", fail)
    with pytest.raises(OSError, match="odd"):
        run("list")


def test_options_of_all_verbs_stand_anywhere_and_are_not_abbreviated(run, folder, monkeypatch):
    seen = {}
    monkeypatch.setattr(
        dispatch, "_run", lambda words: seen.update(words=words, allow=os.environ["LIT_THERMAL_ALLOW"]) or 0
    )
    assert run("--debug", "fit", "-c", "x", "--allow", "a.b", "--allow=c").code == 0
    assert seen == {"words": ["fit", "-c", "x"], "allow": "stand_in,a.b,c"}
    assert os.environ["LIT_THERMAL_ALLOW"] == "stand_in" and "LIT_THERMAL_DEBUG" not in os.environ
    run("fit", "--debu", "--allow_untrained_scale")
    assert seen["words"] == ["fit", "--debu", "--allow_untrained_scale"]
