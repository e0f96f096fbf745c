import dataclasses

import numpy as np
import pytest
import torch

from geoseg_ros.backbones.tokens import Domain, unit
from geoseg_ros.errors import InputError
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.methods.base import Context, Material
from geoseg_ros.methods.contrast import learning
from geoseg_ros.methods.contrast.learning import LARGEST_NULL
from geoseg_ros.methods.contrast.method import ContrastMethod
from geoseg_ros.methods.contrast.pack import Concept
from geoseg_ros.methods.contrast.references import Contrast
from geoseg_ros.methods.contrast.segmenter import ContrastSegmenter
from geoseg_ros.packs.bank import per_proposal
from geoseg_ros.projection.scene import CloudScene
from support.fake_world import CONFIG, picture, table


def small(backbone, bank, **changes):
    """A concept of four pictures and two clouds of red objects."""
    arguments = {
        "images": [picture(k, ("red", "green"))[0] for k in range(4)],
        "clouds": [table(k, ("red", "cyan"))[0] for k in range(2)],
        "without_images": [picture(50 + k, ("green",))[0] for k in range(3)],
        "without_clouds": [table(50, ("green", "cyan"))[0]],
    } | changes
    return Concept.from_pack(ContrastMethod().learn(Material("red", **arguments), Context(backbone, bank, settings=CONFIG)))


def colour_evidence(concept, backbone, *rgb):
    """Evidence for flat patches of some colours."""
    patches = np.stack([np.full((16, 16, 3), c, np.uint8) for c in rgb])
    return Contrast([concept.references], 3).photo(unit(backbone.tokens(patches)[0].reshape(-1, 27), concept.mean))[0]


