"""One update: that it learns, its gradients and rates, and what it depends on."""

import pytest
import torch
from torch import nn

from engine.data.batches import Batch
from engine.scoring.confusion import Scores, confusion_matrices
from engine.training.probe import GradientProbe
from losses.boundary import Boundary
from losses.cross_entropy import CrossEntropy
from losses.focal import Focal
from losses.lovasz import Lovasz
from losses.mixed import MixedLoss
from losses.overlap import Dice
from models.segformer import SegFormer

NUM_CLASSES, VOID = 3, 255


def updated_with(step, batch) -> tuple[dict[str, torch.Tensor], list[torch.Tensor]]:
    """The metrics of an update and the gradients that the optimiser was given."""
    gradients = []

    def look(*_) -> None:
        gradients.extend(p.grad.clone() for p in step.model.parameters() if p.grad is not None)

    hook = step.optimizers["optimizer"].register_step_pre_hook(look)
    metrics = step(batch)
    hook.remove()
    return metrics, gradients


def weights(model: nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def mean_iou(model: nn.Module, batch) -> float:
    model.eval()
    with torch.no_grad():
        logits = nn.functional.interpolate(model(batch.images), batch.labels.shape[-2:], mode="bilinear")
    counts = confusion_matrices(logits.argmax(dim=1), batch.labels, NUM_CLASSES, VOID).sum(dim=0)
    return Scores.of(counts.numpy(), ("ground", "green", "blue")).mIoU


def test_segformer_overfits_one_batch(make_step, draw_batch) -> None:
    torch.manual_seed(0)
    step, batch = make_step(SegFormer("b0", NUM_CLASSES, decoder_width=32)), draw_batch(4, 64)
    before = mean_iou(step.model, batch)
    for _ in range(120):
        metrics = step(batch)
    assert before < 0.5
    assert mean_iou(step.model, batch) > 0.95
    assert metrics["acc_seg"] > 95


class Normalised(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4))
        self.head = nn.Sequential(nn.BatchNorm2d(4), nn.Conv2d(4, NUM_CLASSES, 1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.encoder(images / 255))


def test_frozen_norms_use_and_keep_their_statistics_and_train_scale_and_shift(make_step, draw_batch) -> None:
    batch, found = draw_batch(), {}
    for kind in ("sync", "frozen"):
        torch.manual_seed(0)
        model = Normalised()
        model.encoder[1].running_mean.fill_(0.3)
        before = {name: value.clone() for name, value in model.state_dict().items()}
        found[kind] = make_step(model, batch_norm=kind)(batch)["loss"]
        same = {name for name, value in model.state_dict().items() if torch.equal(value, before[name])}
        kept = {f"encoder.1.{name}" for name in ("running_mean", "running_var", "num_batches_tracked")}
        assert same == (kept if kind == "frozen" else set())
    assert found["sync"] != found["frozen"]


def test_metrics_are_detached_scalars(make_step, draw_batch) -> None:
    metrics = make_step()(draw_batch())
    assert set(metrics) == {"loss", "loss_ce", "loss_dice", "acc_seg", "nan"}
    assert all(value.ndim == 0 and not value.requires_grad for value in metrics.values())
    torch.testing.assert_close(metrics["loss"], metrics["loss_ce"] + metrics["loss_dice"])


def test_accuracy_is_of_the_labelled_centres_of_the_cells(make_step) -> None:
    """Logits of 2 x 2 cover labels of 8 x 8: the centres are at rows and columns 2 and 6."""
    labels = torch.zeros(1, 8, 8, dtype=torch.int64)
    labels[0, 2, 2], labels[0, 2, 6], labels[0, 6, 2], labels[0, 6, 6] = 1, 2, VOID, 0
    logits = nn.functional.one_hot(torch.tensor([[[1, 1], [1, 0]]]), 3).permute(0, 3, 1, 2).float()
    assert make_step()._accuracy(logits, labels).item() == pytest.approx(100 * 2 / 3)


MEANS = {
    "cross-entropy": CrossEntropy(VOID),
    "cross-entropy with class weights": CrossEntropy(VOID, class_weights=[0.2, 3.0, 1.0]),
    "cross-entropy with a class weight of 0": CrossEntropy(VOID, class_weights=[0.0, 3.0, 1.0]),
    "smoothed": CrossEntropy(VOID, class_weights=[0.0, 3.0, 1.0], label_smoothing=0.1),
    "focal": Focal(VOID, class_weights=[0.2, 3.0, 1.0]),
    "boundary": Boundary(VOID, sigma_px=2.0),
    "dice per image": Dice(VOID, per_image=True),
    "lovasz per image": Lovasz(VOID, per_image=True),
}


@pytest.mark.parametrize("void", [(), (0,), (1, 2), (0, 1, 2, 3)])
@pytest.mark.parametrize("term", MEANS)
def test_accumulated_chunks_give_the_gradient_of_the_whole_batch(
    make_step, draw_batch, toy, term, void
) -> None:
    """Whatever is void in which chunk; without a BatchNorm, whose statistics are the chunk's own."""
    batch = draw_batch(4)
    batch.labels[list(void)] = VOID
    batch.labels[3, :5] = VOID  # and chunks differ in their labelled pixels
    found = []
    for pieces in (1, 2, 4):
        model = toy(dropout=0.0).double()
        model.norm = nn.Identity()
        step = make_step(model, accumulate=pieces)
        step.loss = MixedLoss({"loss_a": (MEANS[term], 2.0)}, 3, VOID)
        metrics, gradients = updated_with(step, batch)
        found.append([metrics["loss"], metrics["loss_a"], *gradients])
    if len(void) == 4:
        assert all((value == 0).all() for values in found for value in values)
        return
    assert found[0][2].abs().max() > 1e-3
    for other in found[1:]:
        for mine, theirs in zip(found[0], other, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("void", [(), (0, 5)], ids=["labelled", "two images void"])
@pytest.mark.parametrize("ids", [(0,), (0, 1, 2, 5)])
def test_a_chunk_whose_classes_have_the_weight_0_keeps_its_label_smoothing(
    make_step, draw_batch, toy, ids, void
) -> None:
    """Against PyTorch's costs of the whole batch, whose weighted mean is written out here."""
    batch = draw_batch(8)
    batch.labels[list(ids)] = 0  # the class with the weight 0
    batch.labels[list(void)] = VOID
    weights = torch.tensor([0.0, 3.0, 1.0], dtype=torch.float64)
    term = CrossEntropy(VOID, class_weights=weights.tolist(), label_smoothing=0.3)
    found = []
    for pieces in (1, 2, 4, 8):
        model = toy(dropout=0.0).double()
        model.norm = nn.Identity()
        step = make_step(model, accumulate=pieces)
        step.loss = MixedLoss({"loss_ce": (term, 1.0)}, 3, VOID)
        if pieces == 1:
            logits = step.loss.upsampled(model(batch.images.double()), batch.labels)
            costs = nn.functional.cross_entropy(
                logits, batch.labels, weights, ignore_index=VOID, label_smoothing=0.3, reduction="none"
            )
            expected = costs.sum() / weights[batch.labels[batch.labels != VOID]].sum()
            gradients = torch.autograd.grad(expected, list(model.parameters()))
            found.append([expected.detach(), *gradients])
        metrics, gradients = updated_with(step, batch)
        found.append([metrics["loss"], *gradients])
    assert found[0][1].abs().max() > 1e-3
    for other in found[1:]:
        for mine, theirs in zip(found[0], other, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("name", ["dice", "jaccard", "tversky", "lovasz"])
def test_a_chunk_without_labels_does_not_halve_the_others(make_step, draw_batch, toy, name) -> None:
    """Losses over the batch, which is not a mean over pixels."""
    batch = draw_batch(4)
    half = Batch(batch.images[:2], batch.labels[:2], batch.ids[:2])
    batch.labels[2:] = VOID
    found = []
    for pieces, given in ((1, half), (2, batch)):
        model = toy(dropout=0.0).double()
        model.norm = nn.Identity()
        metrics, gradients = updated_with(make_step(model, losses=(name,), accumulate=pieces), given)
        found.append([metrics["loss"], *gradients])
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-14)


def test_gradients_are_gone_after_an_update(make_step, draw_batch) -> None:
    step = make_step(accumulate=2)
    step(draw_batch())
    assert all(parameter.grad is None for parameter in step.model.parameters())


@pytest.mark.parametrize("accumulate", [1, 2])
def test_clip_norm_bounds_the_gradient_of_all_parameters_together(make_step, draw_batch, accumulate) -> None:
    norms = []
    for clip_norm in (1e-3, 1e3):
        _, gradients = updated_with(make_step(clip_norm=clip_norm, accumulate=accumulate), draw_batch())
        norms.append(torch.cat([gradient.flatten() for gradient in gradients]).norm().item())
    assert norms[0] == pytest.approx(1e-3, rel=1e-3)
    assert 1e-2 < norms[1] < 1e3  # which needed no clipping


def test_rates_follow_the_schedule_before_each_update(make_step, draw_batch) -> None:
    step = make_step(lr=0.5, lr_factor=[0.2, 0.0, 0.1].__getitem__)
    rates, moved = [], []
    for _ in range(3):
        before = weights(step.model)
        step(draw_batch())
        rates.append(set(step.learning_rates().values()))
        moved.append(not torch.equal(weights(step.model), before))
    assert rates == [{0.1}, {0.0}, {0.05}]
    assert moved == [True, False, True]
    assert set(step.learning_rates()) == {"encoder", "encoder, no decay", "head", "head, no decay"}


def test_the_moving_average_is_evaluated(make_step, draw_batch) -> None:
    plain, averaged = make_step(), make_step(ema=0.9)
    assert plain.evaluated() is plain.model
    assert averaged.evaluated() is averaged.ema.module is averaged.modules["ema"]
    path = []
    for _ in range(4):
        averaged(draw_batch())
        path.append(weights(averaged.model))
    average = path[0]
    for updates, current in enumerate(path[1:], start=1):
        decay = min(0.9, 1 - (1 + updates) ** (-2 / 3))  # timm's warm-up of the decay
        average = decay * average + (1 - decay) * current
    torch.testing.assert_close(weights(averaged.evaluated()), average)
    assert not torch.allclose(weights(averaged.evaluated()), path[-1], atol=1e-4)


def test_a_moving_average_does_not_change_the_training(make_step, draw_batch) -> None:
    plain, averaged = make_step(), make_step(ema=0.9)
    for step in (plain, averaged):
        for _ in range(2):
            step(draw_batch())
    assert torch.equal(weights(plain.model), weights(averaged.model))


def test_dropout_depends_only_on_seed_and_update(make_step, draw_batch) -> None:
    def loss(noise: int = 0, count: int = 0, **who) -> float:
        step = make_step(**who)
        step.count = count
        torch.manual_seed(noise)  # random numbers drawn by other code before
        torch.rand(noise)
        return step(draw_batch())["loss"].item()

    assert loss(noise=1) == loss(noise=2)
    assert len({loss(), loss(seed=1), loss(count=1)}) == 3


def test_an_update_increments_the_count(make_step, draw_batch) -> None:
    step = make_step()
    step.count = 7
    step(draw_batch())
    assert step.count == 8


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_learns_too(make_step, draw_batch, precision: str) -> None:
    torch.manual_seed(0)
    step, batch = make_step(SegFormer("b0", NUM_CLASSES, decoder_width=16), precision=precision), draw_batch()
    seen = []
    step.model.register_forward_hook(lambda module, inputs, logits: seen.append(logits.dtype))
    losses = [step(batch)["loss"].item() for _ in range(8)]
    assert set(seen) == {{"bf16": torch.bfloat16, "fp16": torch.float16}[precision]}
    assert all(torch.isfinite(value).all() for value in step.model.state_dict().values())
    assert losses[-1] < losses[0] < 10


def test_a_batch_that_is_all_void_is_finite_and_changes_little(make_step, draw_batch) -> None:
    step, batch = make_step(), draw_batch()
    batch.labels.fill_(VOID)
    metrics = step(batch)
    assert metrics["loss"] == metrics["acc_seg"] == 0
    assert weights(step.model).isfinite().all()


def statistics(norm: nn.Module) -> list[torch.Tensor]:
    return [norm.running_mean.clone(), norm.running_var.clone(), norm.num_batches_tracked.clone()]


def test_frozen_parameters_stay_and_the_others_learn(make_step, draw_batch) -> None:
    step = make_step(frozen=["encoder", "norm"], ema=0.9, accumulate=2)
    before = {name: value.clone() for name, value in step.model.state_dict().items()}
    metrics, gradients = updated_with(step, draw_batch())
    step(draw_batch())
    assert metrics["loss"].isfinite() and len(gradients) == 2
    for network in (step.model, step.evaluated()):
        for name, value in network.state_dict().items():
            assert torch.equal(value, before[name]) != name.startswith("head."), name


def test_a_frozen_batch_norm_keeps_its_statistics_after_an_evaluation_too(make_step, draw_batch) -> None:
    frozen, trained = make_step(frozen="norm"), make_step()
    for step in (frozen, trained):
        norm = step.model.norm
        before = statistics(norm)
        for _ in range(2):
            step(draw_batch())
            step.model.eval()  # as the evaluation does
            step.model.train()
        kept = all(torch.equal(a, b) for a, b in zip(before, statistics(norm), strict=True))
        assert kept == (step is frozen)
    assert frozen.model.dropout.training


def test_no_gradient_is_computed_below_the_first_trained_layer(make_step, draw_batch, toy) -> None:
    for frozen in (["encoder", "norm"], ["norm"]):
        step = make_step(toy(), frozen=frozen)
        seen = []
        step.model.encoder.register_forward_hook(lambda *call, seen=seen: seen.append(call[-1].requires_grad))
        step(draw_batch())
        assert seen == ["encoder" not in frozen]


def test_dropout_of_a_frozen_encoder_is_off(make_step, draw_batch) -> None:
    torch.manual_seed(0)
    model = SegFormer("b0", NUM_CLASSES, decoder_width=16, drop_path=0.5, dropout=0.0)
    step, batch = make_step(model, frozen="encoder"), draw_batch(4, 64)
    outputs = []
    model.encoder.register_forward_hook(lambda module, inputs, features: outputs.append(features[-1]))
    step(batch)
    step(batch)
    assert torch.equal(*outputs)


def test_frozen_blocks_are_not_probed(make_step) -> None:
    step = make_step(frozen="encoder")
    assert set(GradientProbe(step.model, 1, 1, 0).blocks) == {"norm", "head"}


@pytest.mark.parametrize("name", ["lion", "muon", "sgd", "adamw"])
def test_an_update_with_an_infinite_fp16_gradient_is_skipped_by_any_optimiser(
    make_step, draw_batch, name: str
) -> None:
    step = make_step(optimizer={"name": name}, precision="fp16")
    step(draw_batch())
    before, scale = weights(step.model), step.scalers["optimizer"].get_scale()
    batch = draw_batch()
    batch.images[0, 0, 0, 0] = float("inf")
    step(batch)
    assert torch.equal(weights(step.model), before)
    assert step.scalers["optimizer"].get_scale() < scale
    step(draw_batch())
    assert weights(step.model).isfinite().all()
