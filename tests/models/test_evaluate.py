"""`python -m models.evaluate`, for the networks whose data is here or drawn from seeds, and the measures themselves."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from models import evaluate
from models.depth import render
from models.depth.evaluate import scene_error
from models.depth.scene import draw
from models.sr_x3.data import enlarged, reduced
from models.sr_x3.evaluate import BORDER, psnr
from tests.models.test_manifest import MANIFEST


def measured(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    monkeypatch.setattr(sys, "argv", ["models.evaluate", *words])
    assert evaluate.main() == 0
    return capsys.readouterr().out


def test_fashion_rep(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    last = measured(monkeypatch, capsys, "fashion_rep").splitlines()[-1]
    figure = MANIFEST["fashion_rep"]["metric"]["figure"]
    assert float(last) == pytest.approx(figure, abs=1e-3)  # another processor may decide a close call or two otherwise


def test_depth_on_few_scenes(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    text = measured(monkeypatch, capsys, "depth", "--count", "2")
    found = re.search(r"on 2 held-out synthetic scenes: (0\.\d+)", text)
    constant = re.search(r"best constant depth for each image: (0\.\d+)", text)
    assert found is not None
    assert constant is not None
    assert float(found[1]) < 0.6 * float(constant[1])


def test_another_file(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    path = Path(evaluate.HERE / "fashion_rep" / "fashion_rep.onnx")
    assert str(path) in measured(monkeypatch, capsys, "fashion_rep", "--model", str(path))


def test_the_names(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert measured(monkeypatch, capsys).split() == list(MANIFEST)


def test_an_unknown_name(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["models.evaluate", "fashion"])
    with pytest.raises(SystemExit) as stop:
        evaluate.main()
    assert stop.value.code == 2
    assert "there are fashion_rep, depth" in capsys.readouterr().err


def test_another_file_than_the_manifest_describes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    text = (evaluate.HERE / "manifest.toml").read_text(encoding="utf-8")
    digest = MANIFEST["fashion_rep"]["sha256"]
    (tmp_path / "fashion_rep").mkdir()
    (tmp_path / "manifest.toml").write_text(text.replace(digest, digest[::-1]), encoding="utf-8")
    source = evaluate.HERE / "fashion_rep" / "fashion_rep.onnx"
    (tmp_path / "fashion_rep" / "fashion_rep.onnx").write_bytes(source.read_bytes())
    monkeypatch.setattr(evaluate, "HERE", tmp_path)
    monkeypatch.setattr(sys, "argv", ["models.evaluate", "fashion_rep"])
    assert evaluate.main() == 1
    assert "is not the file that the manifest describes" in capsys.readouterr().err


def test_evaluation_needs_no_torch() -> None:
    modules = ", ".join(f"models.{name}.evaluate" for name in MANIFEST)
    script = f"import sys\nimport {modules}, models.retrain, models.depth.render\nassert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", script], cwd=evaluate.HERE.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_psnr_leaves_the_border_out() -> None:
    original = np.zeros((20, 20, 3), np.uint8)
    candidate = original.copy()
    candidate[:BORDER] = 255
    candidate[BORDER:] = 51  # a fifth of the range everywhere
    assert psnr(original, candidate) == pytest.approx(20 * np.log10(5))


def test_enlarging_undoes_the_size() -> None:
    from PIL import Image

    image = Image.new("RGB", (30, 24), (10, 200, 90))
    assert enlarged(reduced(image)).size == image.size
    assert np.ptp(np.asarray(enlarged(reduced(image))), axis=(0, 1)).max() == 0


def test_scene_error_ignores_the_scale() -> None:
    depth = np.array([[1, 2, 4], [8, 16, 60]], np.float32)  # the last one counts as infinitely far
    exact = np.log(depth)
    assert scene_error(exact, depth)[:2] == pytest.approx((0, 0), abs=1e-6)
    invariant, plain, spread = scene_error(exact + np.float32(0.5), depth)
    assert invariant == pytest.approx(0, abs=1e-6)
    assert plain == pytest.approx(0.5, abs=1e-6)
    assert spread == pytest.approx(np.std(np.log([1, 2, 4, 8, 16])), abs=1e-6)


def test_scenes_follow_from_their_seeds() -> None:
    size = (24, 32)
    for seed in (0, render.HELD_OUT):
        image, depth = render.render(draw(seed), size)
        again, far = render.render(draw(seed), size)
        assert (image == again).all()
        assert (depth == far).all()
        assert image.shape == (*size, 3)
        assert 0 < depth.min() <= depth.max() <= 60
    assert render.TRAINING_IMAGES < render.HELD_OUT  # no scene is in both
