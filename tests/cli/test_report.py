"""The verb `report`, from a training to the page."""

import json


def test_from_training_to_the_page(run, folder):
    for seed in (0, 1):
        assert run("fit", "-c", "toy.yaml", f"--seed_everything={seed}").code == 0
        assert run("test", "-c", "toy.yaml", "--ckpt_path", "best").code == 0
    tests = sorted((folder / "runs" / "toy").glob("*-test*"))
    gallery = json.loads((tests[0] / "gallery" / "gallery.json").read_text())
    assert [entry["name"] for entry in gallery["datasets"]["test"]] == ["blob0", "blob1"]
    outcome = run("report", *map(str, tests), "--out", "report", "--names", "first", "second", "--pictures", "1")
    assert outcome.code == 0 and "report/index.html" in outcome.out
    page = (folder / "report" / "index.html").read_text()
    assert "first and second" in page
    assert page.count("blob0 <small>") == 1 and "blob1 <small>" not in page
    # curves of the training whose checkpoint was tested
    assert "<h3>Training</h3>" in page and "l2" in page
    assert (folder / "report" / "tables" / "runs-ablation-test.tex").is_file()


def test_mistakes(run, folder):
    def said(*words: str) -> str:
        outcome = run("report", *words)
        assert outcome.code == 2 and outcome.err.count("\n") == 1
        return outcome.err

    assert "the following arguments are required: RUN|SWEEP, --out" in said()
    assert "there is no folder none" in said("none", "--out", "report")
    (folder / "empty").mkdir()
    assert "empty has neither sweep.json nor metrics.json" in said("empty", "--out", "report")
    assert "--out toy.yaml is a file; name a folder" in said("empty", "--out", "toy.yaml")
    assert "cannot be negative" in said("empty", "--out", "report", "--line", "-1")
    assert "has no option --picture; did you mean --pictures" in said("empty", "--out", "report", "--picture", "3")
    assert not (folder / "report").exists()
