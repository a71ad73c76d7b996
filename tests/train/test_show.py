"""What a model says is drawn beside the truth."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mixlaw.errors import ConfigError, DataError
from tests.data.pictures import COLOURS, PLACES, write_pictures
from tests.marks import slow
from tests.train.tiny import image_run
from train.compose import compose_config, plan_run
from train.export import read_run
from train.loop import run
from train.plan import Plan
from train.show import against_nothing, asked, letters_alone, main, mean_patch, predict_patches, say, show


def trained(tmp_path: Path, family: str, *more: str) -> Path:
    plan = plan_run(compose_config(image_run(tmp_path, family, *more)))
    assert run(plan) == "finished"
    return Path(plan.config.machine.runs) / plan.folder_name


@pytest.mark.parametrize("family", [slow("multimodal"), "vision"])
def test_images_are_drawn_with_their_captions_and_what_the_model_says(family: str, tmp_path: Path) -> None:
    folder = trained(tmp_path, family)
    shown = show(read_run(folder), 9)
    assert [one.domain for one in shown] == ["other"] * 3 + ["captions"] * 3 + ["loud"] * 3
    for one in shown:
        colour, place = one.caption.rstrip("!").split()
        assert place in PLACES
        half = {"top": np.s_[:4], "bottom": np.s_[4:], "left": np.s_[:, :4], "right": np.s_[:, 4:]}[place]
        assert (one.image[half] == COLOURS[colour]).all()
        assert (one.predicted is not None) == (family == "vision")
    assert main([str(folder), "--out", str(tmp_path / "p.png"), "--n", "9"]) == 0
    with Image.open(tmp_path / "p.png") as drawn:
        assert drawn.width > 600


@pytest.mark.parametrize("family", ["multimodal", slow("vision")])
def test_a_model_says_the_most_likely_token_each_time(family: str, tmp_path: Path) -> None:
    trained_run = read_run(trained(tmp_path, family))
    layout = trained_run.config.layout()
    images = np.stack([one.image for one in show(trained_run, 3)])
    first = say(trained_run, images, end_id=-1)[0]
    batch = {k: torch.from_numpy(v) for k, v in asked(family, layout, images[:1], np.array([first])).items()}
    scores = trained_run.model.logits(batch)[0, layout.n_patches - 1 :]  # of all places at once, as in training
    assert scores[: len(first)].argmax(-1).tolist() == first


def test_predicted_patches_leave_the_prefix_as_it_is(tmp_path: Path) -> None:
    trained_run = read_run(trained(tmp_path, "vision"))
    images = np.stack([one.image for one in show(trained_run, 6)])
    predicted = predict_patches(trained_run, images)
    assert np.array_equal(predicted[:, :4], images[:, :4])  # two of four patches
    assert not np.array_equal(predicted[:, 4:], images[:, 4:])


def test_models_of_text_have_nothing_to_show(
    tmp_path: Path, plan: Callable[..., Plan], capsys: pytest.CaptureFixture[str]
) -> None:
    this = plan()
    run(this)
    folder = Path(this.config.machine.runs) / this.folder_name
    assert main([str(folder), "--out", str(tmp_path / "x.png")]) == ConfigError.exit_code
    assert "is a model of text" in capsys.readouterr().err


@pytest.mark.slow
def test_without_captions_only_patches_are_shown(tmp_path: Path) -> None:
    folder = trained(tmp_path, "vision", "model.text_loss_weight=0", "evaluation.split=test")
    assert all(one.said == "" and one.predicted is not None for one in show(read_run(folder), 3))
    assert main([str(folder), "--out", str(tmp_path / "p.png")]) == 0
    assert against_nothing(read_run(folder))[1].split()[:3] == ["captions", "-", "-"]


def test_data_without_captioned_images_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    overrides = [o for o in image_run(tmp_path, "multimodal") if not o.startswith("mixture")]
    folder = compose_config(overrides).data.folder
    shutil.rmtree(folder)
    write_pictures(folder, names=("text", "pages"))
    plan = plan_run(compose_config(overrides))
    run(plan)
    folder = Path(plan.config.machine.runs) / plan.folder_name
    assert main([str(folder), "--out", str(tmp_path / "x.png")]) == DataError.exit_code
    assert "no captioned images" in capsys.readouterr().err


@pytest.mark.slow
def test_losses_stand_beside_what_frequencies_alone_would_give(tmp_path: Path) -> None:
    for family, n_columns in (("multimodal", 3), ("vision", 5)):
        trained_run = read_run(trained(tmp_path, family))
        head, *rows = against_nothing(trained_run)
        assert head.startswith("held-out")
        assert [row.split()[0] for row in rows] == ["captions", "loud", "other"]
        assert all(len(row.split()) == n_columns for row in rows)
        part = "-text" if family == "vision" else ""
        assert float(rows[0].split()[1]) == pytest.approx(trained_run.losses[f"captions{part}"]["loss"], abs=1e-3)


def test_frequencies_alone_are_entropies_and_variances() -> None:
    tokens = torch.tensor([[1, 1, 2, 2], [3, 3, 4, -100]])
    assert letters_alone({"tokens": tokens}) == pytest.approx(-(3 * 2 / 7 * np.log(2 / 7) + np.log(1 / 7) / 7))
    images = torch.zeros(50, 8, 8, 3, dtype=torch.uint8)
    images[::2, :, ::2] = 255  # stripes, and the same stripes shifted: their mean is grey
    images[1::2, :, 1::2] = 255
    batch = {"images": images, "prefix": torch.ones(50, dtype=torch.int64)}
    assert mean_patch(batch, 4) == pytest.approx(1.0, abs=1e-3)
    assert mean_patch({key: values[::2] for key, values in batch.items()}, 4) == pytest.approx(0.0, abs=1e-6)
