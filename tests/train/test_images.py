"""Models of images: who sees what, what is predicted, that they learn, and that their runs are runs like any other."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from data.store.tokens import Manifest, open_manifest
from data.stream.items import IGNORED, Layout
from data.stream.loader import Batch, WeightedStream
from data.stream.views import View
from mixlaw.errors import ConfigError
from mixlaw.runs.load import load_runs
from tests.data.pictures import SIZE, write_pictures
from tests.marks import examples, slow
from tests.train.ranks import run_ranks
from tests.train.tiny import image_run
from train.compose import compose_config, plan_run
from train.config import ModelConfig, OptimConfig, TrainConfig
from train.distributed import ALONE
from train.loop import backward, run
from train.models.build import build_model
from train.models.count import count_parameters, flops_per_token
from train.models.layers import patches_of
from train.models.vision import behind, normalised
from train.optim import build_optimizer
from train.plan import Plan, make_plan

P = 4
COMMON = {"width": 32, "depth": 2, "head_dim": 8, "image_size": SIZE, "patch_size": 4, "decoder_depth": 1}
MULTIMODAL, VISION = (ModelConfig(family, **COMMON) for family in ("multimodal", "vision"))
PACKED, SAMPLES = Layout(32, "multimodal", 4, View(SIZE)), Layout(16, "vision", 4, View(SIZE))


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return write_pictures(tmp_path_factory.mktemp("pictures"))


def batch_of(manifest: Manifest, layout: Layout, n: int, step: int = 0) -> Batch:
    weights = {"captions": 0.5, "pages": 0.5} if layout is PACKED else {"captions": 0.5, "loud": 0.5}
    return WeightedStream(manifest, weights, layout, n, seed=0)[step]


def model_of(config: ModelConfig, seed: int = 0) -> nn.Module:
    return build_model(config, 256, PACKED if config.family == "multimodal" else SAMPLES, seed)


def changed(batch: Batch, name: str, *place: int) -> Batch:
    other = {key: value.clone() for key, value in batch.items()}
    other[name][place] = 255 - other[name][place] if name == "images" else (other[name][place] + 1) % 256
    return other


def text_losses(model: nn.Module, batch: Batch) -> Tensor:
    return model(batch)["text"].detach()


@given(seed=st.integers(0, 20), data=st.data())
@examples(64)
def test_text_looks_back_within_its_document_and_images_see_all_of_themselves(
    manifest: Manifest, seed: int, data: st.DataObject
) -> None:
    model, batch = model_of(MULTIMODAL, seed), batch_of(manifest, PACKED, 2, seed)
    text = torch.nonzero(batch["tokens"][0] >= 0).flatten().tolist()
    at = data.draw(st.sampled_from(text))
    before = model.logits(batch).detach()[0]
    after = model.logits(changed(batch, "tokens", 0, at)).detach()[0]
    document = batch["document"][0]
    for place in range(PACKED.seq_len):
        sees = place >= at and document[place] == document[at]
        assert torch.equal(before[place], after[place]) != bool(sees)
    patches = torch.nonzero(batch["patch"][0] >= 0).flatten().tolist()
    shown = data.draw(st.sampled_from(patches))
    number = int(batch["patch"][0][shown])
    image, patch = divmod(number, P)
    row, column = patch // 2 * 4, patch % 2 * 4
    after = model.logits(changed(batch, "images", 0, image, row, column)).detach()[0]
    begins = int(torch.nonzero(batch["patch"][0] == image * P)[0])
    for place in range(PACKED.seq_len):
        sees = place >= begins and document[place] == document[begins]  # the image's first patch sees its last one
        assert torch.equal(before[place], after[place]) != bool(sees)


def test_images_carry_no_loss_and_padding_counts_for_nothing(manifest: Manifest) -> None:
    model, batch = model_of(MULTIMODAL), batch_of(manifest, PACKED, 8)
    losses = text_losses(model, batch)
    followed = (batch["tokens"][:, 1:] >= 0) & (batch["document"][:, 1:] == batch["document"][:, :-1])
    assert torch.equal(losses > 0, followed)
    assert torch.equal(model.predicted(batch)["text"], followed.sum(1))
    assert followed.sum() < (batch["document"] >= 0).sum() < batch["document"].numel()


def test_a_model_of_patches_predicts_what_lies_behind_the_prefix_only(manifest: Manifest) -> None:
    model, batch = model_of(VISION), batch_of(manifest, SAMPLES, 16)
    losses = model(batch)
    assert torch.equal(losses["image"] > 0, behind(batch["prefix"], P) & (losses["image"] > 0))
    assert torch.equal(losses["text"] > 0, batch["tokens"] >= 0)
    counts = model.predicted(batch)
    assert torch.equal(counts["image"], P - batch["prefix"])
    assert torch.equal(counts["text"], (batch["tokens"] >= 0).sum(1))


@given(seed=st.integers(0, 20), prefix=st.integers(1, P - 1), at=st.integers(0, P - 1))
@examples(64)
def test_no_predicted_patch_was_seen_before(manifest: Manifest, seed: int, prefix: int, at: int) -> None:
    """Patch p is predicted from the patches before it; those of the prefix see each other, and are not predicted."""
    model, batch = model_of(VISION, seed), batch_of(manifest, SAMPLES, 2, seed)
    batch["prefix"][:] = prefix
    row, column = at // 2 * 4, at % 2 * 4
    before = model.decode(batch).detach()[0]
    after = model.decode(changed(batch, "images", 0, row, column)).detach()[0]
    for place in range(P - 1):  # this place predicts patch place + 1
        if place + 1 >= prefix and place < at:
            assert torch.equal(before[place], after[place])
    assert not torch.equal(before[P - 1], after[P - 1])  # and captions see all patches


def test_a_caption_is_read_causally(manifest: Manifest) -> None:
    model, batch = model_of(VISION), batch_of(manifest, SAMPLES, 4)
    before, after = (model.logits(b).detach()[0] for b in (batch, changed(batch, "tokens", 0, 2)))
    assert torch.equal(before[: P + 2], after[: P + 2])
    assert not torch.equal(before[P + 2], after[P + 2])


def test_without_text_nothing_of_captions_is_read() -> None:
    model = model_of(ModelConfig("vision", **COMMON, text_loss_weight=0.0))
    assert model.inputs == ("images", "prefix")
    assert list(model.loss_weights) == ["image"]
    assert not [name for name, _ in model.named_parameters() if name.startswith(("embedding.", "head."))]
    captions_only = model_of(ModelConfig("vision", **COMMON, image_loss_weight=0.0))
    assert list(captions_only.loss_weights) == ["text"]
    assert not hasattr(captions_only, "image_head")  # nothing that is never trained


def test_domains_that_are_named_like_parts_of_others_are_refused(tmp_path: Path) -> None:
    config = compose_config(image_run(tmp_path, "vision"))
    facts = open_manifest(config.data.folder).facts
    domains = {"captions-text": facts["domains"]["captions"]} | facts["domains"]
    with pytest.raises(ConfigError, match="'captions-text': its losses would be taken for a part of another's"):
        make_plan(config, Manifest(config.data.folder, facts | {"domains": domains}, ""))


def learn(model: nn.Module, config: ModelConfig, manifest: Manifest, layout: Layout, n_steps: int) -> None:
    optimizer = build_optimizer(model, OptimConfig(base_width=32, lr=1e-2), config.width)
    weights = {"captions": 1.0}
    stream = WeightedStream(manifest, weights, layout, 16, seed=0)
    for batch in stream.batches(0, n_steps):
        backward(model, batch, TrainConfig(), ALONE)
        optimizer.step()
        optimizer.zero_grad()


def unigram_entropy(tokens: Tensor) -> float:
    """Return the loss [nats per token] of a model that knows how often each token occurs, and nothing else."""
    shares = torch.bincount(tokens[tokens >= 0], minlength=256).double()
    return float(torch.distributions.Categorical(shares / shares.sum()).entropy())


@pytest.mark.slow  # 200 steps
def test_a_multimodal_model_learns_to_say_what_it_sees(manifest: Manifest) -> None:
    """Below the entropy of letters, and below what captions without their images allow: two fair choices of four."""
    model = model_of(MULTIMODAL)
    learn(model, MULTIMODAL, manifest, PACKED, 200)
    batch = WeightedStream(manifest, {"captions": 1.0}, PACKED, 32, seed=9)[0]
    nats = float(text_losses(model, batch).sum() / model.predicted(batch)["text"].sum())
    per_caption = nats * float((batch["tokens"] >= 0).sum() / (batch["document"].max(1).values + 1).sum())
    blind = 2 * torch.tensor(4.0).log()
    assert nats < 0.3 * unigram_entropy(batch["tokens"])
    assert per_caption < 0.8 * blind


@pytest.mark.slow  # 200 steps
def test_a_vision_model_learns_patches_and_captions(manifest: Manifest) -> None:
    model = model_of(VISION)
    learn(model, VISION, manifest, SAMPLES, 200)
    batch = WeightedStream(manifest, {"captions": 1.0}, SAMPLES, 64, seed=9)[0]
    losses, counts = model(batch), model.predicted(batch)
    means = {kind: float(losses[kind].detach().sum() / counts[kind].sum()) for kind in losses}
    patches = normalised(patches_of(batch["images"][:, None], 4)[:, 0])[:, 1:][behind(batch["prefix"], P)]
    of_mean_patch = float((patches - patches.mean(0)).square().mean())
    assert means["image"] < 0.7 * of_mean_patch
    assert means["text"] < 0.3 * unigram_entropy(batch["tokens"])


def test_micro_batches_of_images_sum_to_the_same_gradient(manifest: Manifest) -> None:
    for config, layout in ((MULTIMODAL, PACKED), (VISION, SAMPLES)):
        model, batch = model_of(config), batch_of(manifest, layout, 6)
        found = []
        for micro_batch in (0, 1, 4):
            model.zero_grad()
            settings_ = TrainConfig()
            settings_.machine.micro_batch = micro_batch
            loss = backward(model, batch, settings_, ALONE)
            found.append((loss, [p.grad.clone() for p in model.parameters() if p.grad is not None]))
        for loss, gradients in found[1:]:
            torch.testing.assert_close(loss, found[0][0])
            torch.testing.assert_close(gradients, found[0][1], rtol=1e-4, atol=1e-6)


def test_flops_follow_what_each_kind_of_token_passes() -> None:
    for config in (MULTIMODAL, VISION):
        counts = count_parameters(model_of(config))
        assert counts["total"] == sum(p.numel() for p in model_of(config).parameters())
        of_text, of_images = (flops_per_token(config, counts, 32, share)["exact"] for share in (0.0, 1.0))
        half = flops_per_token(config, counts, 32, 0.5)["exact"]
        assert half == pytest.approx((of_text + of_images) / 2, rel=0.05)
        if config.family == "vision":
            assert of_text < of_images  # captions do not pass the encoder


def test_patches_are_cut_row_by_row() -> None:
    images = torch.arange(2 * 8 * 8 * 3).view(2, 1, 8, 8, 3).to(torch.uint8)
    cut = ((patches_of(images, 4) + 1) * 127.5).round().to(torch.uint8)
    assert cut.shape == (2, 1, 4, 48)
    assert torch.equal(cut[1, 0, 1].view(4, 4, 3), images[1, 0, :4, 4:])
    assert torch.equal(cut[0, 0, 2].view(4, 4, 3), images[0, 0, 4:, :4])


def test_every_token_that_nothing_precedes_is_ignored() -> None:
    assert IGNORED < 0
    batch = {"tokens": torch.tensor([[5, 6, 7, IGNORED]]), "document": torch.tensor([[0, 0, 1, -1]])}
    assert model_of(MULTIMODAL).predicted(batch)["text"].tolist() == [1]


@pytest.mark.parametrize("family", ["multimodal", "vision"])
def test_a_finished_run_of_images_is_read_like_any_other(family: str, tmp_path: Path) -> None:
    plan = plan_run(compose_config(image_run(tmp_path, family)))
    assert run(plan) == "finished"
    table = load_runs(tmp_path / "runs" / family).table
    last = table[table["step"] == plan.n_steps]
    names = {"captions", "loud", "other"}
    kinds = {f"{name}-{kind}" for name in names for kind in ("image", "text")} if family == "vision" else set()
    assert set(last["domain"]) == names | kinds
    train = [row for row in logged(plan) if row["kind"] == "train"][-1]
    assert last["n_tokens"].iloc[0] == train["n_tokens"] == sum(train["tokens_by_domain"].values())
    assert 0 < train["n_image_tokens"] < train["n_tokens"]
    assert 0 < train["n_loss_tokens"] < train["n_tokens"]
    for domain, weight in plan.weights.items():
        assert last[f"weight_{domain}"].iloc[0] == pytest.approx(weight, abs=0.05)
    if family == "vision":
        losses = last.set_index("domain")["loss"]
        assert losses["loud"] == pytest.approx(0.4 * losses["loud-image"] + losses["loud-text"])


@pytest.mark.slow
def test_a_run_of_images_alone_logs_what_it_consumes(tmp_path: Path) -> None:
    plan = plan_run(compose_config(image_run(tmp_path, "vision", "model.text_loss_weight=0")))
    assert run(plan) == "finished"
    rows = logged(plan)
    train = [row for row in rows if row["kind"] == "train"][-1]
    assert train["n_tokens"] == train["n_image_tokens"]
    assert {row["domain"] for row in rows if row["kind"] == "eval"} == {
        f"{name}{part}" for name in ("captions", "loud", "other") for part in ("", "-image")
    }
    assert plan.image_share == 1.0


def test_weights_of_samples_are_read_as_samples(tmp_path: Path) -> None:
    plan = plan_run(compose_config(image_run(tmp_path, "vision", "stream.unit=samples")))
    assert run(plan) == "finished"
    last = load_runs(tmp_path / "runs").table.iloc[-1]
    assert last["weight_captions"] == pytest.approx(0.7, abs=0.03)
    spent = [row for row in logged(plan) if row["kind"] == "train"][-1]["tokens_by_domain"]
    assert spent["captions"] / sum(spent.values()) < 0.67  # their captions are shorter


@pytest.mark.parametrize("family", ["multimodal", slow("vision")])
def test_a_run_of_images_that_is_cut_off_ends_with_the_same_bytes(family: str, tmp_path: Path) -> None:
    whole = plan_run(compose_config(image_run(tmp_path, family)))
    run(whole)
    cut = plan_run(compose_config(image_run(tmp_path, family, f"machine.runs={tmp_path / 'cut'}")))

    def die(n_tokens: int, loss: float) -> None:
        if n_tokens > 500:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(cut, die)
    assert run(cut) == "finished"
    assert logged(cut) == logged(whole)
    one, other = (Path(p.config.machine.runs) / p.folder_name / "checkpoints" for p in (whole, cut))
    last = f"step-{whole.n_steps:08d}/model.safetensors"
    assert (one / last).read_bytes() == (other / last).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "parallel"),
    [("multimodal", "ddp"), ("vision", "fsdp"), ("multimodal", "fsdp"), ("vision", "ddp")],
)
def test_ranks_train_the_run_of_images_that_one_process_trains(family: str, parallel: str, tmp_path: Path) -> None:
    alone = plan_run(compose_config(image_run(tmp_path, family)))
    run(alone)
    overrides = image_run(tmp_path, family, f"machine.runs={tmp_path / 'many'}", f"machine.parallel={parallel}")
    assert run_ranks(2, overrides) == ["finished"] * 2
    for one, two in zip(logged(alone), logged(plan_run(compose_config(overrides))), strict=True):
        assert two["loss"] == pytest.approx(one["loss"], rel=1e-5)


def logged(plan: Plan) -> list[dict[str, Any]]:
    log = Path(plan.config.machine.runs) / plan.folder_name / "metrics.jsonl"
    return [json.loads(line) for line in log.read_text().splitlines()]