def test_equal_input_gives_equal_bytes(fake_backbone, fake_bank, tmp_path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    for name in "ab":
        small(fake_backbone, fake_bank).to_pack().save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert small(fake_backbone, fake_bank, clouds=[]).info["created"] == "1970-01-02"


def test_what_recurs_is_learnt_and_the_rest_speaks_against_it(fake_packs, fake_backbone):
    evidence = colour_evidence(Concept.from_pack(fake_packs["red"]), fake_backbone, (220, 30, 30), (40, 190, 50), (120, 120, 120))
    assert evidence[0] > 0.2
    assert (evidence[1:] < 0.01).all()


def test_the_manifest_tells_what_it_was_made_from(fake_backbone, fake_bank):
    training = small(fake_backbone, fake_bank).info["training"]
    counts = {key: training[key] for key in ("images", "clouds", "without_images", "without_clouds")}
    assert counts == {"images": 4, "clouds": 2, "without_images": 3, "without_clouds": 1}
    assert training["background"] == "coloured objects" and training["supervision_of_backbone"] == "none"


def test_null_items_are_bounded_and_paired(fake_backbone, fake_bank):
    pack = small(fake_backbone, fake_bank)
    for tokens in (pack.null_photos, *(rows.tokens for rows in pack.null_views.values())):
        assert 8 <= len(tokens) <= LARGEST_NULL and len(tokens) % 2 == 0
    for domain in Domain:
        assert pack.null_views[domain].tokens.shape[1] == per_proposal(domain)


def test_few_null_proposals_are_spread_like_all(fake_backbone, fake_bank, monkeypatch):
    """Every so many-th by its score: the largest, on which small p-values rest, must not be left to chance."""

    def scores():
        concept = small(fake_backbone, fake_bank)
        return concept.null_views[Domain.COLOUR], ContrastSegmenter([concept], CONFIG.coseg)._null_view[Domain.COLOUR][0]

    whole, every = scores()
    monkeypatch.setattr(learning, "LARGEST_NULL", len(whole) // 2 // 2 * 2)
    part, some = scores()
    assert len(part) == len(whole) // 2 // 2 * 2
    levels = np.linspace(0.5, 1, 6)
    gap = np.abs(np.quantile(some, levels) - np.quantile(every, levels))
    assert gap.max() < 0.1 * np.ptp(every)


def test_a_concept_from_images_alone_and_from_clouds_alone(fake_backbone, fake_bank):
    images_only = small(fake_backbone, fake_bank, clouds=[], without_clouds=[])
    assert not images_only.references.views and len(images_only.references.foreground)
    clouds_only = small(fake_backbone, fake_bank, images=[], without_images=[])
    assert set(clouds_only.references.views) == set(Domain)
    assert colour_evidence(clouds_only, fake_backbone, (220, 30, 30))[0] > 0.1


def test_clouds_without_colour_teach_shape_only(fake_backbone, fake_bank):
    bare = [Cloud(table(k, ("red", "cyan"))[0].xyz) for k in range(2)]
    pack = small(fake_backbone, fake_bank, clouds=bare)
    assert set(pack.references.views) == {Domain.SHADED}
    assert pack.info["training"]["clouds"] == 2


def test_clouds_with_nothing_in_them_do_no_harm(fake_backbone, fake_bank):
    empty = Cloud(np.full((50, 3), np.nan, np.float32), np.zeros((50, 3), np.uint8))
    pack = small(fake_backbone, fake_bank, clouds=[empty, table(1, ("red", "cyan"))[0]])
    assert pack.info["training"]["clouds"] == 2
    assert all(torch.isfinite(views.own).all() for views in pack.references.views.values())


@pytest.mark.parametrize("shape", [(1, 1, 3), (3, 200, 3), (200, 3, 3), (37, 53, 3)])
def test_a_single_odd_image_is_enough(fake_backbone, fake_bank, shape):
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    pack = small(fake_backbone, fake_bank, images=[image], clouds=[], without_images=[], without_clouds=[])
    assert torch.isfinite(pack.references.foreground).all()


def test_nothing_to_learn_from_and_a_foreign_bank_are_refused(fake_backbone, fake_bank):
    nothing = {"images": [], "clouds": [], "without_images": [], "without_clouds": []}
    with pytest.raises(InputError, match="nothing to learn from"):
        small(fake_backbone, fake_bank, **nothing)
    with pytest.raises(InputError, match="nothing to learn from"):
        small(fake_backbone, fake_bank, **(nothing | {"clouds": [Cloud(np.zeros((0, 3), np.float32))]}))
    with pytest.raises(InputError, match="another backbone than fake"):
        small(fake_backbone, dataclasses.replace(fake_bank, backbone_hash="0"))


def test_progress_counts_each_stage(fake_backbone, fake_bank):
    told = []
    material = Material("red", [picture(k, ("red",))[0] for k in range(3)], iter([table(0, ("red",))[0]]))
    ContrastMethod().learn(material, Context(fake_backbone, fake_bank, settings=CONFIG, progress=lambda *step: told.append(step)))
    assert told == [("images", 1, 3), ("images", 2, 3), ("images", 3, 3), ("clouds", 1, 0)]


def test_the_pictures_decide_between_two_kinds(fake_backbone, fake_bank):
    """Every cloud holds something red and something cyan, and nothing else is known than pictures of the one or of the other."""
    clouds = [table(k, ("red", "cyan"))[0] for k in range(8)]
    nothing = {"clouds": clouds, "without_images": [], "without_clouds": []}
    for name in ("red", "cyan"):
        images = [picture(k, (name, *("green", "yellow")[: k % 3]))[0] for k in range(6)]
        concept = small(fake_backbone, fake_bank, images=images, **nothing)
        assert set(concept.references.level) == set(Domain)
        again = Concept.from_pack(concept.to_pack())
        assert again.references.level == pytest.approx(concept.references.level)
        segmenter = ContrastSegmenter([again], CONFIG.coseg)
        for k in range(100, 103):
            cloud, truth = table(k, ("red", "cyan"))
            scene = CloudScene(cloud, fake_backbone, CONFIG.scene)
            label = scene.geometry.point_values(segmenter.cloud(scene, ("red",)).label)
            own, other = (truth == 1, truth == 2) if name == "red" else (truth == 2, truth == 1)
            assert (label[own] == 1).mean() > 0.8 and (label[other] == 0).mean() > 0.95


def test_items_without_the_target_say_better_what_it_is_not(fake_backbone, fake_bank):
    clouds = [table(k, ("red", "cyan"))[0] for k in range(8)]
    assert small(fake_backbone, fake_bank, clouds=clouds).references.level == {}
