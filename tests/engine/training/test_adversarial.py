"""Adversarial training: which gradients model and discriminator get, when, and how large."""

import math

import pytest
import torch
from torch import nn

from losses.adversarial import OBJECTIVES

NUM_CLASSES, VOID = 3, 255


def snapshot(module: nn.Module) -> list[torch.Tensor]:
    return [value.clone() for value in module.state_dict().values()]


def same(before: list[torch.Tensor], module: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(before, module.state_dict().values(), strict=True))


def untouched(module: nn.Module) -> bool:
    return all(parameter.grad is None for parameter in module.parameters())


def generator_and_discriminator_inputs(step, batch):
    logits = nn.functional.interpolate(step.model(batch.images), batch.labels.shape[-2:], mode="bilinear")
    return logits.softmax(dim=1), (batch.labels != VOID)[:, None]


def test_before_its_start_it_is_bitwise_the_supervised_step(make_step, draw_batch) -> None:
    plain, adversarial = make_step(ema=0.9), make_step(ema=0.9, adversarial={"start": 3})
    before = snapshot(adversarial.adversarial.discriminator)
    for _ in range(3):
        expected, metrics = plain(draw_batch()), adversarial(draw_batch())
        assert metrics.keys() == expected.keys()
        assert all(torch.equal(metrics[name], value) for name, value in expected.items())
    assert same(snapshot(plain.model), adversarial.model)
    assert same(snapshot(plain.evaluated()), adversarial.evaluated())
    assert same(before, adversarial.adversarial.discriminator)
    assert "adv/d_loss" in adversarial(draw_batch())
    plain(draw_batch())
    assert not same(snapshot(plain.model), adversarial.model)


def test_the_generator_step_leaves_no_gradient_in_the_discriminator(make_step, draw_batch) -> None:
    step, batch = make_step(adversarial={}), draw_batch()
    probabilities, valid = generator_and_discriminator_inputs(step, batch)
    step._generator_loss(batch.images, probabilities, valid).backward()
    assert untouched(step.adversarial.discriminator)
    assert all(p.requires_grad for p in step.adversarial.discriminator.parameters())
    assert all(p.grad.abs().sum() > 0 for p in step.model.head.parameters())


def test_the_discriminator_step_leaves_no_gradient_in_the_generator(make_step, draw_batch) -> None:
    step, batch = make_step(adversarial={}), draw_batch()
    probabilities, valid = generator_and_discriminator_inputs(step, batch)
    step._discriminator_backward(batch.images, probabilities.detach(), batch.labels, valid)
    assert untouched(step.model)
    assert all(p.grad is not None for p in step.adversarial.discriminator.parameters())


def test_a_whole_backward_gives_the_discriminator_its_own_gradient_only(make_step, draw_batch) -> None:
    """The discriminator's gradient does not depend on the weight of the generator's term."""
    found, batch = [], draw_batch()
    for weight in (1e-6, 1e3):
        step = make_step(adversarial={"weight": weight})
        step.model.train()
        torch.manual_seed(0)
        step.backward(batch.images, batch.labels)
        discriminator, model = step.adversarial.discriminator, step.model
        found.append(([p.grad for p in discriminator.parameters()], [p.grad for p in model.parameters()]))
    (d_light, g_light), (d_heavy, g_heavy) = found
    assert all(torch.equal(a, b) for a, b in zip(d_light, d_heavy, strict=True))
    assert not torch.allclose(g_light[-1], g_heavy[-1])


def test_only_its_own_optimiser_updates_the_discriminator(make_step, draw_batch) -> None:
    still, moving = make_step(adversarial={"lr": 0.0}), make_step(adversarial={"lr": 1e-3})
    for step in (still, moving):
        discriminator = step.adversarial.discriminator
        own = {id(p) for group in step.optimizers["optimizer"].param_groups for p in group["params"]}
        assert not own & {id(p) for p in discriminator.parameters()}
        before = snapshot(discriminator), snapshot(step.model)
        step(draw_batch())
        assert same(before[0], discriminator) == (step is still)
        assert not same(before[1], step.model)


def test_the_discriminator_learns_to_distinguish_labels_and_predictions(make_step, draw_batch) -> None:
    step = make_step(lr=0.0, adversarial={"lr": 1e-2})
    history = [step(draw_batch()) for _ in range(30)]
    assert history[-1]["adv/d_loss"] < 0.5 * history[0]["adv/d_loss"]
    assert history[-1]["adv/d_acc_real"] > 0.9 and history[-1]["adv/d_acc_fake"] > 0.9


