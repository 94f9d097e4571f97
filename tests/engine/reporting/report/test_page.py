"""The report of a run folder made by hand, read back with a parser."""

import base64
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from PIL import Image

from engine.reporting.html import read_log, write_report
from engine.reporting.pictures import Picture
from engine.run_folder import DataIdentity, Manifest, Member, RunFolder, RunFolderError

NAMES = ["background", "<b>cat</b>", "bus"]
PALETTE = ((0, 0, 0), (200, 40, 0), (0, 100, 250))
FIRST = {"background": 0.9, "<b>cat</b>": 0.5125, "bus": None}
SECOND = {"background": 0.91, "<b>cat</b>": 0.4, "bus": None}
MEAN = {"background": 0.92, "<b>cat</b>": 0.6, "bus": None}
VOID_TAGS = {"meta", "img", "link", "br", "hr", "input"}


class Page(HTMLParser):
    """Words, tags and addresses of a page; fails where tags do not close in order."""

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
        if self._open and self._open[-1] != "style":
            self.words.append(data)


def scores(mean: float, iou: dict) -> dict:
    return {"mIoU": mean, "mAcc": mean + 0.05, "aAcc": 0.9321, "IoU": iou}


def picture(name: str = "one") -> Picture:
    labels = torch.tensor([[0, 1, 255], [1, 1, 0]], dtype=torch.uint8)
    return Picture(name, torch.full((3, 2, 3), 100, dtype=torch.uint8), labels, torch.ones_like(labels))


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A finished run of two members, with everything that it leaves."""
    folder = RunFolder(tmp_path / "tiny")
    folder.create()
    members = [
        Member(file=f"top/step-{step:07d}.safetensors", step=step, scores={"mIoU": score}, sha256="0" * 64)
        for step, score in ((200, 0.7062), (100, 0.655))
    ]
    data = DataIdentity(format="voc", train="train", val="val", train_fingerprint="t", val_fingerprint="v")
    folder.write_manifest(
        Manifest(
            name="tiny <i>run</i>",
            code_version="0.1.0+abc",
            class_names=NAMES,
            palette=[(0, 0, 0)] * len(NAMES),
            data=data,
            metric="mIoU",
            num_parameters=1234567,
            finished=True,
            members=members,
        )
    )
    rows = [
        {"step": 50, "split": "train", "loss": 1.5, "decode.loss_ce": 1.0, "lr": 1e-3, "base_lr": 1e-4},
        {"step": 100, "split": "val", "loss": 0.6, **scores(0.655, SECOND)},
        {"step": 200, "split": "val", "loss": 0.5, **scores(0.7062, FIRST)},
    ]
    folder.log.write_text("".join(json.dumps(row) + "\n" for row in rows))
    folder.recipe.write_text("name: tiny\nmodel: {arch: <script>}\n")
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
    (folder.path / "ensemble.json").write_text(json.dumps(ensemble))
    return folder


def report(run: RunFolder, pictures: tuple[Picture, ...] = ()) -> Page:
    path = write_report(run, pictures, PALETTE, 255)
    assert path == run.report
    return Page(path.read_text(encoding="utf-8"))


def change_manifest(run: RunFolder, **changes: object) -> None:
    run.write_manifest(run.read_manifest().model_copy(update=changes))


def test_the_headline_is_that_of_the_files(run: RunFolder) -> None:
    text = report(run).text
    for said in (
        "tiny <i>run</i>",
        "Ensemble mIoU 0.7600",
        "Best member 0.7062 step 200",
        "Ensemble gain +0.0538",
        "Background only 0.3125",
        "1 of 3: bus. No label",
        "9,000 scored, 1,000 void (10.0% of all) left out",
        "name: native · scales: [1.0] · flip: false · whole image: true",
        "12 images of pets, val",
        "1,234,567 parameters",
        "0.1.0+abc",
    ):
        assert said in text, said
    assert "has not finished" not in text and "no ensemble score" not in text


def test_each_class_has_the_iou_of_each_model(run: RunFolder) -> None:
    text = report(run).text
    assert "background 0.9200 0.9000 0.9100" in text
    assert "<b>cat</b> 0.6000 0.5125 0.4000" in text
    assert "bus absent absent absent" in text


def test_names_and_recipe_are_escaped(run: RunFolder) -> None:
    page = report(run, (picture("<img src=x>"),))
    assert not {"b", "i", "script"} & set(page.tags)
    assert page.tags.count("img") == 4
    assert "<img src=x>" in page.text and "arch: <script>" in page.text


def test_the_page_stands_alone(run: RunFolder) -> None:
    page = report(run, (picture(),))
    assert not {"link", "script", "iframe"} & set(page.tags)
    assert all(address.startswith(("data:image/webp;base64,", "#")) for address in page.addresses)
    source = run.report.read_text(encoding="utf-8")
    assert "@import" not in source and set(re.findall(r"url\((.)", source)) <= {"#"}
    assert "default-src 'none'" in source


def test_pictures_are_webp_with_their_proportions(run: RunFolder) -> None:
    page = report(run, (picture("first"), picture("second")))
    uris = [address for address in page.addresses if address.startswith("data:")]
    assert len(uris) == 8
    for uri in uris:
        image = Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1])))
        assert (image.format, image.size) == ("WEBP", (9, 6))  # 3 x 2, three times as large
    assert "60.0% of labelled pixels right" in page.text
    assert page.text.index("first") < page.text.index("second")


def test_plots_are_in_the_page(run: RunFolder) -> None:
    page = report(run)
    assert page.tags.count("svg") == 4  # bars, mIoU, loss, learning rate
    assert "mIoU on val" in page.text and "kept" in page.text


def test_without_ensemble_json_the_log_speaks(run: RunFolder) -> None:
    (run.path / "ensemble.json").unlink()
    text = report(run).text
    assert f"python -m engine.ensemble {run.path}" in text
    assert "Best member 0.7062 step 200" in text and "Ensemble mIoU" not in text
    assert "<b>cat</b> 0.5125 0.4000" in text


def test_one_member_alone_makes_no_ensemble(run: RunFolder) -> None:
    path = run.path / "ensemble.json"
    scored = json.loads(path.read_text())
    path.write_text(json.dumps(scored | {"members": scored["members"][:1], "ensembles": {}}))
    text = report(run).text
    assert "Best member 0.7062" in text and "Ensemble mIoU" not in text and "Background only 0.3125" in text
    assert "no ensemble score" not in text


def test_a_run_cut_off_at_its_start_still_has_a_page(run: RunFolder) -> None:
    for path in (run.path / "ensemble.json", run.log, run.recipe):
        path.unlink()
    change_manifest(run, finished=False, members=[])
    page = report(run)
    assert "This run has not finished." in page.text and "--resume" in page.text
    assert "svg" not in page.tags


def test_half_a_last_line_of_the_log_is_left_out(run: RunFolder) -> None:
    with run.log.open("a") as file:
        file.write('{"step": 300, "spl')
    assert [row["step"] for row in read_log(run.log)] == [50, 100, 200]
    assert read_log(run.path / "none.jsonl") == []


def test_no_manifest_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match=r"no manifest\.json"):
        write_report(RunFolder(tmp_path), (), PALETTE, 255)
