"""DGCNN: edge convolutions on a graph that is rebuilt in feature space (Wang et al., "Dynamic Graph CNN", ACM TOG 2019)."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from geoseg_ros.nets.neighbours import gather, nearest

EDGE_WIDTHS = (64, 64, 128, 256)
SLOPE = 0.2


class DgcnnFeatures(NamedTuple):
    """points [B, M, 1024] per point; embedding [B, 256] per set; logits [B, classes]."""

    points: torch.Tensor
    embedding: torch.Tensor
    logits: torch.Tensor


class EdgeConv(nn.Module):
    """max over neighbours j of LeakyReLU(BN(W [x_j - x_i ; x_i])).

    The product is linear in both halves, so W acts on the M points instead of on the M k edges: W1 x_j + (W2 - W1) x_i. In evaluation
    mode all that follows is monotone in W1 x_j, so the maximum is taken first and the edges are never normalised: several times quicker,
    and no edge is kept for the backward pass.
    """

    def __init__(self, inputs: int, outputs: int, neighbours: int) -> None:
        super().__init__()
        self.neighbours = neighbours
        self.weight = nn.Linear(2 * inputs, outputs, bias=False)
        self.norm = nn.BatchNorm1d(outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Features [B, M, inputs] -> [B, M, outputs]."""
        difference, own = self.weight.weight.chunk(2, dim=1)
        index, constant = nearest(x, x, self.neighbours), F.linear(x, own - difference)
        if self.training:
            edges = gather(F.linear(x, difference), index) + constant[:, :, None]
            return F.leaky_relu(self.norm(edges.flatten(0, 2)).view_as(edges), SLOPE).max(2).values
        sign = torch.where(self.norm.weight < 0, -1.0, 1.0)  # where the scale is negative the smallest edge wins
        signed = F.linear(x, difference * sign[:, None])
        with torch.no_grad():
            winner = index.gather(2, gather(signed, index).max(2).indices)
        best = signed.gather(1, winner) * sign + constant
        return F.leaky_relu(self.norm(best.flatten(0, 1)).view_as(best), SLOPE)


class Dgcnn(nn.Module):
    """The classifier whose features Yang et al. (ICCV 2021) contrast; 1.8 M parameters.

    Attributes:
        classes: width of the logits.
        source: where the weights come from, in words ("none": random).
    """

    POINT_DIM = 1024
    EMBEDDING_DIM = 256

    def __init__(self, classes: int, neighbours: int = 20, source: str = "none") -> None:
        super().__init__()
        self.classes, self.neighbours, self.source = classes, neighbours, source
        widths = (3, *EDGE_WIDTHS)
        self.edges = nn.ModuleList(EdgeConv(a, b, neighbours) for a, b in zip(widths, widths[1:], strict=False))
        self.fuse = nn.Linear(sum(EDGE_WIDTHS), self.POINT_DIM, bias=False)
        self.fuse_norm = nn.BatchNorm1d(self.POINT_DIM)
        self.hidden = nn.Linear(2 * self.POINT_DIM, 512, bias=False)
        self.hidden_norm = nn.BatchNorm1d(512)
        self.embed = nn.Linear(512, self.EMBEDDING_DIM)
        self.embed_norm = nn.BatchNorm1d(self.EMBEDDING_DIM)
        self.drop = nn.Dropout(0.5)
        self.classify = nn.Linear(self.EMBEDDING_DIM, classes)

    def forward(self, points: torch.Tensor) -> DgcnnFeatures:
        """Sets of points [B, M, 3] -> features; the order of the points of a set does not matter."""
        levels = []
        x = points
        for edge in self.edges:
            x = edge(x)
            levels.append(x)
        fused = self.fuse(torch.cat(levels, dim=2))
        local = F.leaky_relu(self.fuse_norm(fused.flatten(0, 1)).view_as(fused), SLOPE)
        pooled = torch.cat([local.max(1).values, local.mean(1)], dim=1)
        hidden = self.drop(F.leaky_relu(self.hidden_norm(self.hidden(pooled)), SLOPE))
        embedding = F.leaky_relu(self.embed_norm(self.embed(hidden)), SLOPE)
        return DgcnnFeatures(local, embedding, self.classify(self.drop(embedding)))
