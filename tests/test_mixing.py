"""Mixup and CutMix against loops; what is mixed depends on seed, epoch and step alone."""

import math

import pytest
import torch
import torch.nn.functional as F

from bantamnet.data import mixing
from bantamnet.data.mixing import Cutmix, Mixup, parse
from bantamnet.errors import UserError
from bantamnet.runtime import Ranks
from bantamnet.training.loop import batches
from bantamnet.training.losses import Classification
from bantamnet.training.setup import prepare
from conftest import tiny

IMAGES = torch.randn(40, 3, 12, 10, generator=torch.Generator().manual_seed(0))
LABELS = torch.randint(0, 4, (40,), generator=torch.Generator().manual_seed(1))


def twin(line: str, sizes: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Batch by batch, image by image."""
    mix = parse(line)
    drawn = mix.draw(sizes, 3, 5)
    images, targets = IMAGES.clone(), torch.zeros(40, 4)
    start = 0
    for batch, size in enumerate(sizes):
        for position in range(size):
            mine, other = start + position, start + int(drawn.partner[batch][position])
            which, share = int(drawn.which[batch]), float(drawn.share[batch])
            if which < 0:
                left = 1.0
            elif isinstance(mix.mixes[which], Mixup):
                images[mine] = share * IMAGES[mine] + (1 - share) * IMAGES[other]
                left = share
            else:
                height, width = IMAGES.shape[2:]
                down, right = (int(drawn.centre[batch][axis] * (height, width)[axis]) for axis in (0, 1))
                tall, wide = (int(math.sqrt(1 - share) * length) // 2 for length in (height, width))
                pasted = 0
                for y in range(max(0, down - tall), min(height, down + tall)):
                    for x in range(max(0, right - wide), min(width, right + wide)):
                        images[mine, :, y, x] = IMAGES[other, :, y, x]
                        pasted += 1
                left = 1 - pasted / (height * width)
            targets[mine, LABELS[mine]] += left
            targets[mine, LABELS[other]] += 1 - left
        start += size
    return images, targets


@pytest.mark.parametrize("line", ["mixup(0.4)", "cutmix(1.0)", "cutmix(1.0, p=0.5)", "mixup(0.2, p=0.4)|cutmix(1.0, p=0.4)"])
def test_images_and_targets_equal_a_loop(line: str) -> None:
    sizes = [8, 8, 8, 8, 8]
    images, targets = parse(line).apply(IMAGES, LABELS, 4, parse(line).draw(sizes, 3, 5), range(5))
    wanted_images, wanted_targets = twin(line, sizes)
    assert torch.allclose(images, wanted_images, atol=1e-6) and torch.allclose(targets, wanted_targets, atol=1e-6)
    assert torch.allclose(targets.sum(1), torch.ones(40)) and not images.equal(IMAGES)


def test_a_part_of_an_epoch_is_mixed_as_in_the_whole() -> None:
    mix = parse("mixup(0.3, p=0.5)|cutmix(1.0, p=0.5)")
    sizes = [12, 12, 12, 4]
    drawn = mix.draw(sizes, 0, 1)
    whole, whole_targets = mix.apply(IMAGES, LABELS, 4, drawn, range(4))
    part, part_targets = mix.apply(IMAGES[24:], LABELS[24:], 4, drawn, range(2, 4))
    assert part.equal(whole[24:]) and part_targets.equal(whole_targets[24:])


def test_what_is_drawn_has_the_stated_distribution() -> None:
    num = 4000
    drawn = parse("mixup(0.2, p=0.3)|cutmix(1.0, p=0.5)").draw([2] * num, 0, 0)
    shares = [(drawn.which == index).float().mean().item() for index in (-1, 0, 1)]
    assert shares == pytest.approx([0.2, 0.3, 0.5], abs=0.03)
    for index, alpha in ((0, 0.2), (1, 1.0)):
        share = drawn.share[drawn.which == index].double()
        assert share.mean().item() == pytest.approx(0.5, abs=0.03)
        assert share.var().item() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.1), "variance of Beta(α, α)"
    assert drawn.centre.mean().item() == pytest.approx(0.5, abs=0.02)
    swapped = sum(int(partner[0]) for partner in drawn.partner) / num
    assert swapped == pytest.approx(0.5, abs=0.03)
    again, other_epoch = (parse("cutmix").draw([2] * num, 0, epoch) for epoch in (0, 1))
    assert not again.share.equal(other_epoch.share)


def test_the_loss_is_the_weighted_sum_of_both_labels() -> None:
    logits = torch.randn(6, 4, dtype=torch.float64)
    first, second = torch.tensor([0, 1, 2, 3, 0, 1]), torch.tensor([1, 1, 0, 2, 3, 2])
    share = torch.linspace(0, 1, 6, dtype=torch.float64)
    targets = share[:, None] * F.one_hot(first, 4) + (1 - share[:, None]) * F.one_hot(second, 4)
    for smoothing in (0.0, 0.1):
        loss, _ = Classification(smoothing)(torch.nn.Identity(), logits, targets.float())
        each = [F.cross_entropy(logits, t, reduction="none", label_smoothing=smoothing) for t in (first, second)]
        assert loss.item() == pytest.approx((share * each[0] + (1 - share) * each[1]).mean().item(), rel=1e-5)


def test_ranks_and_resume_point_change_nothing() -> None:
    setup, _ = prepare(tiny("data.mix=mixup(0.4, p=0.5)|cutmix(p=0.5)", "batch_size=150"), None, torch.device("cpu"), Ranks())
    alone = list(batches(setup, 1))
    assert all(targets.ndim == 2 for _, targets, *_ in alone)
    for first, (images, targets, *_) in zip(batches(setup, 1, first_step=3), alone[3:], strict=False):
        assert first[0].equal(images) and first[1].equal(targets)
    for rank in range(3):
        split = setup.__class__(**{**setup.__dict__, "ranks": Ranks(rank, 3)})
        for (images, targets, share, _), (mine, wanted, my_share, _) in zip(alone, batches(split, 1), strict=True):
            assert mine.equal(images[rank::3]) and wanted.equal(targets[rank::3]) and share == 1
            assert my_share == pytest.approx(len(mine) * 3 / len(images))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("mixip(0.2)", "did you mean 'mixup'"),
        ("cutmix(alpah=1)", "did you mean 'alpha'"),
        ("mixup(0)", "greater than 0"),
        ("mixup|cutmix", "add up to 1"),
        ("crop(4)", "mixup"),
        ("mixup(", "cutmix(1.0, p=0.5)"),
    ],
)
def test_wrong_lines_are_told(line: str, words: str) -> None:
    with pytest.raises(UserError) as told:
        parse(line)
    assert words in str(told.value)


def test_the_empty_line_mixes_nothing() -> None:
    assert not parse("") and parse("cutmix").mixes == (Cutmix(),) and set(mixing.MIXES) == {"mixup", "cutmix"}
