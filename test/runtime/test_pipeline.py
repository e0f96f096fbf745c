import dataclasses

import numpy as np
import pytest
import torch

from geoseg_ros.errors import InputError
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.nets.encoder_file import save_encoder
from geoseg_ros.nets.point_encoder import PointEncoder
from geoseg_ros.runtime.pipeline import Pipeline, PipelineConfig, open_pipeline
from support.fake_world import CONFIG, picture, table


@pytest.fixture(scope="module")
def one(fake_backbone, fake_packs):
    return Pipeline(fake_backbone, [fake_packs["red"]], PipelineConfig(coseg=CONFIG.coseg))


@pytest.fixture(scope="module")
def both(fake_backbone, fake_packs):
    return Pipeline(fake_backbone, [fake_packs["red"], fake_packs["blue"]], PipelineConfig(coseg=CONFIG.coseg))


def overlap(found, truth):
    return (found & truth).sum() / max((found | truth).sum(), 1)


def test_the_object_is_found_in_new_pictures(one):
    for seed in (70, 71, 72):
        image, truth = picture(seed, ("red", "green", "blue"))
        result = one.process_image(image)
        assert result.mask.shape == truth.shape and result.mask.dtype == np.uint8
        assert overlap(result.mask == 1, truth) > 0.6
        (presence,) = result.presence
        assert presence.present and presence.p_value < 0.05 and presence.name == "red" and presence.label == 1
        assert presence.share == pytest.approx((result.mask == 1).mean())
        assert set(result.seconds) == {"tokens", "evidence", "mask"} and min(result.seconds.values()) >= 0


def test_a_picture_without_the_object_gets_an_empty_mask_and_says_so(one):
    answers = [one.process_image(picture(seed, ("green", "yellow", "cyan"))[0]) for seed in range(80, 100)]
    absent = [a for a in answers if not a.presence[0].present]
    assert len(absent) >= 18  # p < 0.05 is allowed to happen
    assert all(a.mask.max() == 0 and a.presence[0].share == 0 for a in absent)


def test_the_object_is_found_in_new_clouds_in_the_order_of_the_points(one):
    cloud, truth = table(70, ("red", "green", "cyan"))
    result = one.process_cloud(cloud)
    assert result.label.dtype == result.instance.dtype == np.uint32 and result.confidence.dtype == np.float32
    assert len(result.label) == len(result.instance) == len(result.confidence) == len(cloud)
    assert overlap(result.label == 1, truth == 1) > 0.8
    (obj,) = result.objects
    assert obj.count == np.count_nonzero(result.label) == np.count_nonzero(result.instance == 1)
    assert np.linalg.norm(obj.center - cloud.xyz[truth == 1].mean(0)) < 0.06
    assert np.linalg.det(obj.rotation) == pytest.approx(1)
    assert 0 < obj.confidence <= 1 and obj.p_value < 0.05
    assert ((result.confidence > 0) == (result.label > 0)).all()
    assert ((result.instance > 0) == (result.label > 0)).all()


def test_exchanged_points_get_exchanged_labels(one):
    cloud, _ = table(71, ("red", "green"))
    order = np.random.default_rng(0).permutation(len(cloud))
    plain, mixed = one.process_cloud(cloud), one.process_cloud(Cloud(cloud.xyz[order], cloud.rgb[order]))
    assert (plain.label[order] != mixed.label).mean() < 0.005  # sums run in another order
    assert plain.label.any()


def test_an_answer_is_a_function_of_the_input(one):
    cloud, image = table(72, ("red", "green"))[0], picture(72, ("red",))[0]
    first = one.process_cloud(cloud), one.process_image(image)
    one.process_cloud(table(73, ("blue",))[0])
    second = one.process_cloud(cloud), one.process_image(image)
    assert np.array_equal(first[0].label, second[0].label) and np.array_equal(first[0].confidence, second[0].confidence)
    assert np.array_equal(first[1].mask, second[1].mask)
    assert first[0].presence == second[0].presence and first[1].presence == second[1].presence


