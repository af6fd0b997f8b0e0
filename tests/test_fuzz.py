"""Whatever a config holds, it is a run or a list of sentences, never another error."""

import copy
import string
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from bantamnet.config import RunConfig
from bantamnet.configfile import ConfigError, apply_set, validate
from bantamnet.data import augment, mixing, views
from bantamnet.errors import UserError
from bantamnet.runs.lookup import CHECKS, complete, resolve

SOUND = resolve("quickstart").dump()
PLAIN = some.one_of(
    some.none(), some.booleans(), some.integers(-(2**70), 2**70), some.floats(), some.text(max_size=12),
    some.sampled_from(["resnet8", "wrn-16-4", "wrn-17-4", "sgd", "muon", "cosine", "digits", "crop(4)", "hflip|", "./nowhere"]),
)  # fmt: skip
VALUES = some.recursive(
    PLAIN,
    lambda inner: some.lists(inner, max_size=3) | some.dictionaries(some.sampled_from(["name", "lr", "k", "epochs", "x"]), inner),
    max_leaves=6,
)


def paths(tree: Any, above: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Every key of a config, by its way from the top."""
    found = []
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ():
        found += [(*above, str(key)), *paths(value, (*above, str(key)))]
    return found


def sound_or_told(tree: dict[str, Any]) -> None:
    try:
        config = validate(complete(tree), "fuzzed", CHECKS)
    except ConfigError as error:
        assert error.args and str(error).startswith("fuzzed")
    except UserError as error:
        assert str(error)
    else:
        assert isinstance(config, RunConfig) and validate(config.dump(), "again") == config


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(path=some.sampled_from(paths(SOUND)), value=VALUES)
def test_any_value_at_any_key(path: tuple[str, ...], value: Any) -> None:
    tree = copy.deepcopy(SOUND)
    place: Any = tree
    for key in path[:-1]:
        place = place[int(key) if isinstance(place, list) else key]
    place[int(path[-1]) if isinstance(place, list) else path[-1]] = value
    sound_or_told(tree)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(some.dictionaries(some.sampled_from([*SOUND, "optin", ""]), VALUES, max_size=5))
def test_any_tree(changes: dict[str, Any]) -> None:
    sound_or_told({**SOUND, **changes})


@settings(max_examples=300, deadline=None)
@given(some.text(alphabet=string.ascii_lowercase + string.digits + "._=-[]{}:,'\" ", max_size=30))
def test_any_assignment(text: str) -> None:
    try:
        tree = apply_set(SOUND, text)
    except UserError as error:
        assert str(error)
    else:
        sound_or_told(tree)


WORDS = some.sampled_from(
    ["crop", "hflip", "rotate", "erase", "cutmix", "mixup", "none", "shift", "(", ")", "|", "+", "*", ",", "4", "0.5", "-1", "=",
     "fill", "mean", "'", "p", "[", "(0.1,1.5)", " ", "é", "\n", "1e999", "lambda", "__import__('os')"]
)  # fmt: skip


@pytest.mark.parametrize("read", [augment.parse, mixing.parse, views.read_views])
def test_any_line(read: Any) -> None:
    @settings(max_examples=300, deadline=None)
    @given(some.lists(WORDS, max_size=8).map("".join))
    def check(line: str) -> None:
        try:
            read(line)
        except UserError as error:
            assert str(error)

    check()
