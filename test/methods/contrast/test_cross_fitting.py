from dataclasses import replace

from geoseg_ros.methods.contrast import observations
from geoseg_ros.methods.contrast.cross_fitting import cross_fit, folds_of
from geoseg_ros.methods.contrast.observations import affordable, observe
from support.fake_world import CONFIG, picture, table


def test_few_items_are_not_left_out():
    assert [folds_of(count, 5) for count in (0, 1, 3, 4, 5, 30)] == [1, 1, 1, 4, 5, 5]
    assert folds_of(30, 1) == 1


def test_no_pack_was_learnt_from_the_items_that_it_judges(fake_backbone, fake_bank):
    images = [picture(k, ("red", "green"))[0] for k in range(6)]
    seen = observe(images, [table(0, ("red", "cyan"))[0]], [], [], fake_backbone, fake_bank, CONFIG)
    told = []
    fitted = cross_fit("red", seen, fake_backbone, fake_bank, CONFIG, 4, lambda *step: told.append(step))
    assert (fitted.image_folds, fitted.cloud_folds, len(fitted.concepts)) == (4, 1, 4) and told[-1] == (4, 4)
    assert [concept.info["training"]["images"] for concept in fitted.concepts] == [4, 4, 5, 5]  # 0 and 4, 1 and 5, 2, 3 are left out
    assert [fitted.image(k) for k in range(6)] == [0, 1, 2, 3, 0, 1] and fitted.cloud(0) == 0
    assert all(concept.info["training"]["clouds"] == 1 for concept in fitted.concepts)


def test_an_item_is_judged_by_a_fold_without_it_where_only_some_were_seen(fake_backbone, fake_bank):
    images = [picture(k, ("red", "green"))[0] for k in range(12)]
    seen = observe(images, [], [], [], fake_backbone, fake_bank, CONFIG, seconds=1e-9)
    assert list(seen.image_numbers) == [0, 1, 2, 3, 4]
    kept = replace(seen, image_numbers=[0, 3, 5, 8, 11])
    fitted = cross_fit("red", kept, fake_backbone, fake_bank, CONFIG, 4)
    for place, number in enumerate([0, 3, 5, 8, 11]):
        left = kept.leave_out(range(fitted.image(number), 5, 4), ())
        assert number not in left.image_numbers and len(left.images) == len(left.image_numbers) >= 3, place
    assert all(0 <= fitted.image(k) < 4 for k in range(12))


def test_how_many_items_are_affordable_is_measured_on_the_first_ones(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(observations.time, "monotonic", lambda: now[0])

    def taken(count, seconds):
        result = []
        for number, _ in affordable(list(range(count)), seconds):
            result.append(number)
            now[0] += 2.0
        return result

    assert taken(20, float("inf")) == taken(20, 40.0) == list(range(20))
    assert taken(20, 24.0) == [0, 1, 2, 3, 4, 6, 8, 10, 12, 14, 16, 18]  # 24 s are 12 items
    assert taken(20, 1.0) == [0, 1, 2, 3, 4] and taken(3, 1.0) == [0, 1, 2]
