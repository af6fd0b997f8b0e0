"""The parts of spatter equal their slow twins and what OpenCV gave; drops do what drops do. Nothing here needs OpenCV.

The published definition was run once beside ours, line by line with OpenCV (and SciPy's Gaussian, which scikit-image's calls), on
600 images of CIFAR-10's test set, in every severity, with the same draws, under OpenCV 4.14 with and without Intel's primitives,
and on the first 300 of them under OpenCV 5.0 without those. Water: every byte the same. Mud: at most two bytes in a hundred
thousand differ, by one (single precision there, double here). Edges, distances, levels and light were the same in every pixel;
with Intel's primitives, which take distances in single precision, distances differed by up to 0.0001 pixels, and their mean fell
to the other side of a whole number at one pixel in ten thousand or fewer.
"""

import numpy as np
import pytest
import torch
from torch import Tensor

import opencv_twins
from bantamnet.data.corruptions.canny import canny
from bantamnet.data.corruptions.chamfer import ONE, distance
from bantamnet.data.corruptions.equalise import equalise
from bantamnet.data.corruptions.neighbourhood import BOX, weighted_sum
from bantamnet.data.corruptions.spatter import BROWN, LIGHT, Mud, Water, gloss
from bantamnet.data.corruptions.table import operation
from bantamnet.runtime import generator
from twins import mixed_images


@pytest.fixture(scope="module")
def pictures() -> Tensor:
    """uint8 (20, 32, 32): noise, blocks, soft ones, digits, flat ones."""
    return mixed_images(20)[:, 0]


@pytest.fixture(scope="module")
def liquids() -> Tensor:
    """uint8 (12, 32, 32): drops of the three severities of water."""
    rows = []
    for severity in (1, 2, 3):
        water = operation("spatter", severity)
        assert isinstance(water, Water)
        rows.append((water.liquid(water.draw(4, generator("liquid", severity))) * 255).to(torch.uint8))
    return torch.cat(rows)


@pytest.mark.parametrize(("low", "high"), [(50, 150), (15, 40), (300, 900)])
def test_edges_are_those_of_the_twin(low: int, high: int, pictures: Tensor, liquids: Tensor) -> None:
    images = torch.cat([pictures, liquids])
    ours = canny(images, low, high)
    assert ours.dtype == torch.bool and ours.any() and not ours.all()
    for image, edges in zip(images, ours, strict=True):
        assert np.array_equal(edges.numpy(), opencv_twins.canny(image.numpy(), low, high))


def test_a_weak_edge_counts_where_it_leads_to_a_strong_one() -> None:
    def edge(*heights: float) -> Tensor:
        """Rows that have an edge, along a step whose height, a quarter of its slope, goes linearly through `heights`."""
        image = torch.full((1, 32, 32), 100.0)
        step = torch.nn.functional.interpolate(
            torch.tensor([[heights]], dtype=torch.float32), 32, mode="linear", align_corners=True
        )
        image[0, :, 16:] += step[0, 0].round()[:, None]
        return canny(image, 50, 150)[0].sum(1)

    assert edge(60, 20).tolist() == [1] * 32, "a slope from 240 to 80, strong in the upper half"
    assert edge(30, 20).tolist() == [0] * 32, "nowhere strong"
    faded = edge(60, 40, 8, 25, 30, 30)
    assert faded[:8].tolist() == [1] * 8 and not faded[16:].any(), "weak beyond a gap"


def test_distances_are_those_of_the_twin(liquids: Tensor) -> None:
    rng = np.random.default_rng(2)
    marked = torch.from_numpy(rng.random((12, 32, 32)) < np.array([0, 0.002, 0.01, 0.1] * 3)[:, None, None])
    marked = torch.cat([marked, canny(liquids, 50, 150)])
    marked[0] = False
    marked[1] = False
    marked[1, 3, 31] = True
    for limit in (20, 60):
        ours = distance(marked, limit)
        for one, found in zip(marked, ours, strict=True):
            assert np.array_equal(found.numpy(), opencv_twins.distance(one.numpy(), limit))
    assert (ours[0] == 60 * ONE).all(), "nothing to be near to"
    axis = torch.arange(32.0)
    crow = torch.hypot(axis[:, None] - 3, axis - 31)
    assert ((ours[1] / ONE - crow).abs() <= 0.02 * crow).all(), "within the two per cent that the 5×5 steps are chosen for"


def test_equalised_levels_and_neighbourhoods_are_those_of_the_twins(pictures: Tensor, liquids: Tensor) -> None:
    coarse = pictures // 25  # eleven levels: some fall on a half
    for image in torch.cat([pictures, liquids, coarse]):
        plain = image.numpy()
        assert np.array_equal(equalise(image[None])[0].numpy(), opencv_twins.equalised(plain))
        lit = weighted_sum(image[None], LIGHT)[0].clamp(0, 255)
        assert np.array_equal(lit.numpy(), opencv_twins.filtered(plain, [[-2, -1, 0], [-1, 1, 1], [0, 1, 2]]))
        assert np.allclose(weighted_sum(image[None], BOX)[0].numpy() / 9, opencv_twins.averaged(plain))


