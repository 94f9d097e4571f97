"""`trident board`: runs are listed with what their files say, however complete those are."""

import io
import json
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest
from rich.console import Console

from engine.board import main
from engine.reporting.board import status
from engine.reporting.board.page import curve_points, new_server, render
from engine.reporting.board.status import Board, RunStatus
from engine.reporting.board.table import board_table, sparkline
from engine.run_folder import DataIdentity, Manifest, RunFolder, is_in_use, locked

RECIPE = "name: x\ndata: {format: synthetic}\ntrain: {steps: 100, batch: 8}\nmodel: {variant: b0}\n"


def a_run(
    path: Path, steps: int = 40, scores: tuple[float, ...] = (0.2, 0.4, 0.3), **more: object
) -> RunFolder:
    """A run that logged every 10 updates of half a second each, and an evaluation every 10."""
    run = RunFolder(path)
    run.create()
    run.recipe.write_text(RECIPE)
    data = DataIdentity(format="a", train="a", val="a", train_fingerprint="", val_fingerprint="")
    run.write_manifest(
        Manifest(
            name=path.name, code_version="0", class_names=["a", "b"],
            palette=[(0, 0, 0), (1, 1, 1)], data=data,
            metric="mIoU", num_parameters=1, **more,
        )
    )  # fmt: skip
    rows = [
        {"step": step, "split": "train", "loss": 1 / step, "time": 0.5} for step in range(10, steps + 1, 10)
    ]
    rows += [{"step": 10 * n, "split": "val", "mIoU": value} for n, value in enumerate(scores, start=1)]
    run.log.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return run


def add_to_log(run: RunFolder, text: str) -> None:
    with run.log.open("a") as file:
        file.write(text)


def save_state(run: RunFolder, step: int = 1) -> None:
    """As much of a state as tells with which log it was saved."""
    num_bytes = run.log.stat().st_size if run.log.exists() else 0
    rest = json.dumps({"step": step, "log": {"bytes": num_bytes, "sha256": ""}})
    header = json.dumps({"__metadata__": {"trident": rest}}).encode()
    run.last_state.write_bytes(len(header).to_bytes(8, "little") + header)


def look(folder: Path) -> dict[str, RunStatus]:
    return {run.name: run for run in Board([folder]).look()}


