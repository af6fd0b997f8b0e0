"""The typed, complete description of a run; a field's docstring is its help.

A recipe (YAML) may leave keys out and use short forms; a `RunConfig` has every key. Words whose meaning lives in a higher
layer (an augmentation line, the name of a data set) are checked by functions that the caller passes to `validate`.
"""

from bantamnet.config.averaging import EarlyStop, Ema, Sam, Swa
from bantamnet.config.claims import Claims
from bantamnet.config.data import Data, HardExamples, Validation
from bantamnet.config.ending import Refit
from bantamnet.config.model import Model
from bantamnet.config.optim import Adam, AdamW, AnyGroup, Group, Lookahead, Muon, Sgd
from bantamnet.config.own import AnyModel, AnyOptimizer, Imported, Origin, OwnGroup, OwnModel, Used
from bantamnet.config.resizing import Smaller
from bantamnet.config.run import WEIGHT_CLASSES, Checkpointing, RunConfig
from bantamnet.config.schedule import (
    AnySegment,
    Constant,
    Cosine,
    Linear,
    Multistep,
    OneCycle,
    Plateau,
    Segment,
    Trapezoid,
    Warmup,
)
from bantamnet.config.section import Checks, Section
from bantamnet.config.tta import Tta
from bantamnet.config.whitened import Whitened

__all__ = [
    "WEIGHT_CLASSES",
    "Adam",
    "AdamW",
    "AnyGroup",
    "AnyModel",
    "AnyOptimizer",
    "AnySegment",
    "Checkpointing",
    "Checks",
    "Claims",
    "Constant",
    "Cosine",
    "Data",
    "EarlyStop",
    "Ema",
    "Group",
    "HardExamples",
    "Imported",
    "Linear",
    "Lookahead",
    "Model",
    "Multistep",
    "Muon",
    "OneCycle",
    "Origin",
    "OwnGroup",
    "OwnModel",
    "Plateau",
    "Refit",
    "RunConfig",
    "Sam",
    "Section",
    "Segment",
    "Sgd",
    "Smaller",
    "Swa",
    "Trapezoid",
    "Tta",
    "Used",
    "Validation",
    "Warmup",
    "Whitened",
]