DROPS = [
    max(230 - 6 * ((r - 3) ** 2 + (c - 4) ** 2), 205 - 4 * ((r - 8) ** 2 + (c - 8) ** 2)) for r in range(12) for c in range(12)
]
"""Two drops, 12×12."""
EDGES = """
............ ..#####..... ..#...#..... ..#...#..... ..#...#..... ..######....
.......####. ......##..#. ......#...#. ......#...#. ......#####. ............
"""
GLOSS = """
 40  40   0   0   0  85 170 255 255 247 225 217    40  40  27  40  40  83 155 238 250 243 217 211
 40  40  40  67  67  68 125 208 249 234 190 176    40  40  40  67  67  40  82 149 190 173 127 124
 40  40  27  40  40  13  40  82 110  97  65  63   112 112  98  97  82  40  27  27  27  20   7  14
183 183 168 165 135  80  27   0   0   0   0   0   255 246 223 204 155  93  27   0   0   0   0   0
254 239 206 169 113  60  13   0   0   0   0   0   246 224 193 133  75  20   0   0   0   0   0   0
231 214 170 104  48   7   0   0   0   0   0   0   224 207 159  89  36   0   0   0   0   0   0   0
"""


def test_drops_shine_as_opencv_had_them() -> None:
    """The figures are what OpenCV 4.14 and 5.0 gave."""
    drops = torch.tensor(DROPS).view(1, 12, 12)
    drops = torch.where(drops < 178, 0, drops)
    edges = "".join("#" if edge else "." for edge in canny(drops, 50, 150).flatten())
    assert edges == "".join(EDGES.split())
    assert gloss(drops).flatten().tolist() == [float(number) for number in GLOSS.split()]

    counts = torch.tensor([106, 166, 188, 165, 169, 140, 41, 22, 14, 9, 4])
    levels = equalise(torch.arange(11).repeat_interleave(counts).view(1, 32, 32))
    assert levels.unique().tolist() == [0, 46, 98, 144, 191, 230, 241, 248, 251, 254, 255]  # 891 · 255 / 918 is 247.5

    corner = torch.zeros(1, 6, 6, dtype=torch.bool)
    corner[0, 0, 0] = True
    assert distance(corner, 20)[0, 2:5, 1:5].tolist() == [
        [143976, 183500, 235726, 287952],
        [209512, 235726, 275250, 327476],
        [275048, 287952, 327476, 367000],
    ]


def test_water_only_adds_and_mud_only_covers() -> None:
    images = mixed_images(40)
    for severity in (1, 2, 3):
        water = operation("spatter", severity)
        assert isinstance(water, Water)
        drawn = water.draw(40, generator("water"))
        wet = water.apply(images, drawn)
        dry = water.liquid(drawn) == 0
        assert (wet >= images).all() and torch.equal(wet.movedim(1, 3)[dry], images.movedim(1, 3)[dry])
        assert wet[0].amax((1, 2)).tolist() == [87, 119, 119], "on black: half of turquoise where it shines most"
    assert 0.05 < 1 - dry.double().mean() < 0.5
    for severity in (4, 5):
        mud = operation("spatter", severity)
        assert isinstance(mud, Mud)
        muddy = mud.apply(images, mud.draw(40, generator("mud")))
        brown = torch.tensor(BROWN).view(3, 1, 1)
        assert (muddy >= torch.minimum(images, brown - 1)).all() and (muddy <= torch.maximum(images, brown)).all()
        white = muddy[1].movedim(0, 2).flatten(0, 1)
        covered = white[white.amin(1) < 255].double()
        assert 0 < len(covered) < 512 and covered.amax(0).le(255 - 0.8 * (255 - brown.flatten())).all(), "eight tenths brown"


def test_liquid_above_one_overflows_and_none_leaves_the_image() -> None:
    images = mixed_images(8)
    water = Water(0.0, 1.0, 0.05, 0.5, 0.5)  # hardly smoothed: what is drawn is the liquid
    noise = torch.zeros(8, 32, 32, dtype=torch.float64)
    assert torch.equal(water.apply(images, {"noise": noise}), images)
    noise[:, 8:20, 8:20] = 0.8
    plain = water.apply(images, {"noise": noise})
    noise[:, 12:15, 12:15] = 1.0 + 1 / 255 + 1e-9  # the byte 256 is 0: a hole in the drop
    holed = water.apply(images, {"noise": noise})
    assert not torch.equal(plain, images) and torch.equal(holed[:, :, 12:15, 12:15], images[:, :, 12:15, 12:15])
