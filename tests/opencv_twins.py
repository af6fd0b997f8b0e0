"""Slow twins of what the corruptions take from OpenCV, one pixel at a time, by its definitions: uint8 (H, W) in."""

import numpy as np


def mirrored(place: int, length: int) -> int:
    """c b|a b c."""
    place = abs(place)
    return place if place < length else 2 * (length - 1) - place


def around(image: np.ndarray, row: int, column: int) -> np.ndarray:
    """float64 (3, 3): a pixel and its neighbours."""
    height, width = image.shape
    rows, columns = ([mirrored(place + i, length) for i in (-1, 0, 1)] for place, length in ((row, height), (column, width)))
    return np.array([[float(image[i, j]) for j in columns] for i in rows])


def filtered(image: np.ndarray, kernel: list[list[int]]) -> np.ndarray:
    sums = [[(around(image, r, c) * np.array(kernel)).sum() for c in range(image.shape[1])] for r in range(image.shape[0])]
    return np.clip(sums, 0, 255).astype(np.uint8)


def averaged(image: np.ndarray) -> np.ndarray:
    """float (H, W): not yet rounded."""
    return np.array([[around(image, r, c).sum() / 9 for c in range(image.shape[1])] for r in range(image.shape[0])])


def canny(image: np.ndarray, low: int, high: int) -> np.ndarray:
    """bool (H, W)."""
    height, width = image.shape
    slopes = {}
    for r in range(height):
        for c in range(width):
            near = [
                [int(image[min(max(r + i, 0), height - 1), min(max(c + j, 0), width - 1)]) for j in (-1, 0, 1)]
                for i in (-1, 0, 1)
            ]
            across = sum(weight * (row[2] - row[0]) for weight, row in zip((1, 2, 1), near, strict=True))
            down = sum(weight * (near[2][j] - near[0][j]) for j, weight in enumerate((1, 2, 1)))
            slopes[r, c] = (across, down)

    def steep(r: int, c: int) -> int:
        across, down = slopes.get((r, c), (0, 0))
        return abs(across) + abs(down)

    thin = set()
    for (r, c), (across, down) in slopes.items():
        here = steep(r, c)
        if here <= low:
            continue
        angle = np.degrees(np.arctan2(abs(down), abs(across)))
        if angle < 22.5:
            ridge = here > steep(r, c - 1) and here >= steep(r, c + 1)
        elif angle > 67.5:
            ridge = here > steep(r - 1, c) and here >= steep(r + 1, c)
        else:
            side = 1 if across * down > 0 else -1
            ridge = here > steep(r - 1, c - side) and here > steep(r + 1, c + side)
        if ridge:
            thin.add((r, c))
    edges = np.zeros((height, width), bool)
    todo = [place for place in thin if steep(*place) > high]
    while todo:
        r, c = todo.pop()
        if not edges[r, c]:
            edges[r, c] = True
            todo += [(r + i, c + j) for i in (-1, 0, 1) for j in (-1, 0, 1) if (r + i, c + j) in thin]
    return edges


def distance(marked: np.ndarray, limit: int) -> np.ndarray:
    """int (H, W) in 1/65536 of a pixel: two passes, down and up, as the transform is published and as OpenCV goes."""
    height, width = marked.shape
    far = limit * 65536
    found = np.where(marked, 0, far)
    before = {(-1, 0): 65536, (0, -1): 65536, (-1, -1): 91750, (-1, 1): 91750}  # 1 and 1.4
    before |= {(-2, -1): 143976, (-2, 1): 143976, (-1, -2): 143976, (-1, 2): 143976}  # 2.1969
    for sign, rows, columns in ((1, range(height), range(width)), (-1, range(height - 1, -1, -1), range(width - 1, -1, -1))):
        for r in rows:
            for c in columns:
                for (down, right), length in before.items():
                    i, j = r + sign * down, c + sign * right
                    if 0 <= i < height and 0 <= j < width:
                        found[r, c] = min(found[r, c], found[i, j] + length)
    return found


def equalised(image: np.ndarray) -> np.ndarray:
    """uint8 (H, W): level by level of the histogram."""
    counts = [int((image == level).sum()) for level in range(256)]
    first = next(level for level in range(256) if counts[level])
    if counts[first] == image.size:
        return image.copy()
    scale = np.float32(255) / np.float32(image.size - counts[first])
    out, total = np.zeros_like(image), 0
    for level in range(first + 1, 256):
        total += counts[level]
        out[image == level] = np.rint(np.float32(total) * scale)
    return out
