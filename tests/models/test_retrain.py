"""`python -m models.retrain`: what runs, in which order, beside what, and what a failure does."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from models import retrain
from tests.models.test_manifest import MANIFEST


def names(jobs: list[retrain.Job]) -> list[tuple[str, ...]]:
    return [job.names for job in jobs]


def test_networks_of_one_command_are_one_job() -> None:
    jobs = retrain.planned(MANIFEST, [*MANIFEST])
    assert sorted(name for job in jobs for name in job.names) == sorted(MANIFEST)
    assert ("sr_x3", "sr_x3_masked") in names(jobs)


def test_the_longest_chain_begins_first() -> None:
    manifest = {
        "short": {"command": "s", "minutes": 5},
        "long": {"command": "l", "minutes": 20},
        "first": {"command": "f", "minutes": 15},
        "second": {"command": "g", "minutes": 10, "after": "first"},
    }
    assert names(retrain.planned(manifest, [*manifest])) == [("first",), ("long",), ("second",), ("short",)]


def test_only_what_is_trained_is_waited_for() -> None:
    (job,) = retrain.planned(MANIFEST, ["cifar_qat"])
    assert not job.after
    both = {job.names: job.after for job in retrain.planned(MANIFEST, ["cifar_qat", "cifar_rep"])}
    assert both == {("cifar_rep",): frozenset(), ("cifar_qat",): frozenset({"cifar_rep"})}


def test_a_circle_is_refused() -> None:
    manifest = {"a": {"command": "a", "after": "b"}, "b": {"command": "b", "after": "a"}}
    with pytest.raises(ValueError, match="waits for itself"):
        retrain.planned(manifest, ["a", "b"])


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(retrain, "POLL_SECONDS", 0.01)
    yield


def table(script: str, **more: Any) -> dict[str, Any]:
    return {"command": f"python -c {shlex.quote(script)}", **more}


def test_a_job_waits_for_the_one_that_it_starts_from(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    manifest = {
        "second": table(f"print(open({str(mark)!r}).read())", after="first"),
        "first": table(f"import time; time.sleep(0.2); open({str(mark)!r}, 'w').write('was here')"),
    }
    assert retrain.retrain(retrain.planned(manifest, [*manifest]), 2, tmp_path) == []
    assert (tmp_path / "second.log").read_text().strip() == "was here"


def test_two_run_side_by_side_with_one_thread_each(tmp_path: Path) -> None:
    meet = "import os, pathlib, time\n" + "\n".join(
        [
            "assert os.environ['OMP_NUM_THREADS'] == '1'",
            "pathlib.Path({mine!r}).touch()",
            "end = time.monotonic() + 20",
            "while not pathlib.Path({other!r}).exists(): assert time.monotonic() < end; time.sleep(0.01)",
        ]
    )
    a, b = str(tmp_path / "a"), str(tmp_path / "b")
    manifest = {"a": table(meet.format(mine=a, other=b)), "b": table(meet.format(mine=b, other=a))}
    assert retrain.retrain(retrain.planned(manifest, [*manifest]), 2, tmp_path) == []


def test_a_failure_names_the_log_and_ends_with_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [
        "[bad]",
        "command = \"python -c 'raise SystemExit(3)'\"",
        "[waits]",
        "command = \"python -c 'print(1)'\"",
        'after = "bad"',
        "[good]",
        "command = \"python -c 'print(2)'\"",
    ]
    (tmp_path / "manifest.toml").write_text("\n".join(lines))
    monkeypatch.setattr(retrain, "HERE", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["models.retrain"])
    assert retrain.main() == 1
    out, err = capsys.readouterr()
    assert "bad: failed with exit code 3" in out
    assert "good: done; 2" in out
    assert "not begun: waits" in out
    assert err.strip() == f"error: bad failed; its output is in {Path('build/retrain/bad.log')}"
    assert not (tmp_path / "build/retrain/waits.log").exists()


@pytest.mark.parametrize(("words", "error"), [(["nothing"], "not in manifest.toml: nothing"), (["--jobs", "0"], "at least 1")])
def test_bad_arguments(words: list[str], error: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["models.retrain", *words])
    with pytest.raises(SystemExit) as stop:
        retrain.main()
    assert stop.value.code == 2
    assert error in capsys.readouterr().err
