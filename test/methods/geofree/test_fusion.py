"""The point-patch graph and the fusion that it guides."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from geoseg_ros.methods.geofree.config import GcsfConfig, SfeConfig
from geoseg_ros.methods.geofree.fusion import Enhance, GraphAttention, SharedSpace, kept_edges, log_association, prior_term, similarity

ROWS, BLOCKS, SIZE = 6, 3, 30
GRAPH = GcsfConfig(width=16, k=5, points="coordinates")


@pytest.fixture
def scores(generator):
    return 2 * torch.rand(2, ROWS, BLOCKS * SIZE, generator=generator) - 1


def test_exactly_k_edges_per_row_and_block(scores):
    kept = kept_edges(scores, BLOCKS, 5).view(2, ROWS, BLOCKS, SIZE)
    assert (kept.sum(3) == 5).all()
    grouped = scores.view_as(kept)
    assert (grouped.masked_fill(~kept, 9).amin(3) >= grouped.masked_fill(kept, -9).amax(3)).all()
    assert kept_edges(torch.zeros(1, 2, 12), 3, 5).all()  # blocks of 4: fewer than K
    assert (kept_edges(torch.zeros(1, 2, 60), 3, 5).sum(2) == 15).all()  # ties


@pytest.mark.parametrize("mode", ["additive", "paper"])
def test_rows_of_the_association_sum_to_one(scores, mode):
    z = log_association(scores, BLOCKS, replace(GRAPH, mask_mode=mode)).exp()
    torch.testing.assert_close(z.sum(2), torch.ones(2, ROWS))


def test_a_discarded_edge_is_never_raised(scores):
    """Relative to the best edge of its row; the printed product does raise negative edges, which is why it is not the default."""
    best = scores.argmax(2, keepdim=True)
    kept = kept_edges(scores, BLOCKS, 5)

    def lead(mode):
        log_z = GRAPH.tau_z * log_association(scores, BLOCKS, replace(GRAPH, mask_mode=mode))
        return log_z.gather(2, best) - log_z

    plain = scores.gather(2, best) - scores
    assert (lead("additive") >= plain - 1e-5).all()
    assert (lead("additive")[~kept] > plain[~kept] + 2).all()  # log 0.1
    negative = ~kept & (scores < -0.1)
    assert negative.any() and (lead("paper")[negative] < plain[negative]).all()


def test_gradient_flows_through_the_similarity_only(scores):
    leaf = scores.clone().requires_grad_()
    log_association(leaf, BLOCKS, GRAPH)[:, :, 0].sum().backward()
    assert torch.isfinite(leaf.grad).all() and leaf.grad.abs().sum() > 0


def test_similarity_is_the_cosine(generator):
    a, b = torch.randn(2, 4, 8, generator=generator), torch.randn(2, 5, 8, generator=generator)
    plain = torch.cosine_similarity(a[:, :, None], b[:, None], dim=3)
    torch.testing.assert_close(similarity(3 * a, 0.2 * b), plain)


def test_shared_space_lets_the_weight_of_a_patch_in(generator):
    torch.manual_seed(0)
    space = SharedSpace(10, 12, GRAPH)
    features = torch.randn(2, 7, 12, generator=generator)
    uniform, peaked = torch.full((2, 7), 1 / 7), torch.eye(7)[:2]
    projected, refined = space.patches(features, uniform)
    again, changed = space.patches(features, peaked)
    assert projected.shape == refined.shape == (2, 7, 16) and space.points(torch.randn(2, 5, 10)).shape == (2, 5, 16)
    assert torch.equal(projected, again) and not torch.allclose(refined, changed)
    torch.testing.assert_close(changed - refined, (peaked * 7 - 1)[:, :, None] * space.refine.weight[:, -1], atol=1e-4, rtol=1e-4)


@pytest.fixture
def fusion(generator):
    rows, columns = torch.randn(2, ROWS, 16, generator=generator), torch.randn(2, 20, 16, generator=generator)
    log_z = log_association(similarity(rows, columns), 2, GRAPH)

    def make(**changes):
        torch.manual_seed(0)
        return GraphAttention(16, replace(SfeConfig(), **changes))

    return make, rows, columns, log_z


def by_hand(module, rows, columns, bias):
    """Multi-head attention written out, with a bias on the logits."""
    heads = module.config.heads
    q, k, v = (x.unflatten(2, (heads, -1)) for x in (module.query(rows), module.key(columns), module.value(columns)))
    logits = torch.einsum("brhd,bchd->bhrc", q, k) / (16 / heads) ** 0.5 + bias[:, None]
    return torch.einsum("bhrc,bchd->brhd", logits.softmax(3), v).flatten(2)


def test_attention_equals_its_formula_in_every_mode(fusion):
    make, rows, columns, log_z = fusion
    z = log_z.exp()
    biases = {"log": 0.7 * log_z, "paper": 0.7 * z}
    results = []
    for mode, bias in biases.items():
        out = make(prior_mode=mode, alpha=0.7).attend(rows, columns, log_z)
        torch.testing.assert_close(out, by_hand(make(), rows, columns, bias), atol=1e-5, rtol=1e-4)
        results.append(out)
    assert (results[0] - results[1]).abs().max() > 10 * (results[1] - by_hand(make(), rows, columns, 0 * z)).abs().max()


@pytest.mark.parametrize("mode", ["log", "paper"])
def test_without_alpha_or_with_a_uniform_graph_it_is_plain_attention(fusion, mode):
    make, rows, columns, log_z = fusion
    plain = by_hand(make(), rows, columns, torch.zeros_like(log_z))
    torch.testing.assert_close(make(prior_mode=mode, alpha=0.0).attend(rows, columns, log_z), plain, atol=1e-5, rtol=1e-4)
    uniform = torch.full_like(log_z, -torch.tensor(20.0).log().item())
    torch.testing.assert_close(make(prior_mode=mode, alpha=3.0).attend(rows, columns, uniform), plain, atol=1e-5, rtol=1e-4)
    if mode == "log":
        torch.testing.assert_close(prior_term(uniform, mode), torch.zeros_like(uniform))


def test_nothing_is_taken_before_training_but_gradients_flow(fusion):
    make, rows, columns, log_z = fusion
    torch.manual_seed(0)
    attention, enhance = make(), Enhance(24, 16, 0.5)
    features = torch.randn(2, ROWS, 24)
    fused = attention(rows, columns, log_z)
    assert not fused.any()
    assert torch.equal(enhance(features, fused), features)
    optimiser = torch.optim.SGD([*attention.parameters(), *enhance.parameters()], lr=0.1)
    for _ in range(3):
        optimiser.zero_grad()
        enhance(features, attention(rows, columns, log_z)).square().mean().backward()
        optimiser.step()
    assert attention(rows, columns, log_z).abs().max() > 0
    assert attention.alpha.grad.abs() > 0 and enhance.up.weight.grad.abs().max() > 0 and attention.query.weight.grad.abs().max() > 0


def test_alpha_and_lambda(fusion):
    make, *_ = fusion
    module = make()
    for value, expected in ((9.0, 4.0), (-1.0, 0.0), (2.0, 2.0)):
        module.alpha.data.fill_(value)
        module.constrain()
        assert module.alpha.item() == expected
    assert "alpha" not in dict(make(alpha_learnable=False).named_parameters())
    features, fused = torch.zeros(1, 2, 8), torch.ones(1, 2, 8)
    torch.testing.assert_close(Enhance(8, 8, 0.3)(features, fused), 0.3 * fused)
