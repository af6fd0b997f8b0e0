"""The vocabulary of augmentation lines: what each word stands for."""

from bantamnet.data.colour import AutoContrast, Equalize, Grey, Invert, Jitter, Posterize, Solarize
from bantamnet.data.filters import Blur, Sharpness
from bantamnet.data.geometry import AlternatingFlip, CentreCrop, Crop, HFlip, Rotate, Shift, Translate, VFlip
from bantamnet.data.operation import Operation, Parameters
from bantamnet.data.painting import Cutout, Erase
from bantamnet.data.policies import AutoAugment, RandAugment, TrivialAugment

__all__ = [
    "OPERATIONS",
    "AlternatingFlip",
    "AutoAugment",
    "AutoContrast",
    "Blur",
    "CentreCrop",
    "Crop",
    "Cutout",
    "Equalize",
    "Erase",
    "Grey",
    "HFlip",
    "Invert",
    "Jitter",
    "Operation",
    "Parameters",
    "Posterize",
    "RandAugment",
    "Rotate",
    "Sharpness",
    "Shift",
    "Solarize",
    "Translate",
    "TrivialAugment",
    "VFlip",
]

OPERATIONS: dict[str, type[Operation]] = {
    "crop": Crop,
    "centre_crop": CentreCrop,
    "shift": Shift,
    "translate": Translate,
    "hflip": HFlip,
    "vflip": VFlip,
    "alternating_flip": AlternatingFlip,
    "rotate": Rotate,
    "jitter": Jitter,
    "grey": Grey,
    "invert": Invert,
    "solarize": Solarize,
    "posterize": Posterize,
    "autocontrast": AutoContrast,
    "equalize": Equalize,
    "sharpness": Sharpness,
    "blur": Blur,
    "erase": Erase,
    "cutout": Cutout,
    "autoaugment": AutoAugment,
    "randaugment": RandAugment,
    "trivialaugment": TrivialAugment,
}
