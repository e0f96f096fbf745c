"""Training end to end on tiny sets: losses fall, runs repeat, stages touch what they should, limits and checkpoints hold."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
import torch

from geoseg_ros.errors import GeosegError, InputError
from geoseg_ros.learning.loop import LoopConfig, train
from geoseg_ros.methods.geofree.model import CosegNetwork
from geoseg_ros.methods.geofree.predict import predict_clouds, predict_images
from geoseg_ros.methods.geofree.training import ImageStage, JointStage, SharedState, fit, turned_about_z
from geoseg_ros.methods.geofree.training_history import Check, check_collapse
from support.network_worlds_train import FIT, NETWORK, extractor, images, small_set

pytestmark = pytest.mark.train


@pytest.fixture(scope="module")
def fitted():
    torch.set_num_threads(1)
    config = replace(FIT, stage2=replace(FIT.stage2, epochs=12))
    return fit([small_set("ball")], config, extractor())


def test_losses_fall_and_both_modalities_get_predictions(fitted):
    of_stage = {s: [e for e in fitted.history.epochs if e["stage"] == s] for s in (1, 2, 3)}
    assert [len(of_stage[s]) for s in (1, 2, 3)] == [4, 12, 2]
    assert of_stage[1][-1]["total"] < of_stage[1][0]["total"]
    assert of_stage[2][-1]["total"] < 0.7 * of_stage[2][0]["total"]
    assert of_stage[2][-1]["sem"] < of_stage[2][0]["sem"]
    assert {"cooc", "sal", "sem", "obj", "point", "object", "samp", "rep"} <= set(of_stage[3][0])
    item = small_set("ball", 7)
    clouds = predict_clouds(fitted.network, item.clouds, fitted.banks["ball"])
    assert all(c.score.min() >= -1 and c.score.max() <= 1 and len(c.score) == 200 and c.fused for c in clouds)
    assert predict_images(fitted.network, item.images, fitted.banks["ball"]).mask.shape == (4, 5, 5)
    summary = fitted.history.summary()
    assert summary["epochs"] == {"1": 4, "2": 12, "3": 2} and "ball" in summary["checks"]


def test_runs_repeat_by_seed():
    first, second = (fit([small_set("ball")], FIT, extractor()) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first.network.state_dict().values(), second.network.state_dict().values(), strict=True))
    for a, b in zip(first.history.epochs, second.history.epochs, strict=True):
        assert {k: v for k, v in a.items() if k != "seconds"} == {k: v for k, v in b.items() if k != "seconds"}
    other = fit([small_set("ball")], replace(FIT, seed=2), extractor())
    assert other.history.epochs[-1]["total"] != first.history.epochs[-1]["total"]


def test_training_leaves_the_callers_random_numbers_alone():
    torch.manual_seed(4)
    expected = torch.rand(3)
    torch.manual_seed(4)
    fit([small_set("ball")], replace(FIT, stage1=replace(FIT.stage1, epochs=1), stage2=replace(FIT.stage2, epochs=1)), extractor())
    assert torch.equal(torch.rand(3), expected)


def shared_state(config=FIT):
    return SharedState([small_set("ball")], config, extractor(), torch.device("cpu"))


def train_stage(shared, number):
    config = shared.config
    task = ImageStage(shared) if number == 1 else JointStage(shared, number, getattr(config, f"stage{number}"))
    train(task, LoopConfig(task.stage.epochs, clip=config.clip, seed=config.seed, stage=number))


def moved(network: CosegNetwork, before):
    return {name.split(".")[0] for name, value in network.state_dict().items() if not torch.equal(value, before[name])}


def test_each_stage_moves_its_own_part():
    t = shared_state()

    def state():
        return {k: v.clone() for k, v in t.network.state_dict().items()}

    before = state()
    train_stage(t, 1)
    assert moved(t.network, before) == {"mgcm"}
    before = state()
    train_stage(t, 2)
    found = moved(t.network, before)
    assert {"sampler_o", "sampler_b", "space", "to_points", "enhance_points", "cloud_semantic", "head_semantic"} <= found
    assert not {"mgcm", "extractor"} & found
    before = state()
    train_stage(t, 3)
    found = moved(t.network, before)
    assert {"mgcm", "sampler_o", "to_patches", "enhance_patches"} <= found and "extractor" not in found


def test_several_concepts_are_negatives_of_each_other():
    sets = [small_set(name, seed) for seed, name in enumerate("ab")]
    together = fit(sets, FIT, extractor())
    apart = fit(sets, replace(FIT, network=replace(NETWORK, loss=replace(NETWORK.loss, cross_concept=False))), extractor())
    assert set(together.banks) == {"a", "b"}
    assert together.history.epochs[-1]["sem"] > apart.history.epochs[-1]["sem"]
    a, b = together.banks["a"], together.banks["b"]
    assert torch.equal(a.negatives[-1], b.object) and torch.equal(b.negatives[-1], a.object)


def test_controls_reach_the_training():
    short = replace(FIT, stage1=replace(FIT.stage1, epochs=2), stage2=replace(FIT.stage2, epochs=1), stage3=replace(FIT.stage3, epochs=1))
    sets = [small_set(name, seed) for seed, name in enumerate("ab")]
    permuted = fit(sets, replace(short, control="permuted"), extractor())
    by_hand = fit([replace(sets[0], images=sets[1].images), replace(sets[1], images=sets[0].images)], short, extractor())
    assert permuted.history.epochs[-1]["total"] == by_hand.history.epochs[-1]["total"]
    alone = fit(sets[:1], replace(short, control="cloud_only"), extractor())
    other = fit([replace(sets[0], images=images(4, 3))], replace(short, control="cloud_only"), extractor())
    a, b = (predict_clouds(f.network, sets[0].clouds[:1], f.banks["a"])[0] for f in (alone, other))
    assert (a.score == b.score).all() and not a.fused  # no image ever reached the clouds


def test_time_limit_is_kept_and_every_stage_runs():
    long = replace(
        FIT, stage1=replace(FIT.stage1, epochs=9999), stage2=replace(FIT.stage2, epochs=9999), stage3=replace(FIT.stage3, epochs=9999)
    )
    seen = []
    began = time.monotonic()
    result = fit([small_set("ball")], long, extractor(), seconds=1.5, report=seen.append)
    assert time.monotonic() - began < 15
    assert {e["stage"] for e in result.history.epochs} == {1, 2, 3} and seen == sorted(seen) and seen[-1] == 1.0


def test_checks_do_not_disturb_and_warn_of_collapse(fitted):
    points = torch.stack([torch.from_numpy(c.points) for c in small_set("ball", 3).clouds])
    fitted.network.train()
    before = {k: v.clone() for k, v in fitted.network.state_dict().items()}
    check = check_collapse(fitted.network, points, images(4))
    assert fitted.network.training and not fitted.network.extractor.training
    assert all(torch.equal(v, before[k]) for k, v in fitted.network.state_dict().items())
    fitted.network.eval()
    assert 0 <= check.foreground <= 1
    assert check == check_collapse(fitted.network, points, images(4))
    assert Check(0.3, 0.1).warnings() == []
    assert len(Check(0.95, 0.0).warnings()) == 2 and len(Check(0.01, 0.1).warnings()) == 1


def test_clouds_are_turned_about_the_up_axis():
    points = torch.tensor([[[1.0, 0, 5]]])
    torch.testing.assert_close(turned_about_z(points, torch.tensor([torch.pi / 2])), torch.tensor([[[0.0, 1, 5]]]))


def test_a_diverged_training_says_so():
    bad = small_set("ball")
    bad.images.tokens[0] = float("nan")
    with pytest.raises(GeosegError, match="no longer finite"):
        fit([bad], FIT, extractor())
    with pytest.raises(InputError, match="at least one"):
        fit([], FIT, extractor())
