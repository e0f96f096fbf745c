"""Losses against loops and against what they must prefer."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from geoseg_ros.methods.geofree.losses import (
    cooccurrence_loss,
    cosines,
    nt_xent,
    object_loss,
    point_loss,
    prototype_loss,
    repulsion_loss,
    saliency_loss,
    simplification_loss,
)


def cos(a, b):
    return float(torch.cosine_similarity(a, b, dim=0))


def entropy(positive, negatives, temperature):
    return -math.log(
        math.exp(positive / temperature) / (math.exp(positive / temperature) + sum(math.exp(n / temperature) for n in negatives))
    )


def test_nt_xent_equals_a_loop(generator):
    positive, negative = torch.rand(4, generator=generator), torch.rand(4, 6, generator=generator)
    loop = np.mean([entropy(p, n, 0.5) for p, n in zip(positive.tolist(), negative.tolist(), strict=True)])
    assert nt_xent(positive, negative, 0.5).item() == pytest.approx(loop, rel=1e-5)
    assert nt_xent(positive, negative[:, :0], 0.5).item() == pytest.approx(0, abs=1e-6)


def test_nt_xent_is_finite_for_half_precision_at_a_sharp_temperature():
    positive = torch.tensor([-1.0, 1.0], dtype=torch.float16, requires_grad=True)
    negative = torch.tensor([[1.0, 1.0], [-1.0, -1.0]], dtype=torch.float16)
    loss = nt_xent(positive, negative, 0.007)
    loss.backward()
    assert loss.dtype == torch.float32 and torch.isfinite(loss) and torch.isfinite(positive.grad).all()
    assert loss.item() == pytest.approx((2 / 0.007 + math.log(2)) / 2, rel=1e-4)
    assert cosines(negative, negative).dtype == torch.float32


def test_point_loss_equals_a_loop(generator):
    foreground, background = torch.randn(2, 5, 6, generator=generator), torch.randn(2, 4, 6, generator=generator)
    value = point_loss(foreground, background, 0.5, 30, 40, torch.Generator().manual_seed(1))
    draws = torch.Generator().manual_seed(1)

    def draw(high, count):
        return torch.randint(high, (2, count), generator=draws)

    first, step = draw(5, 30), draw(4, 30) + 1
    anchor, other = draw(5, 40), draw(4, 40)
    losses = []
    for b in range(2):
        f, g = foreground[b], background[b]
        for a, s in zip(first[b].tolist(), step[b].tolist(), strict=True):
            assert (a + s) % 5 != a
            negatives = [cos(f[a], g[j]) for i, j in zip(anchor[b].tolist(), other[b].tolist(), strict=True) if i == a]
            losses.append(entropy(cos(f[a], f[(a + s) % 5]), negatives, 0.5))
    assert value.item() == pytest.approx(np.mean(losses), rel=1e-4)


def test_point_loss_survives_anchors_without_negatives(generator):
    features = torch.randn(2, 50, 6, generator=generator, requires_grad=True)
    loss = point_loss(features, features.detach(), 0.5, 100, 3, generator)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(features.grad).all()


def test_object_loss_equals_a_loop(generator):
    foreground, background = torch.randn(4, 6, generator=generator), torch.randn(4, 6, generator=generator)
    loop = [
        entropy(cos(foreground[i], foreground[j]), [cos(foreground[i], b) for b in background], 0.07)
        for i in range(4)
        for j in range(4)
        if i != j
    ]
    assert object_loss(foreground, background, 0.07).item() == pytest.approx(np.mean(loop), rel=1e-4)
    assert object_loss(foreground[:1] + 0.01 * foreground, background, 0.07) < object_loss(foreground, background, 0.07)


def test_simplification_equals_brute_force_and_is_zero_for_a_cover(generator):
    q, p = torch.randn(2, 50, 3, generator=generator), torch.randn(2, 60, 3, generator=generator)
    plain = (q[:, :, None] - p[:, None]).square().sum(3)
    expected = plain.amin(2).mean() + plain.amin(2).amax(1).mean() + 0.7 * plain.amin(1).mean()
    torch.testing.assert_close(simplification_loss(q, p, 0.7), expected, atol=1e-5, rtol=1e-4)
    mixed = p[:, torch.randperm(60)]
    assert simplification_loss(mixed, p, 0.7).item() == pytest.approx(0, abs=1e-5)
    assert simplification_loss(p[:, :59], p, 0.7) > 1e-4  # Q does not cover P
    assert simplification_loss(torch.cat([p, p[:, :1] + 1], 1), p, 0.7) > 1e-4  # P does not cover Q


def test_repulsion_uses_every_cloud_of_the_batch():
    near, far = torch.zeros(2, 3, 3), torch.zeros(2, 3, 3)
    far[1, :, 0] = 5.0
    assert repulsion_loss(near, far, 1.0).item() == pytest.approx(1.0)  # one cloud of two overlaps: 0.5 each way
    assert repulsion_loss(near + 5, near, 1.0).item() == 0


@pytest.mark.parametrize("anchor", ["set", "image"])
def test_prototype_loss_equals_a_loop(anchor, generator):
    prototypes, extra = torch.randn(3, 6, generator=generator), torch.randn(2, 6, generator=generator)
    foreground, background = torch.randn(5, 6, generator=generator), torch.randn(5, 6, generator=generator)
    unit = torch.nn.functional.normalize(prototypes, dim=1)
    losses = []
    for i in range(5):
        p = unit[i % 3] if anchor == "image" else unit.mean(0)
        negatives = [cos(p, b) for b in background] + [cos(foreground[i], e) for e in extra]
        losses.append(entropy(cos(p, foreground[i]), negatives, 0.1))
    value = prototype_loss(prototypes, foreground, background, 0.1, anchor, extra)
    assert value.item() == pytest.approx(np.mean(losses), rel=1e-4)
    assert value > prototype_loss(prototypes, foreground, background, 0.1, anchor)


def test_cooccurrence_equals_a_loop_and_prefers_what_recurs(generator):
    tokens, mask = torch.rand(4, 9, 5, generator=generator), torch.rand(4, 9, generator=generator)
    f = (tokens * mask[:, :, None]).mean(1)
    b = (tokens * (1 - mask)[:, :, None]).mean(1)
    losses = []
    for i in range(4):
        for j in range(i + 1, 4):
            plus, minus = math.exp(1 - cos(f[i], f[j])), math.exp(1 - cos(f[i], b[i]) - cos(f[j], b[j]))
            losses.append(plus / (plus + minus))
    assert cooccurrence_loss(tokens, mask).item() == pytest.approx(np.mean(losses), rel=1e-4)
    same = torch.cat(
        [torch.ones(4, 3, 1) * torch.eye(6)[0], torch.randn(4, 6, 6, generator=generator) * torch.tensor([0.0, 1, 1, 1, 1, 1])], 1
    )
    right = (torch.arange(9) < 3).float().expand(4, 9)
    assert cooccurrence_loss(same, right) < cooccurrence_loss(same, torch.full((4, 9), 0.5))


def test_saliency_by_area_does_not_pay_for_size():
    saliency = torch.tensor([[1.0, 1.0, 0.2, 0.2]])
    tight, everything = torch.tensor([[1.0, 1.0, 0.0, 0.0]]), torch.ones(1, 4)
    assert saliency_loss(saliency, tight, "mean").item() == pytest.approx(0.5)
    assert saliency_loss(saliency, everything, "mean").item() == pytest.approx(0.4)  # as printed the larger mask is better
    assert saliency_loss(saliency, tight, "area").item() == pytest.approx(0.0)
    assert saliency_loss(saliency, everything, "area").item() == pytest.approx(0.4)
    assert torch.isfinite(saliency_loss(saliency, torch.zeros(1, 4), "area"))