def test_a_cloud_without_the_object_is_all_zero(one):
    result = one.process_cloud(table(74, ("green", "cyan", "yellow"))[0])
    assert not result.label.any() and not result.objects and not result.presence[0].present


def test_an_item_that_is_known_to_show_the_object_needs_no_p_value(fake_backbone, fake_packs):
    """Nothing is present at p_max = 0; what is known to be there is marked, and only where it is likeliest."""
    packs = [fake_packs[name] for name in ("red", "blue")]
    strict = Pipeline(fake_backbone, packs, PipelineConfig(coseg=dataclasses.replace(CONFIG.coseg, p_max=0.0)))
    cloud, truth = table(70, ("red", "blue", "green"))
    assert not strict.process_cloud(cloud).label.any()
    known = strict.process_cloud(cloud, shown={"red"})
    assert overlap(known.label == 1, truth == 1) > 0.8 and not (known.label == 2).any()
    assert [presence.present for presence in known.presence] == [True, False] and len(known.objects) == 1
    image, obj = picture(70, ("red", "green", "blue"))
    assert not strict.process_image(image).mask.any()
    seen = strict.process_image(image, shown=["red"])
    assert overlap(seen.mask == 1, obj) > 0.6 and seen.mask.max() == 1
    assert [presence.present for presence in seen.presence] == [True, False]


def test_a_cloud_that_is_said_to_show_what_it_lacks_gets_no_more_than_one_place(one):
    result = one.process_cloud(table(74, ("green", "cyan", "yellow"))[0], shown=["red"])
    assert result.presence[0].p_value >= 0.05 and result.presence[0].present
    assert 0 < (result.label == 1).mean() < 0.3 and len(result.objects) == 1


@pytest.mark.parametrize("count", [0, 1, 9, 200])
@pytest.mark.parametrize("value", [0.0, np.nan, np.inf, -np.inf, 1e30])
def test_clouds_with_nothing_usable(both, count, value):
    cloud = Cloud(np.full((count, 3), value, np.float32), np.zeros((count, 3), np.uint8))
    result = both.process_cloud(cloud)
    assert result.label.tolist() == result.instance.tolist() == [0] * count
    assert result.confidence.tolist() == [0.0] * count
    assert result.objects == []
    assert [(p.name, p.present, p.p_value, p.share) for p in result.presence] == [("red", False, 1, 0), ("blue", False, 1, 0)]


def test_invalid_points_stay_in_place_with_label_0(one):
    cloud, truth = table(75, ("red", "green"))
    xyz = cloud.xyz.copy()
    lost = np.zeros(len(xyz), bool)
    lost[::7] = True
    xyz[lost] = np.nan
    result = one.process_cloud(Cloud(xyz, cloud.rgb))
    assert not result.label[lost].any() and not result.confidence[lost].any()
    assert overlap(result.label[~lost] == 1, truth[~lost] == 1) > 0.8


def test_a_cloud_without_colour_is_answered_from_its_shape(both):
    result = both.process_cloud(Cloud(table(76, ("red", "green"))[0].xyz))
    assert len(result.presence) == 2 and all(np.isfinite(p.score) for p in result.presence)


