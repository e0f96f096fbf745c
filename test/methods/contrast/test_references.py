import numpy as np
import pytest
import torch

from geoseg_ros.backbones.tokens import Domain, photo_tokens, token_coverage, unit, view_tokens, working_size
from geoseg_ros.methods.contrast.references import Contrast, References, SizePrior, ViewReferences, image_score, null_scores, view_score

AXES = torch.eye(8)


def concept(own, context, background, views=None):
    return References(AXES[[own]], AXES[[context]], (AXES[[background]], AXES[[background]]), views or {})


def test_a_token_speaks_for_its_own_concept_and_against_the_others():
    contrast = Contrast([concept(0, 4, 6), concept(1, 5, 6)], neighbours=3)
    evidence = contrast.photo(AXES)
    assert evidence[:, 0].tolist() == [1, -1] and evidence[:, 1].tolist() == [-1, 1]
    assert (evidence[:, 4:7] == -1).all()  # both contexts and the bank
    assert (evidence[:, 7] == 0).all()


@pytest.mark.parametrize("kind", ["photo", Domain.COLOUR, Domain.SHADED])
def test_exchanging_the_concepts_exchanges_the_evidence(kind):
    rng = np.random.default_rng(0)

    def some(count):
        return unit(torch.from_numpy(rng.normal(size=(count, 8))).float())

    def views():
        return {domain: ViewReferences(some(5), some(7), (some(6), some(6))) for domain in Domain}

    a, b = (References(some(9), some(8), (some(11), some(11)), views()) for _ in range(2))
    tokens = some(40).reshape(4, 10, 8)

    def evidence(*concepts):
        contrast = Contrast(concepts, 3)
        return contrast.photo(tokens) if kind == "photo" else contrast.view(tokens, kind)

    forward, backward = evidence(a, b), evidence(b, a)
    assert torch.equal(forward, backward.flip(0))
    assert forward.shape == (2, 4, 10)
    assert not torch.allclose(forward[0], forward[1])


def test_contexts_say_nothing_about_views_but_the_bank_does():
    contrast = Contrast([concept(0, 4, 6)], 1)
    evidence = contrast.view(AXES[None], Domain.SHADED)[0, 0]
    assert evidence[0] == 1 and evidence[4] == 0 and evidence[6] == -1


def test_a_coloured_cloud_is_judged_by_both_ways_of_drawing_it():
    views = {
        Domain.COLOUR: ViewReferences(AXES[[2]], AXES[[7]], (AXES[[7]], AXES[[7]])),
        Domain.SHADED: ViewReferences(AXES[[3]], AXES[[7]], (AXES[[7]], AXES[[7]])),
    }
    contrast = Contrast([concept(0, 4, 6, views)], 1)
    tokens = torch.stack([AXES[2], AXES[3], AXES[2], AXES[3]])[None]  # first half coloured, second half shaded
    assert contrast.view(tokens, Domain.COLOUR)[0, 0].tolist() == [0.5, 0, 0, 0.5]
    assert contrast.view(tokens, Domain.SHADED)[0, 0].tolist() == [0, 0.5, 0, 0.5]
    used = torch.tensor([[True, True, False, False]])
    assert contrast.view(tokens, Domain.COLOUR, used=used)[0, 0].tolist() == [0.5, 0, 0, 0]
    assert contrast.view(tokens, Domain.SHADED, used=used)[0, 0].tolist() == [0, 0.5, 0, 0]
    assert contrast.view(tokens, Domain.SHADED, used=used & False)[0, 0].tolist() == [0, 0, 0, 0]


def test_null_items_are_scored_against_the_half_they_are_not_in():
    background = (AXES[[4]], AXES[[5]])
    contrast = Contrast([References(AXES[[0]], AXES[[7]], background)], 1)
    null = AXES[[4, 4, 5, 5]][:, None]  # rows 0 and 2 belong to half 0
    scores = null_scores(lambda halves: contrast.photo(null, halves).mean(2))
    assert scores.tolist() == [[0, -1, -1, 0]]


def test_concepts_without_photographs_or_without_anything_are_harmless():
    empty = References(torch.zeros(0, 8), torch.zeros(0, 8), (torch.zeros(0, 8), torch.zeros(0, 8)))
    evidence = Contrast([empty, concept(0, 4, 6)], 3).photo(AXES[:0])
    assert evidence.shape == (2, 0)
    assert Contrast([empty], 3).photo(AXES).tolist() == [[0.0] * 8]


