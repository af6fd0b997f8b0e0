"""The loop that most people write: a Pillow picture at a time through random transforms, in the workers of a `DataLoader`."""

import math
import random
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageEnhance, ImageFilter, ImageOps
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from bantamnet.data.operations import (
    OPERATIONS,
    AutoAugment,
    Blur,
    Crop,
    Cutout,
    Erase,
    HFlip,
    Jitter,
    Operation,
    Rotate,
    Translate,
    VFlip,
)
from bantamnet.data.policies import NAMES, SIGNED, SUB_POLICIES, levels, narrow
from bantamnet.data.preprocess import Preprocessing
from bantamnet.data.split import Split
from bantamnet.errors import UserError
from bantamnet.optim.groups import Optimizers
from bantamnet.training.losses import Classification

Picture = Image.Image
NEAREST = Image.Resampling.NEAREST
SUPPORTED = (AutoAugment, Blur, Crop, Cutout, Erase, HFlip, Jitter, Rotate, Translate)  # vflip and alternating_flip are hflips


def refuse_unsupported(operations: Iterable[Operation]) -> None:
    """Raise `UserError` for an operation that has no form for single pictures here."""
    for operation in operations:
        if not isinstance(operation, SUPPORTED):
            name = next(word for word, kind in OPERATIONS.items() if kind is type(operation))
            raise UserError(
                f"bench loop: {name} has no form for single pictures here; leave it out: --set data.augment='crop(4)|hflip'"
            )


