"""Neighbours in batches, PointNet and DGCNN: shapes, invariances, and the quick forms against the plain ones."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from geoseg_ros.nets.dgcnn import SLOPE, Dgcnn, EdgeConv
from geoseg_ros.nets.neighbours import gather, nearest, square_distances
from geoseg_ros.nets.pointnet import PointNet


@pytest.fixture
def points():
    return torch.randn(3, 40, 3, generator=torch.Generator().manual_seed(0))


def settled(network):
    """Evaluation mode with statistics and scales that are not the initial ones; some scales are negative."""
    generator = torch.Generator().manual_seed(5)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            module.running_mean.normal_(generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
            module.weight.data.normal_(generator=generator)
            module.bias.data.normal_(generator=generator)
    return network.eval()


def test_distances_and_neighbours_equal_brute_force(points):
    query = points[:, :7] + 0.1
    plain = (query[:, :, None] - points[:, None]).square().sum(3)
    torch.testing.assert_close(square_distances(query, points), plain, atol=1e-5, rtol=1e-5)
    index = nearest(query, points, 5)
    assert torch.equal(index, plain.argsort(2)[:, :, :5])
    assert nearest(query, points[:, :3], 5).shape == (3, 7, 3)
    for b in range(3):
        torch.testing.assert_close(gather(points, index)[b], points[b][index[b]])


def test_distances_of_half_precision_do_not_overflow():
    far = torch.full((1, 2, 3), 300.0, dtype=torch.float16)
    assert square_distances(far, -far).dtype == torch.float32
    torch.testing.assert_close(square_distances(far, -far), torch.full((1, 2, 2), 3 * 600.0**2))


def test_gather_passes_gradients_to_each_use(points):
    values = points.clone().requires_grad_()
    index = torch.zeros(3, 2, 4, dtype=torch.long)
    gather(values, index).sum().backward()
    assert torch.equal(values.grad[:, 0], torch.full((3, 3), 8.0)) and not values.grad[:, 1:].any()


def test_pointnet_treats_every_point_alone(points):
    network = settled(PointNet())
    features = network(points)
    assert features.shape == (3, 40, 256) and network.dim == 256
    order = torch.randperm(40)
    torch.testing.assert_close(network(points[:, order]), features[:, order])
    torch.testing.assert_close(network(points[:1, :5]), features[:1, :5])


def plain_edge_conv(layer, x):
    """The definition: every edge is formed, transformed, normalised."""
    neighbours = gather(x, nearest(x, x, layer.neighbours))
    own = x[:, :, None].expand_as(neighbours)
    edges = layer.weight(torch.cat([neighbours - own, own], dim=3))
    return F.leaky_relu(layer.norm(edges.flatten(0, 2)).view_as(edges), SLOPE).amax(2)


@pytest.mark.parametrize("training", [True, False])
def test_edge_convolution_equals_its_definition(points, training):
    torch.manual_seed(0)
    layer = settled(EdgeConv(3, 16, 6)).train(training)
    mine, theirs = points.clone().requires_grad_(), points.clone().requires_grad_()
    out, plain = layer(mine), plain_edge_conv(layer, theirs)
    torch.testing.assert_close(out, plain, atol=1e-4, rtol=1e-4)
    weight = torch.randn_like(out)
    (out * weight).sum().backward()
    (plain * weight).sum().backward()
    torch.testing.assert_close(mine.grad, theirs.grad, atol=1e-3, rtol=1e-3)


def test_dgcnn_shapes_order_and_independence(points):
    torch.manual_seed(0)
    network = settled(Dgcnn(classes=4, neighbours=8))
    features = network(points)
    assert features.points.shape == (3, 40, 1024) and features.embedding.shape == (3, 256) and features.logits.shape == (3, 4)
    order = torch.randperm(40)
    mixed = network(points[:, order])
    torch.testing.assert_close(mixed.embedding, features.embedding, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(mixed.points, features.points[:, order], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(network(points[1:2]).embedding, features.embedding[1:2], atol=1e-4, rtol=1e-4)


def test_dgcnn_has_the_published_size_and_takes_few_points():
    network = Dgcnn(classes=40).eval()
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(1.81e6, rel=0.01)
    assert network(torch.randn(2, 10, 3)).points.shape == (2, 10, 1024)  # fewer than 20 neighbours