def test_the_weight_rises_linearly_from_start_over_ramp(make_step) -> None:
    adversarial = make_step(adversarial={"start": 10, "ramp": 4, "weight": 0.2}).adversarial
    weights = [adversarial.weight_at(step) for step in (0, 9, 10, 11, 12, 13, 14, 1000)]
    assert weights == pytest.approx([0, 0, 0.05, 0.1, 0.15, 0.2, 0.2, 0.2])
    assert make_step(adversarial={"start": 0, "ramp": 0, "weight": 0.2}).adversarial.weight_at(0) == 0.2


def test_the_effective_weight_is_logged_with_the_losses(make_step, draw_batch) -> None:
    step = make_step(adversarial={"start": 0, "ramp": 4, "weight": 0.2}, accumulate=2)
    metrics = [step(draw_batch()) for _ in range(2)]
    assert [m["adv/weight"].item() for m in metrics] == pytest.approx([0.05, 0.1])
    extra = {"adv/g_loss", "adv/d_loss", "adv/d_acc_real", "adv/d_acc_fake", "adv/weight", "adv/grad_ratio"}
    extra |= {"adv/d_accuracy", "adv/d_skipped", "adv/weight_factor"}
    assert extra <= metrics[0].keys()
    assert all(value.ndim == 0 and not value.requires_grad for value in metrics[0].values())


@pytest.mark.parametrize("at_logits", [False, True])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_accumulated_chunks_give_both_networks_the_gradient_of_the_whole_batch(
    make_step, draw_batch, toy, objective, at_logits
) -> None:
    """With a chunk that is all void; without a BatchNorm, whose statistics are the chunk's own."""
    batch, found = draw_batch(4), []
    batch.labels[0], batch.labels[3, :5] = VOID, VOID
    for pieces in (1, 2, 4):
        model, gradients = toy(dropout=0.0), []
        model.norm = nn.Identity()
        adversarial = {"objective": objective, "weight": 0.5, "at_logits": at_logits}
        step = make_step(model, losses=("cross_entropy",), adversarial=adversarial, accumulate=pieces)
        for optimizer in step.optimizers.values():
            optimizer.register_step_pre_hook(
                lambda optimizer, *_, into=gradients: into.extend(
                    p.grad.clone() for group in optimizer.param_groups for p in group["params"]
                )
            )
        metrics = step(batch)
        own = ("acc_seg", "adv/g_loss", "adv/d_loss", *(["adv/d_acc_fake"] * (objective != "wgan_gp")))
        found.append([*gradients, *(metrics[name] for name in own)])
    assert found[0][0].abs().max() > 1e-3
    for other in found[1:]:
        for mine, theirs in zip(found[0], other, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=2e-5)  # sums of other order


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_every_objective_runs_from_before_the_start(make_step, draw_batch, objective, precision) -> None:
    step = make_step(adversarial={"objective": objective, "start": 1}, precision=precision, clip_norm=1.0)
    for _ in range(3):
        metrics = step(draw_batch())
    assert all(value.isfinite() for value in metrics.values())
    for module in (step.model, step.adversarial.discriminator):
        assert all(value.isfinite().all() for value in snapshot(module))


def test_a_batch_that_is_all_void_is_finite_and_changes_nothing(make_step, draw_batch) -> None:
    step, batch = make_step(adversarial={}), draw_batch()
    batch.labels.fill_(VOID)
    step.model.train()
    metrics = step.backward(batch.images, batch.labels)
    assert metrics["loss"] == metrics["adv/g_loss"] == metrics["adv/d_loss"] == 0
    for module in (step.model, step.adversarial.discriminator):
        assert all(p.grad.abs().sum() == 0 for p in module.parameters())


def test_pixels_under_void_do_not_reach_the_discriminator(make_step, draw_batch) -> None:
    """Its gradient does not change with image and prediction there; the pixels are in no other cell."""
    found = []
    for value in (0.0, 255.0):
        step, batch = make_step(adversarial={}), draw_batch()
        probabilities, _ = generator_and_discriminator_inputs(step, batch)
        batch.labels[:, :, 16:] = VOID
        batch.images[:, :, :, 16:] = value
        valid = (batch.labels != VOID)[:, None]
        fake = torch.where(valid, probabilities.detach(), torch.eye(3)[int(value > 0)].view(1, 3, 1, 1))
        metrics = step._discriminator_backward(batch.images, fake, batch.labels, valid)
        found.append([metrics["adv/d_loss"], *(p.grad for p in step.adversarial.discriminator.parameters())])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def model_gradients(step, batch) -> torch.Tensor:
    step.model.train()
    torch.manual_seed(0)
    step.backward(batch.images, batch.labels)
    return torch.cat([p.grad.flatten() for p in step.model.parameters()])