@pytest.fixture
def held() -> Iterator[type]:
    """Lets another process hold folders as a training does."""
    processes: list[subprocess.Popen[str]] = []
    code = (
        "import sys; from pathlib import Path; from engine.run_folder.lock import locked\n"
        "with locked(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )

    def hold(folder: Path) -> None:
        command = [sys.executable, "-c", code, str(folder)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        processes.append(process)
        assert process.stdout and process.stdout.readline() == "held\n"

    yield hold
    for process in processes:
        process.communicate("", timeout=30)


def test_a_running_run_has_its_step_score_speed_and_time_left(tmp_path: Path, held) -> None:
    run = a_run(tmp_path / "a")
    held(run.path)
    found = look(tmp_path)["a"]
    assert (found.state, found.step, found.num_steps) == ("running", 40, 100)
    assert found.curve == ((10, 0.2), (20, 0.4), (30, 0.3)) and not found.is_loss
    assert found.score == 0.3 and found.best == (20, 0.4)
    assert found.left_s == 60 * 0.5 and found.images_per_s == 8 / 0.5
    assert found.message == "" and found.problems == ()


def test_a_run_that_ended(tmp_path: Path) -> None:
    a_run(tmp_path / "finished", finished=True)
    stopped, failed, killed = (a_run(tmp_path / name) for name in ("stopped", "failed", "killed"))
    for run in (stopped, failed):
        save_state(run)
    add_to_log(failed, '{"step": 50, "split": "train", "loss": 1}\n')
    for run in (stopped, failed, killed):
        with locked(run.path):
            pass
    found = look(tmp_path)
    assert {name: run.state for name, run in found.items()} == {
        "finished": "finished", "stopped": "stopped", "failed": "failed", "killed": "failed",
    }  # fmt: skip
    assert "--resume" in found["stopped"].message and "older than its log" in found["failed"].message
    assert "no state" in found["killed"].message
    assert all(run.left_s is None for run in found.values())


def test_a_run_that_was_stopped_before_its_first_line_is_at_the_update_of_its_state(tmp_path: Path) -> None:
    noted, silent, further = (
        a_run(tmp_path / name, steps=0, scores=()) for name in ("noted", "silent", "further")
    )
    add_to_log(noted, json.dumps({"step": 0, "split": "note", "text": "a note"}) + "\n")
    silent.log.unlink()
    add_to_log(further, json.dumps({"step": 9, "split": "train", "loss": 1.0}) + "\n")
    for run in (noted, silent, further):
        save_state(run, step=7)
        with locked(run.path):
            pass
    found = look(tmp_path)
    assert {name: (run.state, run.step) for name, run in found.items()} == {
        "noted": ("stopped", 7), "silent": ("stopped", 7), "further": ("stopped", 9),
    }  # fmt: skip


def test_no_resume_is_promised_where_a_file_forbids_it(tmp_path: Path) -> None:
    """`--resume` refuses these; so it does a recipe that is not the one of the manifest."""
    runs = {name: a_run(tmp_path / name) for name in ("cut", "altered", "recipe")}
    for run in runs.values():
        save_state(run)
        with locked(run.path):
            pass
    text = runs["cut"].manifest.read_text()
    runs["cut"].manifest.write_text(text[: len(text) // 2])
    runs["altered"].manifest.write_text(text.replace('"num_parameters": 1', '"num_parameters": 2'))
    runs["recipe"].write_final(runs["recipe"].read_manifest(), runs["recipe"].recipe)
    runs["recipe"].recipe.write_text(RECIPE + "seed: 3\n")
    found = look(tmp_path)
    for name, words in (("cut", "is damaged"), ("altered", "was altered"), ("recipe", "recipe.yaml")):
        assert found[name].state == "stopped" and "Mend what is named" in found[name].message
        [problem] = found[name].problems
        assert words in problem


def test_the_lock_is_seen_and_not_taken(tmp_path: Path, held) -> None:
    assert is_in_use(tmp_path / "none") is None
    folder = tmp_path / "run"
    held(folder)
    before = (folder / ".lock").read_text()
    assert is_in_use(folder) is True and (folder / ".lock").read_text() == before
    with locked(tmp_path / "other"):
        pass
    assert is_in_use(tmp_path / "other") is False


def test_of_another_machine_the_age_of_the_log_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = a_run(tmp_path / "a")
    (run.path / ".lock").write_text("process 1 on elsewhere, since 2026-01-01\n")
    assert is_in_use(run.path) is None
    changed_at = run.log.stat().st_mtime
    for age, state in ((200, "running"), (400, "failed")):
        monkeypatch.setattr(status.time, "time", lambda age=age: changed_at + age)
        assert look(tmp_path)["a"].state == state
    slow = {"step": 50, "split": "train", "time": 20.0}  # 200 s between two lines
    run.log.write_text("".join(json.dumps(slow | {"step": step}) + "\n" for step in (10, 20, 30)))
    changed_at = run.log.stat().st_mtime
    for age, state in ((900, "running"), (1100, "failed")):
        monkeypatch.setattr(status.time, "time", lambda age=age: changed_at + age)
        assert look(tmp_path)["a"].state == state


@pytest.mark.parametrize(
    "damage",
    [
        lambda run: add_to_log(run, '{"step": 50, "split": "tr'),
        lambda run: add_to_log(run, "no JSON\n[1]\n{}\n" + "[" * 100_000 + "\n"),
        lambda run: add_to_log(run, '{"step": 50, "split": "val", "mIoU": null, "time": "x"}\n'),
        lambda run: run.log.write_bytes(b"\xff\xfe\n"),
        lambda run: add_to_log(
            run, f'{{"step": {10**400}, "split": "val", "mIoU": {10**400}, "time": {10**400}}}\n'
        ),
        lambda run: add_to_log(run, f'{{"step": 1, "split": "val", "mIoU": {10**400}, "loss": NaN}}\n'),
        lambda run: run.log.unlink(),
        lambda run: run.manifest.unlink(),
        lambda run: run.manifest.write_text('{"name": '),
        lambda run: run.manifest.write_text("[]"),
        lambda run: run.recipe.unlink(),
        lambda run: run.recipe.write_text("train: {steps: [}"),
        lambda run: run.recipe.write_text("data: {format: 'gone_module:opener'}\nname: a"),
        lambda run: run.last_state.write_bytes(b"\xff" * 20),
        lambda run: (run.log.unlink(), run.log.mkdir()),
        lambda run: (run.manifest.unlink(), run.manifest.mkdir()),
    ],
)
def test_whatever_is_damaged_the_run_is_listed_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], damage
) -> None:
    run = a_run(tmp_path / "runs/a")
    a_run(tmp_path / "runs/b")
    damage(run)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert main([str(tmp_path / "runs"), "--once"]) == 0
    printed = capsys.readouterr().out
    assert "a" in printed.split() and "b" in printed.split()
    board = Board([tmp_path / "runs"])
    assert "<h2>a</h2>" in render(board.look(), [tmp_path], 2.0, "")
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    run = a_run(tmp_path / "a")
    add_to_log(run, "no JSON\n")
    run.manifest.write_text("{")
    found = look(tmp_path)["a"]
    assert found.step == 40 and found.score == 0.3
    assert any("manifest.json is damaged" in text for text in found.problems)
    assert "1 line of log.jsonl cannot be read." in found.problems


def test_a_board_follows_a_run_from_its_start(tmp_path: Path, held) -> None:
    board = Board([tmp_path])
    assert board.look() == []
    run = a_run(tmp_path / "deep/a", steps=20, scores=())
    held(run.path)
    [first] = board.look()
    assert first.name == "deep/a" and first.is_loss and first.curve == ((10, 0.1), (20, 0.05))
    add_to_log(
        run, '{"step": 30, "split": "val", "mIoU": 0.5}\n{"step": 30, "split": "note", "text": "slow"}\n'
    )
    [second] = board.look()
    assert (second.step, second.score, second.message) == (30, 0.5, "slow")


def test_a_recipe_next_to_runs_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    a_run(tmp_path / "checkpoints/a")
    assert list(look(tmp_path)) == ["checkpoints/a"]


def test_a_run_in_two_of_the_folders_is_listed_once(tmp_path: Path) -> None:
    a_run(tmp_path / "runs/a")
    assert len(Board([tmp_path, tmp_path / "runs", tmp_path / "runs/a"]).look()) == 1


@pytest.mark.parametrize(
    ("values", "blocks"),
    [([], ""), ([3.0], "▁"), ([1.0, 1.0], "▁▁"), ([0.0, 1.0], "▁█"), ([0.0, 3.0, 7.0], "▁▄█")],
)
def test_the_sparkline_grows_with_the_values(values: list[float], blocks: str) -> None:
    assert sparkline(values) == blocks


def test_a_long_curve_keeps_its_ends() -> None:
    line = sparkline([float(value) for value in range(1000)], width=8)
    assert line == "▁▂▃▄▅▆▇█"
    points = curve_points([(step, float(step)) for step in range(0, 101, 10)])
    assert points[0] == (3.0, 41.0) and points[-1] == (197.0, 3.0)


@pytest.mark.parametrize("width", [60, 100, 160])
def test_a_narrow_terminal_leaves_columns_out_and_no_run(tmp_path: Path, width: int) -> None:
    run = a_run(tmp_path / "a[bold]b")
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(board_table(Board([tmp_path]).look(), width, ""))
    text = console.export_text()
    assert "a[bold]b" in text.replace("\n", "") and "0.3000" in text
    assert max(map(len, text.splitlines())) <= width
    assert ("images/s" in text) is (width >= 90) and ("message" in text) is (width >= 120)
    assert run.manifest.is_file()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ThreadingHTTPServer]:
    a_run(tmp_path / "<img src=x onerror=alert(1)>")
    board = Board([tmp_path])
    server = new_server(0, lambda: render(board.look(), [tmp_path], 2.0, "none"))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def get(server: ThreadingHTTPServer, path: str = "/", host: str | None = None, method: str = "GET") -> str:
    request = urllib.request.Request(f"http://127.0.0.1:{server.server_port}{path}", method=method)
    if host:
        request.add_header("Host", host)
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request) as answer:
        return answer.read().decode()


