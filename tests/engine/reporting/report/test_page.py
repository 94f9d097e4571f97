"""The report of a run folder made by hand, read back with a parser."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch

from engine.diagnosis import Recommendation, RunDiagnosis, RunFinding
from engine.reporting.pictures import Picture
from engine.reporting.report import Gallery, read_runs, views, write_report
from engine.reporting.report.page import render
from engine.reporting.report.views import weights_facts
from engine.run_folder import DataIdentity, Manifest, Member, RunFolder, RunFolderError, read_log, write_json
from engine.scoring.counting import Counts
from engine.scoring.scores_file import recorder

NAMES = ["background", "<b>cat</b>", "bus"]
FIRST = {"background": 0.9, "<b>cat</b>": 0.5125, "bus": None}
SECOND = {"background": 0.91, "<b>cat</b>": 0.4, "bus": None}
MEAN = {"background": 0.92, "<b>cat</b>": 0.6, "bus": None}
VOID_TAGS = {"meta", "img", "link", "br", "hr", "input"}
# 12 of 16 px, and nothing of cat: 0.75 / 2
BASELINE = "Without looking 0.3750 mIoU of predicting only background (most pixels)"
PREDICTORS = ("step 200", "step 100", "mean")
COUNTS = [[[6, 2, 0], [1, 3, 0], [0, 0, 0]], [[4, 0, 0], [0, 0, 0], [0, 0, 0]]]  # of images "one" and "two"


class Page(HTMLParser):
    """Words, tags and addresses of a page; fails where tags are not nested correctly."""

    def __init__(self, text: str):
        super().__init__()
        self.words: list[str] = []
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []
        self.text = re.sub(r"\s+", " ", " ".join(self.words))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [
            value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "srcset")
        ]
        if tag not in VOID_TAGS:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID_TAGS:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] not in ("style", "script"):
            self.words.append(data)


def scores(mean: float, iou: dict) -> dict:
    return {"mIoU": mean, "mAcc": mean + 0.05, "aAcc": 0.9321, "IoU": iou}


def picture(name: str) -> Picture:
    labels = torch.tensor([[0, 1, 255], [1, 1, 0]], dtype=torch.uint8)
    image = torch.full((3, 2, 3), 100, dtype=torch.uint8)
    return Picture(name, image, labels, torch.ones(2, 3, dtype=torch.int64), torch.full((2, 3), 0.5))


def make_run(path: Path, name: str, val_fingerprint: str = "v" * 64) -> RunFolder:
    """A finished run of two members, with all of its files except the checkpoints."""
    run = RunFolder(path)
    run.create()
    members = [
        Member(file=f"top/step-{step:07d}.safetensors", step=step, scores={"mIoU": score}, sha256="0" * 64)
        for step, score in ((200, 0.7062), (100, 0.655))
    ]
    data = DataIdentity(
        format="voc", train="train", val="val", train_fingerprint="t", val_fingerprint=val_fingerprint
    )
    manifest = Manifest(
        name=name, code_version="0.1.0+abc", class_names=NAMES, palette=[(0, 0, 0)] * 3, data=data,
        metric="mIoU", num_parameters=1234567, environment={"device": "an <abacus>"}, finished=True,
        members=members,
    )  # fmt: skip
    run.write_manifest(manifest)
    costs = {"lr": 1e-3, "base_lr": 1e-4, "memory": 700.0}
    rows = [
        {"step": 50, "split": "train", "loss": 1.5, "time": 0.5, **costs},
        {"step": 100, "split": "val", "loss": 0.6, **scores(0.655, SECOND)},
        {"step": 200, "split": "train", "loss": 1.0, "time": 0.4, **costs},
        {"step": 200, "split": "val", "loss": 0.5, **scores(0.7062, FIRST)},
    ]
    run.log.write_text("".join(json.dumps(row) + "\n" for row in rows))
    run.recipe.write_text(
        "name: tiny\nseed: 7\ndata: {root: '<script>'}\ntrain: {steps: 200}\nschedule: {warmup: 0}\n"
    )
    ensemble = {
        "members": [
            {"path": members[0].file, "step": 200, **scores(0.7062, FIRST)},
            {"path": members[1].file, "step": 100, **scores(0.655, SECOND)},
        ],
        "ensembles": {"mean": scores(0.76, MEAN)},
        "protocol": {"name": "native", "scales": [1.0], "flip": False, "whole_image": True},
        "dataset": {
            "name": "pets",
            "split": "val",
            "num_images": 12,
            "num_pixels": 9000,
            "num_void": 1000,
            "baseline": 0.3125,
            "absent": ["bus"],
            "fingerprint": "f00d",
        },
    }
    write_json(run.ensemble, ensemble)
    with recorder(run.scores, ["one", "two"], NAMES, PREDICTORS) as record:
        record(["one", "two"], {name: Counts(torch.tensor(COUNTS)) for name in PREDICTORS})
    return run


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return make_run(tmp_path / "runs/tiny", "tiny <i>run</i>")


def report(*runs: RunFolder, gallery: Gallery | None = None) -> Page:
    out = runs[0].path / "page.html"
    write_report(read_runs(runs), out, {runs[0].path: gallery} if gallery else {})
    return Page(out.read_text(encoding="utf-8"))


def change_manifest(run: RunFolder, **changes: object) -> None:
    run.write_manifest(run.read_manifest().model_copy(update=changes))


def test_the_headline_has_the_scores_of_the_files(run: RunFolder) -> None:
    text = report(run).text
    for message in (
        "tiny <i>run</i>",
        "Ensemble mIoU 0.7600",
        "Best member 0.7062 step 200",
        "Ensemble gain +0.0538",
        BASELINE,
        "1 of 3: bus. No label",
        "9,000 scored, 1,000 void (10.0% of all) left out",
        "name: native · scales: [1.0] · flip: false · whole image: true",
        "12 images of pets, val",
        "1.23 M",
        "0.1.0+abc",
        "an <abacus>",
        "0:01:25",  # 50 updates of 0.5 s and 150 of 0.4 s
        "700 MB",
        "selected on val too",
    ):
        assert message in text, message
    assert "has not finished" not in text and "no ensemble score" not in text


def test_each_class_has_its_iou_but_two_images_give_no_interval(run: RunFolder) -> None:
    text = report(run).text
    assert re.search(r"background 0.9200 \u2013 0.9000 \u2013", text)
    assert "Only 2 images were scored" in text and "with a probability of at least 50 %" in text
    assert "range from 0.5833 to 1.0000" in text  # (6/9 + 3/6) / 2, and 4/4


def test_a_run_that_is_scored_on_its_training_images_says_so(run: RunFolder) -> None:
    assert "was trained on these images" not in report(run).text
    manifest = run.read_manifest()
    manifest.data.train_fingerprint = manifest.data.val_fingerprint
    run.write_manifest(manifest)
    assert "was trained on these images" in report(run).text


def test_an_absent_class_has_no_bar(run: RunFolder) -> None:
    page = report(run)
    assert "bus" in page.text  # among the absent ones
    assert not re.search(r"bus (absent|0\.)", page.text)


def test_confusion_is_in_percent_of_the_label(run: RunFolder) -> None:
    text = report(run).text
    assert "background 83 17 <b>cat</b> 25 75" in text  # 10 and 2 of 12, 1 and 3 of 4
    assert "background <b>cat</b> 16.7% 2 <b>cat</b> background 25.0% 1" in text


def test_of_many_classes_the_rows_still_add_up(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "MOST_CELLS", 1)
    text = report(run).text
    assert "Of 2 classes, 1 are shown" in text and "background 83 17" in text and "1 others" in text


def test_figures_that_were_not_counted_are_named(run: RunFolder) -> None:
    text = report(run).text
    assert "Reliability was not counted" in text and "Boundary IoU was not counted" in text


def test_recipe_values_that_differ_from_the_default_are_shown(run: RunFolder) -> None:
    text = report(run).text
    assert "seed 7 0" in text and "data.root <script> null" in text
    assert "keep.metric" not in text.split("The whole recipe")[0]


def test_names_and_recipe_are_escaped(run: RunFolder) -> None:
    write_json(run.doctor, {"findings": [{"check": "x", "severity": "hurts", "what": "<s>a</s>", "why": "<s>",
               "remedy": "<s>", "where": ["<s>.png"], "num_files": 4}]})  # fmt: skip
    page = report(run, gallery=Gallery(why_empty="<s>gone</s>"))
    assert not {"s"} & set(page.tags) and page.tags.count("script") == 1
    assert "<b>" not in run.path.joinpath("page.html").read_text().replace("<b></b>", "")  # those of the bars
    assert "<s>a</s>" in page.text and "and 3 more" in page.text and "<s>gone</s>" in page.text


def test_the_page_needs_no_other_file_or_script(run: RunFolder) -> None:
    page = report(run, gallery=Gallery([picture("one")], [picture("two")]))
    assert "iframe" not in page.tags
    assert all(address.startswith(("data:", "#")) for address in page.addresses)
    source = run.path.joinpath("page.html").read_text(encoding="utf-8")
    assert "@import" not in source and set(re.findall(r"url\((.)", source)) <= {"#"}
    assert "default-src 'none'" in source
    [script] = re.findall(r"<script>(.*?)</script>", source, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in source


def test_pictures_have_captions_with_their_scores(run: RunFolder) -> None:
    page = report(run, gallery=Gallery([picture("one")], [picture("two")]))
    assert page.tags.count("img") == 2 * 5
    assert "Worst one mIoU 0.5833 · 60.0% right Best two mIoU 1.0000 · 60.0% right" in page.text


def test_without_ensemble_json_scores_come_from_the_log(run: RunFolder) -> None:
    run.ensemble.unlink()
    text = report(run).text
    assert f"trident ensemble {run.path}" in text
    assert "Best member 0.7062 step 200" in text and "Ensemble mIoU" not in text
    assert "<b>cat</b> 0.5125" in text


def test_a_single_member_is_not_shown_as_an_ensemble(run: RunFolder) -> None:
    scored = json.loads(run.ensemble.read_text())
    write_json(run.ensemble, scored | {"members": scored["members"][:1], "ensembles": {}})
    text = report(run).text
    assert "Best member 0.7062" in text and "Ensemble mIoU" not in text and BASELINE in text
    assert "no ensemble score" not in text


def test_a_run_interrupted_at_its_start_has_a_page(run: RunFolder) -> None:
    for path in (run.ensemble, run.log, run.recipe, run.scores):
        path.unlink()
    change_manifest(run, finished=False, members=[], environment={})
    page = report(run)
    assert "tiny <i>run</i> has not finished." in page.text and "--resume" in page.text
    assert "svg" not in page.tags


def test_runs_are_side_by_side_the_best_first(run: RunFolder) -> None:
    other = make_run(run.path.with_name("other"), "other")
    scored = json.loads(other.ensemble.read_text())
    scored["members"][0]["mIoU"] = 0.8
    write_json(other.ensemble, scored)
    other.recipe.write_text(run.recipe.read_text().replace("seed: 7", "seed: 8"))
    page = report(run, other)
    assert page.text.index("other 0.8000") < page.text.index("tiny <i>run</i> 0.7062")
    assert "seed 8 7" in page.text
    assert "cannot be compared" not in page.text


def test_runs_on_other_images_have_a_separate_table(run: RunFolder) -> None:
    text = report(run, make_run(run.path.with_name("other"), "other", "w" * 64)).text
    assert text.count("their scores cannot be compared") == 2
    assert "v" * 12 in text and "w" * 12 in text


def test_other_protocols_are_marked(run: RunFolder) -> None:
    other = make_run(run.path.with_name("other"), "other")
    scored = json.loads(other.ensemble.read_text())
    write_json(other.ensemble, scored | {"protocol": scored["protocol"] | {"flip": True}})
    text = report(run, other).text
    assert "different protocols" in text and "flip: true · whole image: true (other)" in text


def test_two_runs_of_one_name_are_shown_with_their_folders(run: RunFolder) -> None:
    twin = make_run(run.path.with_name("twin"), "tiny <i>run</i>")
    text = report(run, twin).text
    assert str(run.path) in text and str(twin.path) in text and "tiny <i>run</i> 0.7" not in text


def test_ensembles_are_shown_with_their_gain_and_speed(run: RunFolder) -> None:
    scored = json.loads(run.ensemble.read_text())
    more = {
        "gain": {"value": 0.0538, "low": -0.0111, "high": 0.0999},
        "images_per_second": 3.25,
        "cost": 3,
        "note": "of all",
    }
    scored["ensembles"]["mean"] |= more
    scored["selection"] = {"split": "val", "num_images": 12, "same_images": True}
    write_json(run.ensemble, scored)
    text = report(run).text
    assert "+0.0538 \N{MINUS SIGN}0.0111 to +0.0999 0.8100 0.9321 3.2 3 of all" in text
    assert "selected on 12 images of val, the same images" in text and "honest" not in text
    honest = {"mean": {"mIoU": 0.7, "gain": {"value": 0.01, "low": -0.02, "high": 0.03}}}
    scored["selection"] |= {"honest": honest, "repeats": 10}
    write_json(run.ensemble, scored)
    assert "+0.0100 \N{MINUS SIGN}0.0200 to +0.0300" in report(run).text


def test_agreement_is_shown_by_class_of_a_run_and_of_an_ensemble_above_it(run: RunFolder) -> None:
    scored = json.loads(run.ensemble.read_text())
    title = "Where all members predict the same class"
    assert title not in report(run).text  # of a file of an older version
    scored["agreement"] = {
        "<b>sky</b>": {"agree": 0.9125, "right": 0.8875},
        "bus": {"agree": None, "right": None},
    }
    write_json(run.ensemble, scored)
    text = report(run).text
    assert text.count(title) == 1 and "<b>sky</b> 0.9125 0.8875" in text and "bus \N{EN DASH}" not in text
    scored["dataset"]["fingerprint"] = run.read_manifest().data.val_fingerprint
    write_json(run.path.parent / "ensemble.json", scored)
    assert report(run).text.count(title) == 2
    scored["agreement"]["bus"]["agree"] = 1.5
    write_json(run.ensemble, scored)
    with pytest.raises(RunFolderError, match="agreement on bus is 1.5"):
        report(run)


def test_without_the_mean_the_best_ensemble_is_the_headline(run: RunFolder) -> None:
    scored = json.loads(run.ensemble.read_text())
    mean = scored["ensembles"]["mean"]
    write_json(run.ensemble, scored | {"ensembles": {"greedy": mean | {"mIoU": 0.73}, "weighted": mean}})
    assert "Ensemble mIoU 0.7600 weighted of 2 members" in report(run).text


def test_an_ensemble_of_several_runs_is_found_above_them(run: RunFolder) -> None:
    other = make_run(run.path.with_name("other"), "other")
    scored = json.loads(run.ensemble.read_text())
    for member, name in zip(scored["members"], ("tiny", "other"), strict=True):
        member["run"] = name
    scored["ensembles"]["mean"]["mIoU"] = 0.8123
    scored["dataset"]["fingerprint"] = run.read_manifest().data.val_fingerprint
    above = run.path.parent / "ensemble.json"
    write_json(above, scored)
    text = report(run, other).text
    assert f"Ensembles of several runs {above}" in text
    assert (
        "ensemble (mean) 0.8123" in text
        and "tiny step 200 0.7062" in text
        and "other step 100 0.6550" in text
    )
    scored["dataset"]["fingerprint"] = "of other images"
    write_json(above, scored)
    assert "0.8123" not in report(run, other).text


def test_suggestions_are_shown_with_their_evidence(run: RunFolder) -> None:
    contents = read_runs([run])
    diagnosis = RunDiagnosis(
        "tiny",
        [RunFinding("loss", "It <em>fell</em>.")],
        [Recommendation("Train longer.", ["train.steps=9"], "Rising.")],
    )
    text = Page(render("one", [contents], {}, {run.path: diagnosis})).text
    assert "1. Train longer. Rising. train.steps=9" in text and "loss It <em>fell</em>." in text


def test_an_incomplete_last_line_of_the_log_is_ignored(run: RunFolder) -> None:
    with run.log.open("a") as file:
        file.write('{"step": 300, "spl')
    assert [row["step"] for row in read_log(run.log)] == [50, 100, 200, 200]
    assert read_log(run.path / "none.jsonl") == []


def test_no_manifest_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match=r"no manifest\.json"):
        read_runs([RunFolder(tmp_path)])


def test_loaded_weights_are_shown_as_shares_not_keys() -> None:
    encoder = {"matched": ["key"] * 300, "num_values": 8, "num_matched_values": 6}
    weights = {"source": "hf:mit", "file": "x", "licence": "own", "layout": None, "num_parameters": 9}
    parts = {"encoder": encoder, "other": {"num_values": 0, "num_matched_values": 0}}
    facts = ["source: hf:mit", "licence: own", "encoder: 75.0% filled"]
    assert weights_facts({**weights, "parts": parts}) == facts
    assert weights_facts(None) == []
