"""Which proposals of a concept's clouds are the concept: multiple-instance selection without labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from geoseg_ros.backbones.tokens import Domain
from geoseg_ros.learning.affinity import affinity, even_rows, evenly, prototypes, recurrence
from geoseg_ros.learning.foreground import ForegroundConfig
from geoseg_ros.methods.contrast.config import CosegConfig
from geoseg_ros.methods.contrast.references import Contrast, References, ViewReferences
from geoseg_ros.methods.contrast.rivals import Split, split_kinds
from geoseg_ros.settings import setting

NULL_PROPOSALS = 64  # per half, enough for a mean
Scores = dict[int, torch.Tensor]
"""Per cloud [2, p]: for each of its proposals the evidence for it (recurrence and photographs) and against it (background)."""


@dataclass(frozen=True)
class TrainConfig(ForegroundConfig):
    """How the reference tokens of a concept are found in its set."""

    view_tokens: int = setting(256, "prototypes kept per view domain, where the concept has clouds", range=(1, 100_000))
    own_share: float = setting(
        0.65,
        "a proposal of a concept's own cloud is a positive if its score exceeds the null proposals by this share of the cloud's best one",
        range=(0.0, 1.0),
    )
    present_share: float = setting(
        0.5,
        "a cloud of the set shows the concept if its best proposal exceeds the null proposals by this share of what is usual",
        range=(0.0, 1.0),
    )


@dataclass(frozen=True)
class Selection:
    """Attributes: references of each domain; best: of each cloud whose best proposal stands out from the null proposals, its number; split:
    target and rivals, where kinds were separated."""

    references: dict[Domain, ViewReferences]
    best: dict[int, int]
    split: Split | None = None


class _Drawn:
    """The proposals of the concept's clouds in one domain, and those of the background."""

    def __init__(
        self,
        domain: Domain,
        items: Mapping[int, torch.Tensor],
        null: Sequence[torch.Tensor],
        photos: References,
        coseg: CosegConfig,
        train: TrainConfig,
    ) -> None:
        self.domain, self.items = domain, items
        self._neighbours, self._train = coseg.neighbours, train
        dim = next(iter(items.values())).shape[-1]
        self.background = [prototypes(half.reshape(-1, dim), train.background_tokens // 2) for half in null]
        self._null = [even_rows(half, min(len(half), NULL_PROPOSALS)) for half in null]

        def seen_in_photographs(tokens: torch.Tensor) -> torch.Tensor:
            if len(photos.foreground) == 0:
                return tokens.new_zeros(tokens.shape[:2])
            return Contrast([photos], coseg.neighbours).drawn(tokens, domain)[0]

        self._photo = {k: seen_in_photographs(tokens) for k, tokens in items.items()}
        self._null_photo = [seen_in_photographs(half) for half in self._null]

    def _against(self, tokens: torch.Tensor, half: int | None = None) -> torch.Tensor:
        halves = [h for h in ((0, 1) if half is None else (half,)) if len(self.background[h])]
        if not halves:
            return tokens.new_zeros(tokens.shape[:2])
        return torch.stack([affinity(tokens, self.background[h], self._neighbours) for h in halves]).mean(0)

    def first(self) -> tuple[Scores, torch.Tensor]:
        """Scores by recurrence in the other clouds. The level [2] of what is not the concept is that of the middling proposal."""
        flat = [tokens.flatten(0, 1) for tokens in self.items.values()]
        again = recurrence(flat, self._neighbours, self._train.partners)
        scores = {
            k: torch.stack([r.reshape(tokens.shape[:2]) + self._photo[k], self._against(tokens)]).mean(2)
            for (k, tokens), r in zip(self.items.items(), again, strict=True)
        }
        return scores, torch.cat(list(scores.values()), 1).median(1).values

    def later(self, positive: Mapping[int, torch.Tensor]) -> tuple[Scores, torch.Tensor]:
        """Scores by recurrence in the positives of the *other* clouds: what only one cloud holds does not count. The level [2] is
        the mean of the null proposals, each scored against the other half."""
        own = {k: tokens[positive[k]].flatten(0, 1) for k, tokens in self.items.items() if positive[k].any()}

        def recurring(tokens: torch.Tensor, k: int = -1) -> torch.Tensor:
            others = evenly([j for j in own if j != k], self._train.partners)
            if not others:
                return tokens.new_zeros(tokens.shape[:2])
            return torch.stack([affinity(tokens, own[j], self._neighbours) for j in others]).mean(0)

        scores = {k: torch.stack([recurring(t, k) + self._photo[k], self._against(t)]).mean(2) for k, t in self.items.items()}
        null = [
            torch.stack([recurring(t) + photo, self._against(t, 1 - half)]).mean(2)
            for half, (t, photo) in enumerate(zip(self._null, self._null_photo, strict=True))
        ]
        level = torch.cat(null, 1)
        return scores, level.mean(1) if level.shape[1] else torch.cat(list(scores.values()), 1).min(1).values

    def own(self, positive: Mapping[int, torch.Tensor]) -> torch.Tensor:
        """Prototypes of the chosen proposals."""
        return prototypes(torch.cat([tokens[positive[k]].flatten(0, 1) for k, tokens in self.items.items()]), self._train.view_tokens)

    def references(self, positive: Mapping[int, torch.Tensor], negative: Mapping[int, torch.Tensor]) -> ViewReferences:
        """What the pack keeps."""
        own = self.own(positive)
        rest = torch.cat([tokens[negative[k]].flatten(0, 1) for k, tokens in self.items.items()])
        # background that happens to show the concept is left out
        typical = affinity(own, own, self._neighbours + 1).quantile(0.25)
        kept = [tokens[affinity(tokens, own, self._neighbours) < typical] for tokens in self.background]
        return ViewReferences(own, prototypes(rest, self._train.view_tokens), (kept[0], kept[1]))


def select_views(
    clouds: Mapping[Domain, Mapping[int, torch.Tensor]],
    null: Mapping[Domain, Sequence[torch.Tensor]],
    photos: References,
    coseg: CosegConfig,
    train: TrainConfig,
    inside: Mapping[int, torch.Tensor] | None = None,
) -> Selection:
    """Choose the proposals that recur in the concept's clouds and not in the background. Where the clouds hold several kinds of objects,
    the photographs decide which (:mod:`geoseg_ros.methods.contrast.rivals`).

    A proposal is chosen or not as a whole: where clouds are coloured, its score is the mean of what its colour and its shape say. The best
    proposal of a cloud is a positive, and so are those that reach ``own_share`` of its height above the level of the null proposals. What
    stays below half of that share is a negative; what lies between is neither. A cloud for whose best proposal less than ``present_share``
    speaks of what usually does in the set may not show the concept: nothing is chosen from it.

    Args:
        clouds: per domain, cloud number -> tokens [p, t, D] of its proposals, the same proposals in each domain.
        null: per domain, tokens [., t, D] of background proposals, in two halves.
        photos: the references from the photographs; their foreground may be empty.
        inside: cloud number -> [p, p], share of each proposal that lies in each other; None: kinds are not separated.
    """
    drawn = [_Drawn(domain, items, null[domain], photos, coseg, train) for domain, items in clouds.items() if items]
    if not drawn:
        return Selection({}, {})
    together = set.intersection(*(set(d.items) for d in drawn))
    split = inside and split_kinds([{k: d.items[k] for k in sorted(together)} for d in drawn], photos.foreground, inside, coseg.neighbours)
    if split:
        nothing = {k: torch.zeros(len(t), dtype=torch.bool) for d in drawn for k, t in d.items.items()}
        best = {k: int(split.score[k].argmax()) for k, flags in split.target.items() if flags.any()}
        return Selection({d.domain: d.references({**nothing, **split.target}, {**nothing, **split.rival}) for d in drawn}, best, split)
    positive: dict[int, torch.Tensor] = {}
    negative: dict[int, torch.Tensor] = {}
    standing_out: dict[int, int] = {}
    for round_ in range(3):
        scored = [d.later(positive) if round_ else d.first() for d in drawn]
        level = torch.stack([null for _, null in scored]).mean(0)
        numbers = sorted(set().union(*(scores for scores, _ in scored)))
        heights = {k: torch.stack([scores[k] for scores, _ in scored if k in scores]).mean(0) - level[:, None] for k in numbers}
        scores = {k: height[0] - height[1] for k, height in heights.items()}
        best = {k: int(score.argmax()) for k, score in scores.items()}
        support = {k: float(heights[k][0, best[k]]) for k in numbers}
        usual = float(np.median(list(support.values())))
        standing_out = {k: best[k] for k in numbers if support[k] >= train.present_share * usual and scores[k].max() > 0}
        if not standing_out:  # nothing does: the best of each cloud is all there is
            standing_out = best
        for k, score in scores.items():
            height = score.max().clamp_min(0)
            positive[k] = (score >= train.own_share * height) & (score > 0) | (score == score.max())
            negative[k] = (score < train.own_share / 2 * height) & ~positive[k]
            if k not in standing_out:
                positive[k], negative[k] = torch.zeros_like(positive[k]), torch.zeros_like(negative[k])
    return Selection({d.domain: d.references(positive, negative) for d in drawn}, standing_out)
