"""The page: whole, of one file, the same for the same input, with the numbers that belong there."""

import csv
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from made_runs import run_folder, sweep_folder

import lit_thermal.report
from lit_thermal.errors import InputError
from lit_thermal.evaluation.published import tables
from lit_thermal.report.page import Options, write_report
from lit_thermal.report.read import read_studies

COST = {
    "parameters": 12_300,
    "trainable_parameters": 12_300,
    "training_seconds": 300.0,
    "training_steps": 1000,
    "seconds_per_image": 0.02,
    "peak_memory_bytes": 512_000_000,
    "device": "cpu",
    "threads": 2,
}
VOID = {"meta", "input", "img", "br", "link"}


class Checker(HTMLParser):
    """Notes open tags, ids and what is linked."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.wrong: list[str] = []

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.ids += [found["id"]] if "id" in found else []
        self.links += [found[name] for name in ("href", "src") if found.get(name)]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)


def scores(psnr: float, **sets: float) -> dict:
    spread = (-0.4, -0.1, 0.1, 0.4)
    return {
        name: {
            "psnr": {f"image{i}": value + s for i, s in enumerate(spread)},
            "ssim": {f"image{i}": value / 40 + s / 100 for i, s in enumerate(spread)},
        }
        for name, value in {"simulated": psnr, **sets}.items()
    }


def overlay(name: str) -> dict[str, str]:
    return {"config": f"experiments/rows/theris/{name}.yaml"}


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    points = [
        ("without_spectral_mask", overlay("without_spectral_mask"), 0, scores(29.0)),
        ("without_spectral_mask", overlay("without_spectral_mask"), 1, scores(29.1)),
        ("without_tfm", overlay("without_tfm"), 0, scores(31.0)),
        ("without_tfm", overlay("without_tfm"), 1, "failed"),
        ("full", overlay("full"), 0, scores(30.0)),
        ("full", overlay("full"), 1, scores(30.2)),
    ]
    skipped = {"musiq": "its weights are not on this machine"}
    return sweep_folder(
        tmp_path_factory.mktemp("in") / "theris_ablation", points, gallery=True, shade=3, cost=COST, skipped=skipped
    )


@pytest.fixture(scope="module")
def report(sweep, tmp_path_factory):
    return write_report(read_studies([sweep]), tmp_path_factory.mktemp("out") / "report").parent


@pytest.fixture(scope="module")
def page(report):
    return (report / "index.html").read_text()


def test_a_sweep_beside_its_paper(page, report):
    checker = Checker()
    checker.feed(page)
    assert not checker.open and not checker.wrong
    assert len(checker.ids) == len(set(checker.ids))
    # nothing is fetched: every link is within the page or holds what it shows
    assert all(link.startswith(("#", "data:")) for link in checker.links)
    assert {link[1:] for link in checker.links if link.startswith("#")} <= set(checker.ids)
    assert not re.search(r"https?://|@import|url\((?!data:|#)", page)

    words = re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", page))
    assert "without seed 1 failed" not in words and "w/o TFM Loss: seed 1 failed" in words
    assert "MUSIQ (its weights are not on this machine)" in words
    assert "Gray images, rounded." in words and "IRVAL (LWIR video of 512 x 512)" in words
    assert "compare signs of differences" in words and "no such point in the sweep" in words
    assert "12.3 k" in words and "512 MB" in words and "cpu, 2 threads" in words
    # without the mask it is 1 dB worse, as printed; without the loss better, which is not
    with (report / "tables" / "theris-ablation-ablation-study-irval-simulated.csv").open() as file:
        rows = {(row["metric"], row["row"]): row for row in csv.DictReader(file)}
    worse = rows["PSNR, dB ↑", "w/o Spectral Mask"]
    assert float(worse["ours"]) == pytest.approx(29.05) and float(worse["∆ ours"]) == pytest.approx(-1.05)
    assert float(worse["∆ ours high"]) < 0 and worse["verdict"] == "agrees"
    assert (worse["paper"], float(worse["∆ paper"])) == ("19.86", -1.51)
    assert rows["PSNR, dB ↑", "w/o TFM Loss"]["verdict"] == "disagrees"
    assert rows["PSNR, dB ↑", "w/o Thermal Prompt"]["ours"] == "not run"
    assert rows["MUSIQ ↑", "Full (THERIS)"]["ours"] == "not measured"
    assert all("IRVAL" in row["protocol of the paper"] for row in rows.values())
    tex = (report / "tables" / "theris-ablation-ablation-study-irval-simulated.tex").read_text()
    assert r"\toprule" in tex and "w/o Spectral Mask & 29.05" in tex


def test_pictures_and_figures_are_in_it(page):
    for heading in ("Pictures", "Training", "Quality against speed", "Image by image", "Cost", "Everything measured"):
        assert f"<h3>{heading}</h3>" in page, heading
    assert page.count("background-image:url(data:image/png") == 2 * 4 + 2
    # restored is 3 counts of 0.1 K too bright everywhere
    assert "mean error 0.300 K" in page
    assert "<svg" in page and "#00f0" not in page


def test_the_same_input_gives_the_same_bytes(sweep, report, tmp_path):
    again = write_report(read_studies([sweep]), tmp_path / "again").parent
    first, second = ({f.relative_to(p): f.read_bytes() for f in p.rglob("*.*")} for p in (report, again))
    assert first == second and len(first) > 5
    assert str(sweep).encode() not in b"".join(first.values())


def test_runs_without_gallery_and_cost(tmp_path):
    sets = {"simulated_thermal_only": 28.0}
    runs = [run_folder(tmp_path / name / "1-test", scores(p, **sets)) for name, p in (("a<b>", 30.0), ("other", 31.0))]
    page = write_report(read_studies(runs), tmp_path / "out", Options(pictures=2)).read_text()
    checker = Checker()
    checker.feed(page)
    assert not checker.open and not checker.wrong
    assert "a&lt;b&gt;" in page and "Not recorded by these runs" in page and "<h3>Pictures</h3>" not in page
    assert "verdict agrees" not in page and "thermal only" in page
    with pytest.raises(InputError, match="there is no row 'third'"):
        write_report(read_studies(runs), tmp_path / "out", Options(reference="third"))


def test_one_sweep_twice_has_tables_of_its_own(tmp_path):
    points = [("full", overlay("full"), 0, scores(30.0))]
    sweeps = [sweep_folder(tmp_path / name / "theris_ablation", points) for name in ("a", "b")]
    page = write_report(read_studies(sweeps), tmp_path / "out")
    tables = {file.stem for file in (page.parent / "tables").glob("*.csv")}
    assert tables == {
        f"theris-ablation-{n}-{name}" for n in (1, 2) for name in ("ablation-study-irval-simulated", "simulated-all")
    }
    checker = Checker()
    checker.feed(page.read_text())
    assert len(checker.ids) == len(set(checker.ids))


def test_no_source_of_the_report_names_a_method():
    names = {name.lower() for table in tables() for name in (table.title, table.method, table.paper)}
    folder = Path(lit_thermal.report.__file__).parent
    for file in [*folder.glob("*.py"), *folder.glob("*.j2")]:
        text = file.read_text(encoding="utf-8").lower()
        assert not [name for name in names if name in text], file


@pytest.mark.parametrize("name", ["madenet_width", "made_net_width"])
def test_a_method_that_no_paper_describes(tmp_path, name):
    points = [("wide", {"width": 64}, 0, scores(30.0)), ("narrow", {"width": 8}, 0, scores(29.0))]
    folder = sweep_folder(tmp_path / name, points, name=name, method="MadeNet")
    page = write_report(read_studies([folder]), tmp_path / "out", Options(reference="wide")).read_text()
    assert "<title>MadeNet: width" in page
    assert "<dt>Method</dt><dd>MadeNet</dd>" in page
    assert "narrow" in page


def test_a_missing_picture_is_an_error(tmp_path):
    runs = [run_folder(tmp_path / name / "1-test", scores(30.0), gallery=True) for name in ("a", "b")]
    (runs[1] / "gallery" / "simulated" / "image0" / "restored.png").unlink()
    with pytest.raises(
        InputError, match=r"restored.png is listed in gallery.json but does not exist; run `test` again"
    ):
        write_report(read_studies(runs), tmp_path / "report")
    assert not (tmp_path / "report").exists()
