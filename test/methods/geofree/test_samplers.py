"""Soft projection, mutual attention and the samplers."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from scipy.optimize import linprog

from geoseg_ros.methods.geofree.config import SamplerConfig
from geoseg_ros.methods.geofree.samplers import MutualAttention, Sampler, SoftProjection, matched

B, N, DIM = 3, 50, 8
SMALL = SamplerConfig(points=N, samples=10, partners=2, key_points=20, choose="pool")


@pytest.fixture
def points(generator):
    return torch.randn(B, N, 3, generator=generator)


def test_a_cold_projection_is_the_nearest_point(points, generator):
    queries = torch.randn(B, 9, 3, generator=generator)
    project = SoftProjection(7, 1e-6)
    project.temperature.data.fill_(0.0)
    index = matched(queries, points)
    torch.testing.assert_close(project(queries, points), points.gather(1, index[:, :, None].expand(-1, -1, 3)))
    assert torch.equal(index, torch.cdist(queries, points).argmin(2))
    assert project.sigma().item() == pytest.approx(1e-6)
    project.temperature.data.fill_(-0.5)
    assert project.sigma().item() == pytest.approx(0.25)


def test_the_projection_lies_in_the_hull_of_its_neighbours(points, generator):
    queries = torch.randn(B, 4, 3, generator=generator)
    out = SoftProjection(7, 1e-2)(queries, points)
    near = torch.cdist(queries, points).argsort(2)[:, :, :7]
    for b in range(B):
        for j in range(4):
            corners = torch.cat([points[b, near[b, j]].T, torch.ones(1, 7)]).numpy()  # weights >= 0 that sum to 1 and give the point
            solution = linprog([0] * 7, A_eq=corners, b_eq=[*out[b, j].tolist(), 1], bounds=(0, None))
            residual = abs(corners @ solution.x - [*out[b, j].tolist(), 1]).max() if solution.success else 1
            assert residual < 1e-5


def test_gradient_of_the_projection():
    generator = torch.Generator().manual_seed(3)
    points = torch.randn(1, 12, 3, generator=generator, dtype=torch.float64)
    queries = torch.randn(1, 3, 3, generator=generator, dtype=torch.float64).requires_grad_()
    project = SoftProjection(5, 1e-2).double()
    project.temperature.data.fill_(0.8)
    assert torch.autograd.gradcheck(lambda q: project(q, points), queries, eps=1e-6)
    project(queries, points).sum().backward()
    assert project.temperature.grad.abs() > 0


def rank(x):
    return int(torch.linalg.matrix_rank(x, rtol=1e-4))


def test_intended_attention_ignores_the_order_of_the_partner(generator):
    torch.manual_seed(0)
    module = MutualAttention(DIM, "intended")
    own, partners = torch.randn(B, N, DIM, generator=generator), torch.randn(B, 2, 15, DIM, generator=generator)
    streams = module.streams(own, partners)
    mixed = module.streams(own, partners[:, :, torch.randperm(15)])
    for a, b in zip(streams, mixed, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)
        assert rank(a[0].detach()) > 1
    order = torch.randperm(N)
    for a, b in zip(streams, module.streams(own[:, order], partners), strict=True):
        torch.testing.assert_close(a[:, order], b, atol=1e-5, rtol=1e-4)


def test_intended_attention_equals_its_formula(generator):
    torch.manual_seed(0)
    module = MutualAttention(DIM, "intended")
    own, partner = torch.randn(1, N, DIM, generator=generator), torch.randn(1, 1, 15, DIM, generator=generator)
    logits = module.theta(partner[0, 0]) @ module.phi(own[0]).T  # [partner, own]
    received = N * logits.softmax(1).mean(0)
    assert received.mean().item() == pytest.approx(1, abs=1e-4)
    back = (module.theta(own[0]) @ module.phi(partner[0, 0]).T).softmax(1)
    value = module.g(own[0])
    foreground, background = module.streams(own, partner)
    torch.testing.assert_close(foreground[0], received[:, None] * value + back @ module.g(partner[0, 0]), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(background[0], (2 - received).clamp_min(0)[:, None] * value, atol=1e-5, rtol=1e-4)


def test_released_attention_is_rank_one_and_needs_as_many_points(generator):
    torch.manual_seed(0)
    module = MutualAttention(DIM, "released")
    own, partner = torch.randn(1, N, DIM, generator=generator), torch.randn(1, 1, N, DIM, generator=generator)
    foreground, background = module.streams(own, partner)
    assert rank(foreground[0].detach()) == rank(background[0].detach()) == 1
    torch.testing.assert_close((foreground + background)[0], module.g(partner[0, 0]).sum(0).expand(N, -1), atol=1e-4, rtol=1e-4)
    with pytest.raises(ValueError, match="needs 50 points, got 15"):
        module.streams(own, partner[:, :, :15])


@pytest.mark.parametrize("mutual", ["intended", "released"])
def test_mutual_attention_starts_as_nothing_and_learns(points, mutual):
    torch.manual_seed(0)
    sampler = Sampler(replace(SMALL, mutual=mutual)).train()
    encoded = sampler.encode(points)
    assert torch.equal(sampler.exchange(encoded), encoded)
    sampler.exchange(encoded).square().sum().backward()
    assert sampler.mutual.norm.weight.grad.abs().max() > 0


def switched_on(mutual):
    torch.manual_seed(0)
    sampler = Sampler(replace(SMALL, mutual=mutual)).eval()
    sampler.mutual.norm.weight.data.fill_(0.5)
    return sampler


def test_the_order_of_the_points_does_not_matter(points):
    """The partners' key points are those that come first, so only the order behind them is free."""
    sampler = switched_on("intended")
    order = torch.cat([torch.arange(20), 20 + torch.randperm(N - 20)])
    q = sampler.simplify(sampler.exchange(sampler.encode(points)))
    assert q.shape == (B, 10, 3)
    mixed = sampler.simplify(sampler.exchange(sampler.encode(points[:, order])))
    torch.testing.assert_close(mixed, q, atol=1e-5, rtol=1e-4)


def test_clouds_meet_only_through_the_mutual_attention(points):
    for mutual in ("intended", "released"):
        sampler = switched_on(mutual)
        together = sampler.exchange(sampler.encode(points))[:1]
        alone = sampler.exchange(sampler.encode(points[:1]))
        assert not torch.allclose(together, alone, atol=1e-5)


def test_given_partners_replace_those_of_the_batch(points):
    sampler = switched_on("intended")
    encoded = sampler.encode(points)
    partners = torch.stack([encoded[[1, 2, 0], :20], encoded[[2, 0, 1], :20]], dim=1)
    one_by_one = torch.cat([sampler.exchange(encoded[k : k + 1], partners[k : k + 1]) for k in range(B)])
    rolled = sampler.exchange(encoded)
    torch.testing.assert_close(rolled, one_by_one, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("samples", "parameters"), [(256, 0.61e6), (512, 0.81e6)])
def test_the_published_size(samples, parameters):
    sampler = Sampler(replace(SMALL, samples=samples))
    assert sum(p.numel() for p in sampler.parameters()) == pytest.approx(parameters, rel=0.05)