def test_the_page_escapes_names_and_draws_curves(server: ThreadingHTTPServer) -> None:
    page = get(server)
    assert "&lt;img src=x onerror=alert(1)&gt;" in page and "<img" not in page
    assert page.count("<polyline") == 1 and "0.3000" in page and "http://" not in page


@pytest.mark.parametrize(
    ("path", "host", "method", "code"),
    [("/../x", None, "GET", 404), ("/", "evil.example", "GET", 403), ("/", None, "POST", 501)],
)
def test_the_server_answers_only_this_machine_and_only_reads(
    server: ThreadingHTTPServer, path: str, host: str | None, method: str, code: int
) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        get(server, path, host, method)
    assert caught.value.code == code
    assert server.server_address[0] == "127.0.0.1"


def test_a_port_that_is_taken(
    server: ThreadingHTTPServer, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    assert main([str(tmp_path), "--port", str(server.server_port)]) == 2
    assert "--port=0 takes a free one" in capsys.readouterr().err

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ThreadingHTTPServer, "serve_forever", interrupted)
    assert main([str(tmp_path), "--port=0"]) == 0
    assert "http://127.0.0.1:" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "No folder nowhere"),
        (["."], ""),
        ([".", "--every", "0"], "expected seconds"),
        ([".", "--port", "99999"], "from 0 to 65535"),
        ([".", "--once", "--serve"], "leave one of them out"),
    ],
)
def test_wrong_input_is_exit_2(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == (2 if message else 0)
    captured = capsys.readouterr()
    assert message in captured.err and "Traceback" not in captured.err
    assert bool(message) or "Train one: trident run" in captured.out
