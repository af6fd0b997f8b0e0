"""Keys of a user's own code, and what is known of a net that was trained elsewhere."""

import re
from collections.abc import Container
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, JsonValue, Tag

from bantamnet.config.data import Data
from bantamnet.config.model import Model
from bantamnet.config.optim import AnyGroup, Group
from bantamnet.config.section import Section, word
from bantamnet.config.tta import Tta
from bantamnet.config.whitened import Whitened
from bantamnet.errors import UserError


class Used(Section):
    """A Python file that registers a user's own nets, operations, optimisers or data."""

    file: Annotated[str, Field(min_length=1)]
    """The file; in a recipe it is looked for beside the recipe first."""
    sha256: Annotated[str, Field(pattern="^([0-9a-f]{64})?$")] = ""
    """Sum of its content, filled in when it is read; another content under this sum is refused."""


class OwnModel(Section):
    """A net that the user registered: `@bantamnet.register("model", NAME)` above a class taking (num_classes, **args)."""

    name: Annotated[str, word("own model")]
    """Its registered name."""
    args: dict[str, JsonValue] = {}
    """What the class is called with, beside the number of classes."""


class OwnGroup(Group):
    """An optimiser that the user registered: `@bantamnet.register("optimizer", NAME)` above a `torch.optim.Optimizer`."""

    name: Annotated[str, word("own optimizer")]
    args: dict[str, JsonValue] = {}
    """What the class is called with, beside parameters, lr and weight_decay."""


class Origin(Section):
    """Where weights that were trained elsewhere come from."""

    file: str
    """The file they were read from."""
    sha256: str
    """Sum of its content."""
    naming: str
    """The table, or the user's file, by which its names were rewritten."""
    says: dict[str, JsonValue] = {}
    """Plain values beside the weights, as `acc` and `epoch`: what the file says of itself, measured by nobody here."""


def _kind_of_model(value: Any) -> str:
    if isinstance(value, Section):
        return type(value).__name__
    keys = value if isinstance(value, dict) else {}
    kind = OwnModel if "args" in keys and "widths" not in keys else Whitened if "groups" in keys else Model
    return kind.__name__


def _kind_of_group(value: Any) -> str:
    return OWN if isinstance(value, OwnGroup) or (isinstance(value, dict) and "args" in value) else KNOWN


KNOWN, OWN = "known", "own"
"""Tags that tell a shipped optimiser from a user's; the user never reads them."""

AnyModel = Annotated[
    Annotated[Model, Tag(Model.__name__)]
    | Annotated[Whitened, Tag(Whitened.__name__)]
    | Annotated[OwnModel, Tag(OwnModel.__name__)],
    Discriminator(_kind_of_model),
]
AnyOptimizer = Annotated[Annotated[AnyGroup, Tag(KNOWN)] | Annotated[OwnGroup, Tag(OWN)], Discriminator(_kind_of_group)]


class Imported(Section):
    """In place of a run's config: what is known of a net that was trained elsewhere, and nothing that is not."""

    schema_version: Literal[1] = Field(1, alias="schema")
    """Version of this schema."""
    name: str
    """Name of the net."""
    imported: Origin
    """Where the weights come from."""
    data: Data
    """What it is scored on: its classes are this data set's; no validation images are known."""
    model: Model
    """The net."""
    tta: Annotated[Tta, BeforeValidator(lambda value: {"views": value} if isinstance(value, str) else value)] = Tta()
    """Test-time augmentation of its own: none."""
    precision: Literal["fp32"] = "fp32"
    """What it computes in unless asked otherwise."""

    @property
    def label(self) -> str:
        """Always *imported*: what chose these weights, and on which images, is not known here."""
        return "imported"

    def dump(self) -> dict[str, Any]:
        """Every key as plain JSON values."""
        return self.model_dump(mode="json", by_alias=True)


def check_new_name(kind: str, name: object, taken: Container[str]) -> str:
    """`name` where it can be given to something of the user's; raises `UserError` for what is no name, or is taken."""
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.-]*", name):
        raise UserError(f"{name!r} is no name for {kind}; write letters, digits, _ . - as in @bantamnet.register(…, 'mine')")
    if name in taken:
        raise UserError(f"the name {name!r} is taken by {kind} that is known already; choose another")
    return name