def transform(operation: Operation, picture: Picture) -> Picture:
    """One of the `SUPPORTED` operations on one picture, with random numbers of this process."""
    width, height = picture.size
    match operation:
        case Crop(pad=pad):
            left, top = random.randint(0, 2 * pad), random.randint(0, 2 * pad)
            if operation.border == "reflect":
                padded = np.pad(np.asarray(picture), ((pad, pad), (pad, pad), (0, 0)), mode="reflect")
                return Image.fromarray(padded[top : top + height, left : left + width])
            return ImageOps.expand(picture, pad, _colour(operation.fill)).crop((left, top, left + width, top + height))
        case VFlip(p=p):
            return ImageOps.flip(picture) if random.random() < p else picture
        case HFlip(p=p):
            return ImageOps.mirror(picture) if random.random() < p else picture
        case Rotate(degrees=most):
            return picture.rotate(random.uniform(-most, most), NEAREST, fillcolor=_colour(operation.fill))
        case Translate(share=share):
            right, down = (round(random.uniform(-share, share) * side) for side in (width, height))
            return _moved(picture, (1, 0, -right, 0, 1, -down), _colour(operation.fill))
        case Jitter():
            return jitter(operation, picture)
        case Blur(p=p, radius=radius):
            return picture.filter(ImageFilter.GaussianBlur(random.uniform(*radius))) if random.random() < p else picture
        case AutoAugment():
            return auto_augment(operation, picture)
        case Erase():
            return erase(operation, picture)
        case Cutout(size=size, p=p):
            left, top = (random.randrange(side) - size // 2 for side in (width, height))
            return _painted(picture, (left, top, left + size, top + size), operation.fill) if random.random() < p else picture
    raise AssertionError(operation)


def _colour(fill: Any) -> tuple[int, int, int]:
    return (fill, fill, fill) if isinstance(fill, int) else fill if isinstance(fill, tuple) else (0, 0, 0)


def _painted(picture: Picture, box: tuple[int, int, int, int], fill: Any) -> Picture:
    painted = picture.copy()
    painted.paste(_colour(fill), box)
    return painted


def _moved(picture: Picture, matrix: tuple[float, ...], fill: tuple[int, int, int]) -> Picture:
    return picture.transform(picture.size, Image.Transform.AFFINE, matrix, NEAREST, fillcolor=fill)


def jitter(operation: Jitter, picture: Picture) -> Picture:
    """Brightness, contrast, saturation and hue in a random order."""
    factors = {
        ImageEnhance.Brightness: operation.brightness,
        ImageEnhance.Contrast: operation.contrast,
        ImageEnhance.Color: operation.saturation,
        None: operation.hue,
    }
    for enhance in random.sample(list(factors), len(factors)):
        strength = factors[enhance]
        if not strength:
            continue
        if enhance:
            picture = enhance(picture).enhance(random.uniform(max(0.0, 1 - strength), 1 + strength))
        else:
            hue, saturation, value = picture.convert("HSV").split()
            turned = (np.asarray(hue).astype(int) + int(random.uniform(-strength, strength) * 255)) % 256
            picture = Image.merge("HSV", (Image.fromarray(turned.astype(np.uint8)), saturation, value)).convert("RGB")
    return picture


def erase(operation: Erase, picture: Picture) -> Picture:
    """Of ten tries the first rectangle that fits."""
    width, height = picture.size
    if random.random() >= operation.p:
        return picture
    for _ in range(10):
        area = width * height * random.uniform(*operation.scale)
        ratio = math.exp(random.uniform(*map(math.log, operation.ratio)))
        tall, wide = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < tall < height and 0 < wide < width:
            top, left = random.randint(0, height - tall), random.randint(0, width - wide)
            return _painted(picture, (left, top, left + wide, top + tall), operation.fill)
    return picture


CHANGES: dict[str, Callable[[Picture, float, tuple[int, int, int]], Picture]] = {
    "shear x": lambda picture, level, fill: _moved(picture, (1, level, 0, 0, 1, 0), fill),
    "shear y": lambda picture, level, fill: _moved(picture, (1, 0, 0, level, 1, 0), fill),
    "translate x": lambda picture, level, fill: _moved(picture, (1, 0, -int(level), 0, 1, 0), fill),
    "translate y": lambda picture, level, fill: _moved(picture, (1, 0, 0, 0, 1, -int(level)), fill),
    "rotate": lambda picture, level, fill: picture.rotate(level, NEAREST, fillcolor=fill),
    "brightness": lambda picture, level, fill: ImageEnhance.Brightness(picture).enhance(1 + level),
    "colour": lambda picture, level, fill: ImageEnhance.Color(picture).enhance(1 + level),
    "contrast": lambda picture, level, fill: ImageEnhance.Contrast(picture).enhance(1 + level),
    "sharpness": lambda picture, level, fill: ImageEnhance.Sharpness(picture).enhance(1 + level),
    "posterize": lambda picture, level, fill: ImageOps.posterize(picture, int(level)),
    "solarize": lambda picture, level, fill: ImageOps.solarize(picture, int(level)),
    "autocontrast": lambda picture, level, fill: ImageOps.autocontrast(picture),
    "equalize": lambda picture, level, fill: ImageOps.equalize(picture),
    "invert": lambda picture, level, fill: ImageOps.invert(picture),
}


def auto_augment(operation: AutoAugment, picture: Picture) -> Picture:
    """One of the sub-policies."""
    width, height = picture.size
    table = levels(narrow(height, width), operation.bins)
    for name, probability, number in random.choice(SUB_POLICIES):
        if random.random() < probability:
            level = float(table[NAMES.index(name), number])
            level = -level if name in SIGNED and random.random() < 0.5 else level
            picture = CHANGES[name](picture, level, _colour(operation.fill))
    return picture


class Pictures(Dataset[tuple[Tensor, int]]):
    """Pictures with their labels, transformed when they are asked for."""

    def __init__(self, split: Split, operations: tuple[Operation, ...], preprocessing: Preprocessing) -> None:
        self.images = split.gather(torch.arange(len(split))).permute(0, 2, 3, 1).contiguous().cpu().numpy()
        self.labels = split.labels.tolist()
        self.operations = operations
        self.mean, self.std = (torch.tensor(values).view(3, 1, 1) for values in (preprocessing.mean, preprocessing.std))

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        picture = Image.fromarray(self.images[index])
        for operation in self.operations:
            picture = transform(operation, picture)
        pixels = torch.from_numpy(np.asarray(picture).transpose(2, 0, 1).copy()).float().div_(255)
        return pixels.sub_(self.mean).div_(self.std), self.labels[index]


class StandardLoop:
    """Steps of `net` in eager mode over a shuffling `DataLoader`, for ever.

    Plain is fp32 with channels first; tuned computes in `dtype` under autocast where one is given, with channels last.
    """

    def __init__(
        self,
        net: nn.Module,
        optimizers: Optimizers,
        task: Classification,
        pictures: Pictures,
        batch_size: int,
        num_workers: int,
        device: torch.device,
        tuned: bool,
        dtype: torch.dtype | None,
    ) -> None:
        self.layout = torch.channels_last if tuned else torch.contiguous_format
        self.net = net.to(device, memory_format=self.layout).train()  # type: ignore[call-overload]
        self.optimizers, self.task, self.device, self.dtype = optimizers, task, device, dtype if tuned else None
        self.loader = DataLoader(
            pictures,
            batch_size,
            shuffle=True,
            drop_last=True,
            num_workers=num_workers,
            persistent_workers=num_workers > 0,
            pin_memory=device.type == "cuda",
        )
        self.ready = 2 * num_workers
        """Batches that the workers make ahead."""
        self.stream, self.step = self._endless(), 0

    def _endless(self) -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            yield from self.loader

    def __call__(self) -> int:
        """One step; the images in it."""
        images, targets = next(self.stream)
        images = images.to(self.device, memory_format=self.layout, non_blocking=True)
        targets = targets.to(self.device, non_blocking=True)
        with torch.autocast(self.device.type, self.dtype or torch.bfloat16, enabled=self.dtype is not None):
            loss = F.cross_entropy(self.net(images).float(), targets, label_smoothing=self.task.label_smoothing)
        loss.backward()
        self.optimizers.step(self.step)
        self.step += 1
        loss.item()  # for the running mean that such loops print
        return len(targets)
