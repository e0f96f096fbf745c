from dataclasses import replace

import cv2
import numpy as np
import pytest

from geoseg_ros.evaluate.metrics import iou
from geoseg_ros.methods.contrast.config import CosegConfig
from geoseg_ros.methods.contrast.masks import cut_out, drop_small, guided_filter, label_mask, like_background, upsample


def test_the_guided_filter_keeps_constants():
    guide = np.random.default_rng(0).random((40, 50, 3)).astype(np.float32)
    assert np.allclose(guided_filter(guide, np.full((40, 50), 0.7, np.float32), 6), 0.7, atol=1e-3)


def test_the_guided_filter_solves_each_window_as_a_general_solver_does():
    rng = np.random.default_rng(3)
    guide, source = rng.random((9, 11, 3)), rng.random((9, 11))
    radius, epsilon = 2, 1e-3

    def window(y, x):
        rows = np.pad(np.arange(9), radius, "reflect")[y : y + 2 * radius + 1]  # as OpenCV's default border
        columns = np.pad(np.arange(11), radius, "reflect")[x : x + 2 * radius + 1]
        return np.ix_(rows, columns)

    slope, offset = np.zeros((9, 11, 3)), np.zeros((9, 11))
    for y, x in np.ndindex(9, 11):
        colour, value = guide[window(y, x)].reshape(-1, 3), source[window(y, x)].ravel()
        covariance = np.cov(colour.T, bias=True) + epsilon * np.eye(3)
        slope[y, x] = np.linalg.solve(covariance, ((colour - colour.mean(0)) * (value - value.mean())[:, None]).mean(0))
        offset[y, x] = value.mean() - slope[y, x] @ colour.mean(0)
    expected = [slope[window(y, x)].reshape(-1, 3).mean(0) @ guide[y, x] + offset[window(y, x)].mean() for y, x in np.ndindex(9, 11)]
    result = guided_filter(guide.astype(np.float32), source.astype(np.float32), radius, epsilon)
    assert np.allclose(result.ravel(), expected, atol=1e-4)


def test_the_guided_filter_keeps_edges_of_the_guide_and_smooths_what_has_none():
    guide = np.zeros((40, 60, 3), np.float32)
    guide[:, 30:] = (0.8, 0.6, 0.7)
    rng = np.random.default_rng(1)
    step = (np.arange(60) >= 30).astype(np.float32) * np.ones((40, 1), np.float32)
    noisy = step + rng.normal(0, 0.2, step.shape).astype(np.float32)
    result = guided_filter(guide, noisy, 6)
    assert result[:, 31].mean() - result[:, 28].mean() > 0.9  # a box of this size would leave about a quarter
    assert result[:, 5:25].std() < 0.25 * noisy[:, 5:25].std()


def test_the_guided_filter_carries_a_coarse_border_to_the_edge_of_the_picture():
    image = np.full((64, 64, 3), 60, np.uint8)
    image[:, 37:] = (200, 180, 90)
    coarse = np.where(np.arange(4) >= 2, 1.0, -1.0).astype(np.float32) * np.ones((4, 1), np.float32)  # its border is at 32
    border = np.argmax(upsample(coarse, image, 10)[32] > 0)
    assert abs(border - 37) < abs(np.argmax(upsample(coarse, image, 0)[32] > 0) - 37)
    assert abs(border - 37) <= 1


@pytest.mark.parametrize("size", [(32, 32), (16, 400), (33, 47)])
def test_upsampling_gives_the_size_of_the_image_and_finite_values(size):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    for radius in (0, 8):
        result = upsample(np.random.default_rng(1).normal(size=(2, 3)).astype(np.float32), image, radius)
        assert result.shape == size and np.isfinite(result).all()


def test_small_parts_are_dropped_per_label():
    mask = np.zeros((100, 100), np.uint8)
    mask[10:40, 10:40] = 1
    mask[60:63, 60:63] = 1  # 9 pixels
    mask[70:73, 10:13] = 2
    mask[70:90, 50:90] = 2
    mask[40:43, 10:13] = 2  # beside label 1, not part of it
    result = drop_small(mask, 0.002)
    expected = np.zeros_like(mask)
    expected[10:40, 10:40] = 1
    expected[70:90, 50:90] = 2
    assert np.array_equal(result, expected)
    assert np.array_equal(drop_small(mask, 0.0), mask)
    assert drop_small(mask, 1.0).max() == 0