@pytest.mark.parametrize("shape", [(1, 1), (1, 700), (700, 1), (2, 3), (33, 17), (1080, 1920)])
def test_images_of_any_size(both, shape):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
    image[: shape[0] // 2] = (220, 30, 30)
    result = both.process_image(image)
    assert result.mask.shape == shape and result.mask.max() <= 2
    assert all(0 < p.p_value <= 1 and 0 <= p.share <= 1 for p in result.presence)


def test_read_only_and_strided_images_are_fine(one):
    image = picture(77, ("red", "green"))[0]
    expected = one.process_image(image).mask
    wide = np.zeros((96, 140, 3), np.uint8)
    wide[:, 5:133] = image
    view = wide[:, 5:133]
    view.setflags(write=False)
    assert np.array_equal(one.process_image(view).mask, expected)


def test_several_packs_at_once_keep_their_labels_apart(both):
    image, red = picture(78, ("red", "blue"))
    blue = (image[..., 2] > 150) & (image[..., 0] < 90)
    result = both.process_image(image)
    assert [p.name for p in result.presence] == ["red", "blue"] and all(p.present for p in result.presence)
    assert overlap(result.mask == 1, red) > 0.6 and overlap(result.mask == 2, blue) > 0.6
    cloud, truth = table(78, ("red", "blue", "green"))
    labels = both.process_cloud(cloud)
    assert overlap(labels.label == 1, truth == 1) > 0.8 and overlap(labels.label == 2, truth == 2) > 0.8
    assert {(o.label, o.name) for o in labels.objects} == {(1, "red"), (2, "blue")}
    assert sorted(o.instance for o in labels.objects) == [1, 2]


def test_the_order_of_the_packs_only_names_the_labels(both, fake_backbone, fake_packs):
    turned = Pipeline(fake_backbone, [fake_packs["blue"], fake_packs["red"]], PipelineConfig(coseg=CONFIG.coseg))
    assert turned.labels.names == ("blue", "red")
    image = picture(79, ("red", "blue"))[0]
    assert np.array_equal(np.array([0, 2, 1])[both.process_image(image).mask], turned.process_image(image).mask)


def test_packs_must_differ_in_name_and_there_must_be_one(fake_backbone, fake_packs):
    with pytest.raises(InputError, match="at least one concept pack"):
        Pipeline(fake_backbone, [])
    with pytest.raises(InputError, match="names must differ, got red, red"):
        Pipeline(fake_backbone, [fake_packs["red"], dataclasses.replace(fake_packs["blue"], name="red")])
    with pytest.raises(InputError, match="at least one concept pack"):
        open_pipeline([])
    with pytest.raises(InputError, match=r"pack 'absent': no such file"):
        open_pipeline(["absent"])


def test_a_threshold_of_zero_finds_nothing(fake_backbone, fake_packs):
    strict = dataclasses.replace(CONFIG.coseg, p_max=0.0)
    pipeline = Pipeline(fake_backbone, [fake_packs["red"]], PipelineConfig(coseg=strict))
    assert pipeline.process_image(picture(70, ("red",))[0]).mask.max() == 0
    assert not pipeline.process_cloud(table(70, ("red", "green"))[0]).label.any()


def test_warming_looks_at_proposals_with_and_without_colour(fake_backbone, fake_packs, monkeypatch):
    pipeline, domains = Pipeline(fake_backbone, [fake_packs["red"]], PipelineConfig(coseg=CONFIG.coseg)), []
    process = Pipeline.process_cloud

    def noted(self, cloud, shown=()):
        result = process(self, cloud, shown)
        domains.append((cloud.rgb is not None, "views" in result.seconds, result.presence[0].score > -1))
        return result

    monkeypatch.setattr(Pipeline, "process_cloud", noted)
    pipeline.warm()
    assert domains == [(True, True, True), (False, True, True)]  # proposals were found and drawn


def test_encoder_of_clouds_must_be_of_the_backbone(tmp_path, fake_backbone, fake_packs):
    path = tmp_path / "encoder.safetensors"
    for backbone in (fake_backbone.hash, "another"):
        save_encoder(path, PointEncoder(16, fake_backbone.dim), backbone, torch.zeros(fake_backbone.dim), {})
        if backbone == "another":
            with pytest.raises(InputError, match="tokens of another backbone"):
                open_pipeline([fake_packs["red"]], opened=fake_backbone, encoder=str(path))
        else:
            pipeline = open_pipeline([fake_packs["red"]], opened=fake_backbone, encoder=str(path))
            assert pipeline.encoder.backend == "torch-cpu"
    assert open_pipeline([fake_packs["red"]], opened=fake_backbone).encoder is None  # what ships is for another backbone
