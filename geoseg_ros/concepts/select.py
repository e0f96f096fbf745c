"""Which proposals of a concept's clouds are the concept: multiple-instance selection without labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from geoseg_ros.concepts.bank import spread
from geoseg_ros.coseg.config import CosegConfig, TrainConfig
from geoseg_ros.coseg.correlation import affinity, prototypes, recurrence
from geoseg_ros.coseg.references import Contrast, References, ViewReferences
from geoseg_ros.coseg.tokens import Domain

NULL_PROPOSALS = 64  # per half, enough for a mean
Scores = dict[int, torch.Tensor]


@dataclass(frozen=True)
class Selection:
    """Attributes: references of each domain; clouds: number of clouds whose best proposal stands out from the null proposals."""

    references: dict[Domain, ViewReferences]
    clouds: int


class _Drawn:
    """The proposals of the concept's clouds as drawn in one way, and those from elsewhere."""

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
        self._null = [spread(half, min(len(half), NULL_PROPOSALS)) for half in null]

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

    def first(self) -> tuple[Scores, float]:
        """Scores by recurrence in the other clouds. The level of what is not the concept is that of the middling proposal."""
        flat = [tokens.flatten(0, 1) for tokens in self.items.values()]
        again = recurrence(flat, self._neighbours, self._train.partners)
        scores = {
            k: (r.reshape(tokens.shape[:2]) - self._against(tokens) + self._photo[k]).mean(1)
            for (k, tokens), r in zip(self.items.items(), again, strict=True)
        }
        return scores, float(torch.cat(list(scores.values())).median())

    def later(self, positive: Mapping[int, torch.Tensor]) -> tuple[Scores, float]:
        """Scores by affinity with the positives so far. The level is the mean of the null proposals, each scored against the other half."""
        own = self.own(positive)
        scores = {k: (affinity(t, own, self._neighbours) - self._against(t) + self._photo[k]).mean(1) for k, t in self.items.items()}
        null = [
            (affinity(t, own, self._neighbours) - self._against(t, 1 - half) + photo).mean(1)
            for half, (t, photo) in enumerate(zip(self._null, self._null_photo, strict=True))
        ]
        level = torch.cat(null)
        return scores, float(level.mean()) if len(level) else float(torch.cat(list(scores.values())).min())

    def own(self, positive: Mapping[int, torch.Tensor]) -> torch.Tensor:
        """Prototypes of the chosen proposals."""
        return prototypes(torch.cat([tokens[positive[k]].flatten(0, 1) for k, tokens in self.items.items()]), self._train.view_tokens)

    def references(self, positive: Mapping[int, torch.Tensor], negative: Mapping[int, torch.Tensor]) -> ViewReferences:
        """What the pack keeps."""
        own = self.own(positive)
        rest = torch.cat([tokens[negative[k]].flatten(0, 1) for k, tokens in self.items.items()])
        # a bank that happens to hold the concept must not speak against it
        typical = affinity(own, own, self._neighbours + 1).quantile(0.25)
        kept = [tokens[affinity(tokens, own, self._neighbours) < typical] for tokens in self.background]
        return ViewReferences(own, prototypes(rest, self._train.view_tokens), (kept[0], kept[1]))


def select_views(
    clouds: Mapping[Domain, Mapping[int, torch.Tensor]],
    null: Mapping[Domain, Sequence[torch.Tensor]],
    photos: References,
    coseg: CosegConfig,
    train: TrainConfig,
) -> Selection:
    """Choose the proposals that recur in the concept's clouds and not elsewhere.

    A proposal is chosen or not as a whole: where clouds are coloured, its score is the mean of what its colour and its shape say. The best
    proposal of each cloud is a positive, and so are those that reach ``own_share`` of its height above the level of the null proposals.
    What stays below half of that share is a negative; what lies between is neither.

    Args:
        clouds: per domain, cloud number -> tokens [p, t, D] of its proposals, the same proposals in each domain.
        null: per domain, tokens [., t, D] of proposals from elsewhere, in two halves.
        photos: the references from the photographs; their foreground may be empty.
    """
    drawn = [_Drawn(domain, items, null[domain], photos, coseg, train) for domain, items in clouds.items() if items]
    if not drawn:
        return Selection({}, 0)
    positive: dict[int, torch.Tensor] = {}
    negative: dict[int, torch.Tensor] = {}
    standing_out = 0
    for round_ in range(3):
        answers = [d.later(positive) if round_ else d.first() for d in drawn]
        level = sum(answer[1] for answer in answers) / len(answers)
        numbers = sorted(set().union(*(answer[0] for answer in answers)))
        standing_out = 0
        for k in numbers:
            score = torch.stack([answer[0][k] for answer in answers if k in answer[0]]).mean(0)
            best = float(score.max())
            height = max(best - level, 0.0)
            standing_out += int(height > 0)
            positive[k] = (score >= level + train.own_share * height) & (score > level) | (score == best)
            negative[k] = score < level + train.own_share / 2 * height
            negative[k] &= ~positive[k]
    return Selection({d.domain: d.references(positive, negative) for d in drawn}, standing_out)
