from fake_world import CONFIG, picture, table

from geoseg_ros.concepts.cross_fit import cross_fit, folds_of, shows
from geoseg_ros.concepts.observe import observe


def test_few_items_are_not_left_out():
    assert [folds_of(count, 5) for count in (0, 1, 3, 4, 5, 30)] == [1, 1, 1, 4, 5, 5]
    assert folds_of(30, 1) == 1


def test_no_pack_was_learnt_from_the_items_that_it_judges(fake_backbone, fake_bank):
    images = [picture(k, ("red", "green"))[0] for k in range(6)]
    seen = observe(images, [table(0, ("red", "cyan"))[0]], [], [], fake_backbone, fake_bank, CONFIG)
    told = []
    fitted = cross_fit("red", seen, fake_backbone, fake_bank, CONFIG, 4, lambda *step: told.append(step))
    assert (fitted.image_folds, fitted.cloud_folds, len(fitted.packs)) == (4, 1, 4) and told[-1] == (4, 4)
    assert [pack.info["training"]["images"] for pack in fitted.packs] == [4, 4, 5, 5]  # 0 and 4, 1 and 5, 2, 3 are left out
    assert [fitted.image(k) for k in range(6)] == [0, 1, 2, 3, 0, 1] and fitted.cloud(0) == 0
    assert all(pack.info["training"]["clouds"] == 1 for pack in fitted.packs)


def test_an_item_that_falls_far_behind_the_others_does_not_show_the_thing():
    assert shows([1e-6, 1e-5, 1e-6, 1e-4, 1e-2]).tolist() == [True, True, True, True, False]
    assert shows([0.01, 0.02, 0.01]).tolist() == [True, True, True]
    assert shows([1.0, 1.0]).tolist() == [True, True]