def test_scores_of_images_and_views():
    evidence = torch.tensor([[0.0, 1.0, 0.5, -1.0], [0.1, 0.2, 0.3, 0.4]])
    assert image_score(evidence, 0.5).tolist() == pytest.approx([0.75, 0.35])
    assert image_score(evidence, 0.0).tolist() == pytest.approx([1.0, 0.4])  # at least one token
    assert image_score(evidence, 1.0).tolist() == pytest.approx([0.125, 0.25])
    weight = torch.tensor([[1.0, 0.0, 3.0, 0.0]])
    assert view_score(evidence[:, None], weight).flatten().tolist() == pytest.approx([0.375, 0.25])


@pytest.mark.parametrize(("height", "width"), [(1, 1), (480, 640), (3000, 10), (10, 3000), (97, 31)])
def test_working_sizes_are_multiples_of_the_stride_near_the_wanted_side(height, width):
    h, w = working_size(height, width, 448, 16)
    assert h % 16 == w % 16 == 0 and min(h, w) >= 32
    assert max(h, w) == 448


def test_tokens_of_photographs_and_views(fake_backbone):
    image = np.zeros((30, 60, 3), np.uint8)
    image[:, 30:] = 255
    tokens, small = photo_tokens(fake_backbone, image, 64)
    assert tokens.shape == (2, 4, 27) and small.shape == (32, 64, 3)
    assert tokens[0, 0].argmax() != tokens[0, 3].argmax()
    index = np.full((3, 32, 32), -1, np.int32)
    index[:, :16, :8] = 5
    assert token_coverage(index, (2, 2))[0].tolist() == [[0.5, 0], [0, 0]]


def test_views_are_drawn_while_the_network_runs(fake_backbone):
    """In batches of the given size, whatever parts they come in, and in order; an error while drawing comes out."""
    pictures = np.random.default_rng(0).integers(0, 255, (5, 32, 32, 3), np.uint8)
    sizes = []

    class Counting:
        def tokens(self, images):
            sizes.append(len(images))
            return fake_backbone.tokens(images)

    tokens = view_tokens(Counting(), [pictures[:1], pictures[1:4], pictures[4:]], batch=2)
    assert sizes == [2, 2, 1] and torch.equal(tokens, fake_backbone.tokens(pictures)[0])

    def broken():
        yield pictures[:2]
        raise ValueError("cannot draw")

    with pytest.raises(ValueError, match="cannot draw"):
        view_tokens(fake_backbone, broken(), batch=2)


def test_unit_removes_the_mean_and_survives_a_zero_token():
    mean = torch.tensor([1.0, 1.0])
    assert unit(torch.tensor([[3.0, 1.0], [1.0, 1.0]]), mean).tolist() == [[1, 0], [0, 0]]


def sizes(rng, count, median, spread=0.1):
    return torch.from_numpy(np.exp(rng.normal(np.log(median), spread, (count, 3)))).float()


def test_what_is_as_large_as_the_concept_loses_nothing_and_other_sizes_do():
    rng = np.random.default_rng(0)
    prior = SizePrior.of(sizes(rng, 40, (0.45, 0.35, 0.3)), sizes(rng, 400, (0.5, 0.5, 0.3), 0.9))
    against = prior.against(torch.tensor([[0.45, 0.35, 0.3], [0.7, 0.6, 0.5], [0.5, 0.3, 0.28], [4.0, 6.0, 0.01], [0.0, 0.0, 0.0]]))
    assert against[0] > -0.2 and against[2] > -0.5
    assert -8 < against[1] < -2
    assert (against[3:] == -8).all() and torch.isfinite(against).all()


def test_a_concept_of_every_size_learns_nothing_from_size():
    rng = np.random.default_rng(1)
    prior = SizePrior.of(sizes(rng, 300, (0.5, 0.5, 0.3), 0.8), sizes(rng, 300, (0.5, 0.5, 0.3), 0.8))
    assert prior.against(sizes(rng, 200, (0.5, 0.5, 0.3), 0.8)).mean() > -0.5


def test_one_size_seen_often_is_not_taken_for_exact():
    same = torch.tensor([[0.2, 0.1, 0.1]]).repeat(9, 1)
    prior = SizePrior.of(same, same)
    assert torch.equal(prior.own[1], torch.full((3,), 0.3))


def test_only_concepts_with_a_size_are_judged_by_it():
    rng = np.random.default_rng(2)
    prior = SizePrior.of(sizes(rng, 40, (0.45, 0.35, 0.3)), sizes(rng, 400, (0.5, 0.5, 0.3), 0.9))
    known = References(AXES[[0]], AXES[[4]], (AXES[[6]], AXES[[6]]), {}, prior)
    contrast = Contrast([known, concept(1, 5, 6)], 3, size_weight=0.5)
    evidence = contrast.size(torch.tensor([[4.0, 6.0, 0.01], [0.45, 0.35, 0.3]]))
    assert evidence[0, 0] == -4 and evidence[0, 1] > -0.1
    assert (evidence[1] == 0).all()
