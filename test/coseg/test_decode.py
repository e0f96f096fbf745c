import numpy as np
import pytest

from geoseg_ros.coseg.decode import drop_small, guided_filter, upsample


def test_the_guided_filter_keeps_constants():
    guide = np.random.default_rng(0).random((40, 50, 3)).astype(np.float32)
    assert np.allclose(guided_filter(guide, np.full((40, 50), 0.7, np.float32), 6), 0.7, atol=1e-3)


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
