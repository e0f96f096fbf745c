"""The graph in closed form, and concepts given by clouds alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.baselines.graph import GraphContrast, Graphs
from benchmarks.tables import cross_modal as crossing
from benchmarks.tables.cross_modal import mixed_crossing, world_crossing
from geoseg_ros.backbones.tokens import Domain
from geoseg_ros.evaluate import tabletop
from geoseg_ros.evaluate.items import CosegSet, Item
from geoseg_ros.evaluate.methods import Tools, contrast
from geoseg_ros.evaluate.score import figures
from geoseg_ros.evaluate.tabletop import FOLDS, KINDS, TabletopScene
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.methods.base import Material
from geoseg_ros.methods.contrast.references import References
from geoseg_ros.methods.geofree.config import GcsfConfig
from support.evaluate_worlds import table_cloud
from support.fake_world import CONFIG, picture, table


def unit(rows: int, dim: int = 32, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(rows, dim, generator=generator), dim=1)


def references(seed: int) -> References:
    return References(unit(30, seed=seed), unit(4, seed=90), (unit(60, seed=91), unit(60, seed=92)))


@pytest.mark.parametrize("weights", ["graph", "attention", "both"])
def test_evidence_is_the_share_of_the_own_foreground(weights) -> None:
    concepts = [references(1), references(2)]
    graph = GraphContrast(concepts, weights, GcsfConfig(k=5))
    tokens = torch.stack([concepts[0].foreground[3], concepts[1].foreground[3], concepts[0].background[0][3]])
    share = graph.drawn(tokens, Domain.SHADED)
    assert share.shape == (2, 3) and bool((share >= 0).all()) and bool((share <= 1).all())
    assert share[0].argmax() == 0 and share[1].argmax() == 1
    halves = [graph.drawn(tokens, Domain.SHADED, [half]) for half in (0, 1)]
    torch.testing.assert_close(share, (halves[0] + halves[1]) / 2)


def test_graph_equals_its_formula() -> None:
    concept, config = references(1), GcsfConfig(k=5, epsilon=0.1, tau_z=0.1)
    token = unit(1, seed=5)
    scores = torch.cat([concept.foreground, concept.background[1]]) @ token[0]
    kept = scores >= scores.sort(descending=True).values[4]
    weight = torch.where(kept, 1.0, 0.1) ** 10 * torch.exp(scores / 0.1)
    expected = weight[:30].sum() / weight.sum()
    share = GraphContrast([concept], "graph", config).drawn(token, Domain.SHADED, [1])
    torch.testing.assert_close(share[0, 0], expected)


def test_the_printed_formula_hardly_tells_tokens_apart() -> None:
    concept = references(1)
    tokens = torch.cat([concept.foreground[:5], concept.background[0][:5]])
    printed = GraphContrast([concept], "graph", GcsfConfig(mask_mode="paper", tau_z=1.0)).drawn(tokens, Domain.SHADED, [0])[0]
    graph = GraphContrast([concept], "graph", GcsfConfig()).drawn(tokens, Domain.SHADED, [0])[0]
    assert float(printed.max() - printed.min()) < 0.2 < 0.5 < float(graph.max() - graph.min())


def test_graphs_find_the_object_by_pictures_alone(fake_backbone, fake_bank) -> None:
    clouds = []
    for k in range(3):
        cloud, label = table(50 + k, ("red", "green", "blue"))
        clouds.append(Item(f"cloud{k}", cloud, label == 1, label == 3))

    def concept(name: str, start: int) -> Material:
        return Material(name, [picture(start + k, (name, "green", "yellow")[: 1 + k % 3])[0] for k in range(6)])

    items = CosegSet("red", "colours", concept("red", 0), (concept("blue", 500),), clouds=clouds, given="pictures")
    with_clouds = replace(items, own=replace(items.own, clouds=[c.data for c in clouds]))
    for method in Graphs(Tools(fake_backbone, fake_bank, CONFIG)).methods():
        found = method.run(items, 0)
        assert found.images is None and found.clouds is not None
        if "printed" not in method.name:
            result = figures(clouds, found.clouds)
            assert result["iou"] > 0.8 and result["other"] == 0.0, method.name
        again = method.run(with_clouds, 0)
        assert all(np.array_equal(a.mask, b.mask) for a, b in zip(found.clouds, again.clouds, strict=True))
        assert method.run(replace(items, own=replace(items.own, images=())), 0).clouds is None


def test_world_crossing_gives_clouds_and_asks_for_pictures(fake_backbone, fake_bank) -> None:
    images = [Item(f"image{k}", *picture(50 + k, ("red", "green"))) for k in range(3)]
    images.append(Item("none", picture(60, ("green", "yellow"))[0], np.zeros((96, 128), bool)))
    red, blue = (
        Material(name, [picture(k, (name,))[0] for k in range(2)], [table(start + k, (name, "green", "cyan"))[0] for k in range(5)])
        for name, start in (("red", 0), ("blue", 500))
    )
    cloud, label = table(70, ("red", "green"))
    both = [
        CosegSet("red", "rooms", red, (blue,), images, [Item("c", cloud, label == 1)], "pictures + clouds", seed=3),
        CosegSet("blue", "rooms", blue, (red,), images, [Item("c", cloud, label == 2)], "pictures + clouds", seed=3),
        CosegSet("red", "rooms", replace(red, clouds=()), (), images, given="pictures"),
    ]
    made = world_crossing(both)
    assert [(s.name, s.given, s.seed, len(s.clouds)) for s in made] == [("red", "clouds", 3, 0), ("blue", "clouds", 3, 0)]
    assert all(not c.images and c.clouds for s in made for c in (s.own, *s.rivals))
    assert made[0].own is made[1].rivals[0]  # learnt once
    found = contrast(Tools(fake_backbone, fake_bank, CONFIG)).run(made[0], 0)
    assert figures(images, found.images)["iou"] > 0.3  # a coloured view tells what the object looks like


def test_mixed_crossing_measures_other_scenes(monkeypatch) -> None:
    asked: list[tuple[int, str]] = []

    def read(root, number, kind):
        asked.append((number, kind))
        cloud, instance = table_cloud(number)
        return TabletopScene(kind, Cloud(cloud.xyz, cloud.rgb, (1, len(cloud))), instance)

    monkeypatch.setattr(tabletop, "read_scene", read)
    sets = mixed_crossing(Path(), "development")
    assert len(sets) == 4 and all(s.group.startswith(crossing.GROUP) and s.given == "clouds" for s in sets)
    fold = FOLDS["development"][0]
    assert len(asked) == len(set(asked)) == sum(len(r) for k in KINDS for r in (fold.training[k], fold.measured[k]))
    for items in sets:
        assert not items.own.images and not items.clouds and len(items.own.clouds) == len(fold.training[items.name])
        assert {item.name for item in items.images if item.shown} == {f"{items.name}{n}" for n in fold.measured[items.name]}
        assert len(items.images) == sum(len(fold.measured[k]) for k in KINDS)
        assert all((cloud.rgb is None) == ("xyz" in items.group) for cloud in items.own.clouds)