def test_the_sum_at_the_logits_is_the_gradient_of_the_summed_loss(make_step, draw_batch) -> None:
    step, batch, weight = make_step(adversarial={"weight": 0.5}), draw_batch(), 0.5
    found = model_gradients(step, batch)
    step.model.zero_grad()
    torch.manual_seed(0)
    logits = step.model(batch.images)
    probabilities, valid = generator_and_discriminator_inputs(step, batch)
    probabilities = nn.functional.interpolate(logits, (32, 32), mode="bilinear").softmax(dim=1)
    adversarial = step._generator_loss(batch.images, probabilities, valid)
    (step.loss(logits, batch.labels)["loss"] + weight * adversarial).backward()
    expected = torch.cat([p.grad.flatten() for p in step.model.parameters()])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_the_logged_ratio_is_that_of_the_two_gradients_at_the_logits(make_step, draw_batch) -> None:
    """Twice the weight is twice the ratio, for any loss scale."""
    ratios = []
    for weight, precision in ((0.1, "fp32"), (0.2, "fp32"), (0.2, "fp16")):
        step, batch = make_step(adversarial={"weight": weight}, precision=precision), draw_batch()
        torch.manual_seed(0)
        ratios.append(step.backward(batch.images, batch.labels)["adv/grad_ratio"].item())
    assert ratios[0] > 0
    assert ratios[1] == pytest.approx(2 * ratios[0], rel=1e-5)
    assert ratios[2] == pytest.approx(ratios[1], rel=0.05)


class Broken(nn.Module):
    """A discriminator whose scores are NaN."""

    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner = inner

    def forward(self, *inputs):
        scores, weight = self.inner(*inputs)
        return scores * math.nan, weight


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_nan_from_the_discriminator_never_reaches_the_model_which_still_learns(
    make_step, draw_batch, precision
) -> None:
    step = make_step(adversarial={}, precision=precision)
    step(draw_batch())  # its optimiser has a state
    whole = step.adversarial.forward
    object.__setattr__(step.adversarial, "forward", Broken(whole))
    before, model = snapshot(step.adversarial.discriminator), snapshot(step.model)
    moments = [
        {key: value.clone() for key, value in slots.items()}
        for slots in step.adversarial.optimizer.state.values()
    ]
    metrics = step(draw_batch())
    assert metrics["adv/d_skipped"] == 1 and metrics["loss"].isfinite()
    assert same(before, step.adversarial.discriminator) and not same(model, step.model)
    for old, new in zip(moments, step.adversarial.optimizer.state.values(), strict=True):
        assert all(torch.equal(old[key], new[key]) for key in old)
    object.__setattr__(step.adversarial, "forward", whole)
    assert step(draw_batch())["adv/d_skipped"] == 0
    assert not same(before, step.adversarial.discriminator)


def test_with_a_nan_generator_term_the_supervised_gradient_is_used(make_step, draw_batch) -> None:
    step, batch = make_step(adversarial={}), draw_batch()
    object.__setattr__(step.adversarial, "discriminator", Broken(step.adversarial.discriminator))
    torch.testing.assert_close(model_gradients(step, batch), model_gradients(make_step(), batch))


def test_the_watchdog_changes_the_effective_weight(make_step, draw_batch) -> None:
    step = make_step(adversarial={"weight": 0.2})
    step.adversarial.watchdog.factor.fill_(0.5)
    assert step(draw_batch())["adv/weight"].item() == pytest.approx(0.1)
    off = make_step(adversarial={"weight": 0.2, "watchdog": False})
    assert off(draw_batch())["adv/weight"].item() == pytest.approx(0.2)


def test_at_the_resolution_of_the_logits(make_step, draw_batch) -> None:
    """D sees an 8 x 8 grid of a 32 px crop; the real side has the labels in the middle of its cells."""
    step, batch = make_step(adversarial={"at_logits": True, "layers": 1}), draw_batch()
    seen = []
    step.adversarial.discriminator.register_forward_pre_hook(lambda _, inputs: seen.append(inputs))
    step.model.train()
    metrics = step.backward(batch.images, batch.labels)
    (image, fake, valid), (images, sides, _) = seen
    assert image.shape == (4, 3, 8, 8) and fake.shape == (4, NUM_CLASSES, 8, 8)
    middle = batch.labels[:, 2::4, 2::4]
    assert torch.equal(valid[:, 0], middle != VOID)
    real = sides[4:].argmax(dim=1)
    assert torch.equal(real[valid[:, 0]], middle[valid[:, 0]])
    assert torch.equal(images[:4], image)
    assert metrics["adv/grad_ratio"] > 0 and metrics["adv/d_loss"] > 0
    assert all(p.grad is not None for p in step.adversarial.discriminator.parameters())
