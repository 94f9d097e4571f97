"""The page in a real Chromium: layout, sorting, switches, and no errors in its console."""

import json
from pathlib import Path

import pytest

from engine.report import main
from engine.run_folder import RunFolder
from tests.engine.reporting.report.browser import Browser

SHOWN_LAYERS = """
[...document.querySelectorAll('.run:not([hidden]) figure .stage img')]
    .filter(image => getComputedStyle(image).visibility === 'visible').map(image => image.className)
"""
FIRST_COLUMN = "[...document.querySelectorAll('#runs-1 tbody th')].map(cell => cell.dataset.value)"
TOO_WIDE = """
[...document.querySelectorAll('main *')].filter(element => {
    const box = element.closest('.scroll, .matrix, pre, .tabs, .switch, svg');
    return !box && element.getBoundingClientRect().right > document.documentElement.clientWidth + 1;
}).map(element => element.outerHTML.slice(0, 80))
"""


@pytest.fixture(scope="module")
def page(finished_runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("page") / "report.html"
    assert main([str(finished_runs), "--out", str(out), "--images", "2"]) == 0
    return out


@pytest.fixture
def ranked(finished_runs: Path) -> list[str]:
    """The names of the runs, the one with the best member first."""
    scores = {
        RunFolder(folder).read_manifest().name: max(
            member["mIoU"] for member in json.loads((folder / "ensemble.json").read_text())["members"]
        )
        for folder in finished_runs.iterdir()
    }
    return sorted(scores, key=lambda name: -scores[name])


@pytest.fixture
def browser(chromium: Browser, page: Path) -> Browser:
    """The page, newly loaded in a large window; errors in the console fail the test."""
    chromium.complaints.clear()
    chromium.open(page, 1440)
    return chromium


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [390, 1440])
def test_nothing_overflows_and_the_console_has_no_errors(
    chromium: Browser, page: Path, width: int, dark: bool
) -> None:
    chromium.complaints.clear()
    chromium.open(page, width, dark=dark)
    for tab in range(2):
        chromium.run(f"document.querySelectorAll('[role=tab]')[{tab}].click()")
        assert chromium.run("document.documentElement.scrollWidth") == width
        assert chromium.run(TOO_WIDE) == []
    ground = chromium.run("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, ground[4:-1].split(","))) < 3 * 60) == dark
    assert chromium.complaints == []


def test_tables_sort_by_mouse_and_by_keyboard(browser: Browser, ranked: list[str]) -> None:
    assert browser.run(FIRST_COLUMN) == ranked
    run, score = "#runs-1 thead th:nth-child(1)", "#runs-1 thead th:nth-child(2)"
    assert browser.run(f"document.querySelector('{score}').ariaSort") == "descending"
    browser.run(f"document.querySelector('{run} button').click()")
    assert browser.run(FIRST_COLUMN) == ["a <i>plain</i> run", "better"]
    assert browser.run(f"document.querySelector('{run}').ariaSort") == "ascending"
    browser.run(f"document.querySelector('{run} button').focus()")
    browser.press("Enter")
    assert browser.run(FIRST_COLUMN) == ["better", "a <i>plain</i> run"]
    assert browser.run("document.querySelectorAll('#runs-1 th[aria-sort]').length") == 1
    assert browser.complaints == []


def test_missing_values_are_last_in_either_order(browser: Browser) -> None:
    gains = "[...document.querySelectorAll('.run:not([hidden]) .sortable')][0]"
    column = f"[...{gains}.tBodies[0].rows].map(row => row.cells[3].dataset.value === '')"
    for _ in range(2):
        browser.run(f"{gains}.tHead.rows[0].cells[3].querySelector('button').click()")
        assert browser.run(column) == [False, True, True]  # the ensemble, and two members


def test_overlays_switch_by_button_and_by_key(browser: Browser) -> None:
    assert set(browser.run(SHOWN_LAYERS)) == {"image", "prediction"}
    browser.run("document.querySelector('.toolbar button[data-view=errors]').click()")
    assert set(browser.run(SHOWN_LAYERS)) == {"image", "errors"}
    for key, view in enumerate(("image", "label", "prediction", "errors", "confidence"), 1):
        browser.press(str(key))
        assert set(browser.run(SHOWN_LAYERS)) == {"image", view}
        pressed = browser.run(
            "[...document.querySelectorAll('[aria-pressed=true]')].map(b => b.dataset.view)"
        )
        assert set(pressed) == {view}
    assert browser.complaints == []


def test_arrow_keys_move_through_the_images_and_enter_enlarges(browser: Browser) -> None:
    stages = browser.run(
        "[...document.querySelectorAll('.run:not([hidden]) figure > .stage')].map(s => s.ariaLabel)"
    )
    assert len(stages) == 4  # two worst, two best
    browser.run("document.querySelector('.run:not([hidden]) figure > .stage').focus()")
    focused = "document.activeElement.ariaLabel"
    browser.press("ArrowRight")
    assert browser.run(focused) == stages[1]
    browser.press("Enter")
    caption = "document.querySelector('dialog[open] .caption').textContent"
    assert browser.run(caption).split()[0] == stages[1].split()[-1]
    browser.press("ArrowLeft")
    browser.press("ArrowLeft")
    assert browser.run(caption).split()[0] == stages[3].split()[-1]  # wraps around at the end
    browser.press("2")
    enlarged = "getComputedStyle(document.querySelector('dialog .stage .label')).visibility"
    assert browser.run(enlarged) == "visible"
    browser.press("Escape")
    assert browser.run("document.querySelector('dialog').open") is False
    assert browser.run(focused) == stages[3]
    assert browser.complaints == []


def test_tabs_show_one_run_at_a_time(browser: Browser, ranked: list[str]) -> None:
    shown = "[...document.querySelectorAll('.run:not([hidden]) h2')].map(h => h.textContent)"
    assert browser.run(shown) == ranked[:1]
    browser.run("document.querySelector('[role=tab]').focus()")
    browser.press("ArrowRight")
    assert browser.run(shown) == ranked[1:]
    assert browser.run("document.querySelectorAll('#images').length") == 1


def test_the_theme_can_be_chosen(browser: Browser) -> None:
    for theme in ("light", "dark", "auto"):
        browser.run("document.getElementById('theme').click()")
        assert browser.run("document.getElementById('theme').textContent") == f"Theme: {theme}"
        ground = browser.run("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, ground[4:-1].split(","))) < 3 * 60) == (theme == "dark")


def test_a_curve_shows_its_values_at_the_pointer(browser: Browser) -> None:
    browser.point(".chart[data-chart] svg", 0.95, 0.5)
    words = browser.run("document.querySelector('.readout').innerText")
    assert words.startswith("step 400") and "better" in words and "0.4" in words
