"""Which proposals of which clouds are taken for the concept."""

import pytest
import torch

from geoseg_ros.backbones.tokens import Domain, unit
from geoseg_ros.methods.contrast.config import CosegConfig
from geoseg_ros.methods.contrast.references import References
from geoseg_ros.methods.contrast.selection import TrainConfig, select_views

DIM, TOKENS = 24, 6
NOTHING = torch.zeros(0, DIM)
NO_PHOTOS = References(NOTHING, NOTHING, (NOTHING, NOTHING))


def proposal(generator, kind):
    """Tokens [TOKENS, DIM] of something of this kind."""
    return unit(torch.eye(DIM)[kind] + 0.1 * torch.randn(TOKENS, DIM, generator=generator))


def clouds(kinds):
    """Domain -> cloud -> tokens, and null proposals of the kinds 10 .. 15 in two halves."""
    generator = torch.Generator().manual_seed(0)
    items = {k: torch.stack([proposal(generator, kind) for kind in row]) for k, row in enumerate(kinds)}
    null = [torch.stack([proposal(generator, 10 + k % 6) for k in range(12)]) for _ in range(2)]
    return {Domain.SHADED: items}, {Domain.SHADED: null}


def test_what_recurs_in_the_clouds_and_not_elsewhere_is_chosen():
    items, null = clouds([(10, 0), (0, 11, 5), (12, 6, 0), (0, 13), (7, 0)])
    chosen = select_views(items, null, NO_PHOTOS, CosegConfig(), TrainConfig())
    assert chosen.best == {0: 1, 1: 0, 2: 2, 3: 0, 4: 1}
    own = chosen.references[Domain.SHADED].own
    assert (own[:, 0] > 0.7).all()


@pytest.mark.parametrize("absent", [1, 2])
def test_a_cloud_without_the_concept_gives_nothing(absent):
    items, null = clouds([(10, 0), (0, 11), (12, 0), (0, 13), (14, 0), *[(3, 10), (11, 3)][:absent]])
    chosen = select_views(items, null, NO_PHOTOS, CosegConfig(), TrainConfig())
    assert set(chosen.best) == {0, 1, 2, 3, 4}
    own = chosen.references[Domain.SHADED].own
    assert (own[:, 3] < 0.5).all()  # what stands in the clouds without it is no part of it, even if it recurs there


def test_one_cloud_alone_is_judged_by_what_is_known_from_elsewhere():
    items, null = clouds([(10, 0, 11)])
    photos = References(torch.eye(DIM)[:1], NOTHING, (torch.eye(DIM)[10:12], torch.eye(DIM)[12:14]))
    assert select_views(items, null, photos, CosegConfig(), TrainConfig()).best == {0: 1}


def test_no_clouds_no_selection():
    chosen = select_views({Domain.SHADED: {}}, {Domain.SHADED: [torch.zeros(0, TOKENS, DIM)] * 2}, NO_PHOTOS, CosegConfig(), TrainConfig())
    assert chosen.references == {} and chosen.best == {}