def stool(height=240, width=320, noise=8):
    """A picture of an object with thin legs before a noisy floor, its truth, and evidence per token that only knows the region."""
    rng = np.random.default_rng(5)
    image = np.full((height, width, 3), (150, 120, 90), np.uint8)
    truth = np.zeros((height, width), np.uint8)
    cv2.rectangle(truth, (130, 60), (190, 80), 1, -1)
    for x in (135, 155, 180):
        cv2.rectangle(truth, (x, 80), (x + 5, 150), 1, -1)
    image[truth > 0] = (40, 60, 130)
    image = np.clip(image + rng.normal(0, noise, image.shape), 0, 255).astype(np.uint8)
    region = np.zeros((height, width), np.float32)
    region[56:156, 124:196] = 1
    tokens = cv2.resize(region, (width // 16, height // 16), interpolation=cv2.INTER_AREA)
    seat = np.zeros((height // 16, width // 16), np.float32)
    seat[4, 8:12] = 0.2
    return image, truth > 0, (0.2 * tokens - 0.1 + seat).astype(np.float32)


def test_cutting_finds_thin_parts_that_tokens_are_too_coarse_for():
    image, truth, evidence = stool()
    here = np.array([True])
    figures = {}
    for rounds in (0, 1):
        mask = label_mask(evidence[None], here, image, truth.shape, replace(CosegConfig(), cut_rounds=rounds))
        figures[rounds] = iou(mask == 1, truth)
    assert figures[1] > 0.8 > figures[0] + 0.15, figures


def test_cutting_is_deterministic_whatever_was_drawn_before():
    image, truth, evidence = stool()
    fine = upsample(evidence, image, 24)
    cv2.setRNGSeed(7)
    first = cut_out(image, fine, 0.02, 1)
    cv2.setRNGSeed(12345)
    assert np.array_equal(first, cut_out(image, fine, 0.02, 1)) and first.any()


def test_sure_pixels_stay_and_unlikely_ones_never_join():
    rng = np.random.default_rng(8)
    image = rng.integers(0, 256, (60, 80, 3), dtype=np.uint8)  # colours that say nothing
    evidence = np.full((60, 80), 0.0, np.float32)
    evidence[20:40, 20:40], evidence[:, 60:] = 0.3, -0.2
    cut = cut_out(image, evidence, 0.02, 2)
    assert cut[20:40, 20:40].all() and not cut[:, 60:].any()


@pytest.mark.parametrize("value", [-0.3, 0.0, 0.3])
def test_evidence_of_one_side_only_is_not_cut(value):
    image = np.zeros((40, 50, 3), np.uint8)
    assert cut_out(image, np.full((40, 50), value, np.float32), 0.02, 1) is None
    mask = label_mask(np.full((1, 2, 3), value, np.float32), np.array([True]), image, (40, 50), CosegConfig())
    assert (mask == (1 if value > 0.02 else 0)).all()


@pytest.mark.parametrize("rounds", [0, 1])
@pytest.mark.parametrize("size", [(240, 320), (481, 641), (100, 130), (1, 1)])
def test_a_mask_has_the_size_asked_for_and_labels_of_present_concepts_only(rounds, size):
    image, _, evidence = stool()
    other = np.roll(evidence, 5, 1)  # a second object beside the first
    config = replace(CosegConfig(), cut_rounds=rounds)
    both = label_mask(np.stack([evidence, evidence + 0.05, other]), np.array([True, False, True]), image, size, config)
    assert both.shape == size and both.dtype == np.uint8 and set(np.unique(both)) <= {0, 1, 3}
    none = label_mask(np.stack([evidence, other]), np.zeros(2, bool), image, size, config)
    assert not none.any() and none.shape == size
    if size == (240, 320):
        assert both[70, 160] == 1 and both[70, 230] == 3


def test_one_colour_everywhere_does_not_break_cutting():
    image = np.full((160, 160, 3), 128, np.uint8)
    evidence = np.full((1, 10, 10), -0.1, np.float32)
    evidence[0, 3:7, 3:7] = 0.3
    mask = label_mask(evidence, np.array([True]), image, (160, 160), CosegConfig())
    assert mask[80, 80] == 1 and mask[2, 2] == 0


def test_a_shadow_is_like_the_background_and_another_colour_is_not():
    rng = np.random.default_rng(0)
    image = np.full((240, 320, 3), (150, 130, 100), float)
    shadow, obj, light, black = np.s_[60:100, 60:120], np.s_[60:120, 180:240], np.s_[160:200, 60:120], np.s_[160:200, 180:240]
    image[shadow] *= 0.6
    image[obj] = (90, 90, 100)
    image[light] *= 1.5
    image[black] *= 0.2
    image = np.clip(image + rng.normal(0, 1, image.shape), 0, 255).astype(np.uint8)
    background = np.zeros(image.shape[:2], bool)
    background[:40] = background[210:] = True
    found = like_background(image, background)
    assert found[shadow].mean() > 0.98 and found[120:150].mean() > 0.9
    assert max(found[part].mean() for part in (obj, light, black)) < 0.02
    assert not like_background(image, np.zeros_like(background)).any()


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (7, 9)])
def test_likeness_of_the_smallest_images(shape):
    image = np.full((*shape, 3), 120, np.uint8)
    assert like_background(image, np.ones(shape, bool)).all()


def test_a_mask_does_not_spill_over_the_shadow():
    image, truth, evidence = stool(noise=2)
    below = np.zeros_like(truth)
    below[120:172, 124:196] = True
    below &= ~truth
    image[below] = (0.6 * image[below]).astype(np.uint8)
    evidence[7:11, 8:12] = 0.15  # tokens are coarse: floor between the legs and shadow have the evidence of the object
    mask = label_mask(evidence[None], np.array([True]), image, truth.shape, CosegConfig()) == 1
    assert iou(mask, truth) > 0.8
    assert mask[below].mean() < 0.1
