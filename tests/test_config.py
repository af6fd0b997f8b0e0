"""Recipes build, configs survive their file, figures get the label they deserve."""

import json
import math
from pathlib import Path

import pytest
import yaml

from bantamnet.config import RunConfig
from bantamnet.configfile import apply_set, merge, read_value, validate, write_yaml
from bantamnet.errors import UserError, unknown
from bantamnet.models.build import build_to_count
from bantamnet.models.resnet import count_parameters
from bantamnet.models.summary import check_budget
from bantamnet.optim.schedules import LearningRate
from bantamnet.runs.lookup import RECIPES, find, recipe_names, resolve
from conftest import tiny

EXPECTED = {
    "quickstart": "clean",
    "airbench94": "final",
    "speed94": "final",
    "speed95": "final",
    "speed96": "final",
    "resnet8-tiny": "clean",
    "resnet-variant": "clean",
    "resnet-variant-as-published": "as published",
    "modified-resnet": "clean",
    "modified-resnet-as-published": "as published",
    "improved-resnet": "clean",
    "improved-resnet-as-published": "final",
    "resnet-small-initial": "clean",
    "resnet-small-initial-as-published": "as published",
    "resnet-small": "clean",
    "resnet-small-as-published": "as published",
    "dreamfire": "clean",
    "dreamfire-as-published": "as published",
}


def test_the_recipes_are_these() -> None:
    assert recipe_names() == sorted(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_a_recipe_builds_within_its_budget_and_survives_yaml(name: str) -> None:
    config = resolve(name)
    assert config.name == name and config.label == EXPECTED[name] and config.about
    check_budget(build_to_count(config.model, 10), config.max_parameters)
    assert validate(yaml.safe_load(write_yaml(config.dump()))) == config
    assert validate(json.loads(json.dumps(config.dump()))) == config
    assert (RECIPES / f"{name}.yaml").read_text().startswith(f"# {name}: ")
    if name.endswith("-as-published"):
        assert config.claims and config.claims.notes and config.assumed
        assert bool(config.claims.milestones) == (name != "improved-resnet-as-published"), "C shows no curve"
        assert config.claims.parameters == count_parameters(build_to_count(config.model, 10))


def test_the_twins_repeat_the_published_choices() -> None:
    a, b = resolve("resnet-variant-as-published"), resolve("modified-resnet-as-published")
    assert (
        a.epochs == 300 and a.optim[0].schedule[0].epochs == 200 and a.data.val.augment and a.data.std == (0.2023, 0.1994, 0.2010)
    )
    assert (a.optim[0].name, a.optim[0].lr, a.optim[0].weight_decay, a.optim[0].decay_norm_bias) == ("sgd", 0.1, 5e-4, True)
    assert b.epochs == 50 and b.data.val.source == "test" and b.select == "last" and b.data.mean == (0.5, 0.5, 0.5)
    assert (b.optim[0].name, b.optim[0].lr, b.optim[0].weight_decay) == ("adam", 1e-3, 1e-4)
    assert b.optim[0].schedule[0].name == "plateau" and b.optim[0].schedule[0].patience == 5
    assert b.data.augment == "crop(4)|hflip|jitter(0.3,0.3,0.3,0.1)|rotate(20)|translate(0.1)"
    c, d, e = (resolve(f"{name}-as-published") for name in ("improved-resnet", "resnet-small", "dreamfire"))
    group = c.optim[0]
    assert (group.name, group.lr, group.weight_decay, c.epochs, c.label_smoothing) == ("sgd", 0.05, 1e-4, 400, 0.1)
    assert group.lookahead and (group.lookahead.k, group.lookahead.alpha) == (5, 0.5)
    first = resolve("resnet-small-initial-as-published")
    assert (first.optim[0].lr, first.optim[0].schedule[0].at, first.epochs) == (0.1, [50, 75], 100)
    assert (d.optim[0].lr, d.optim[0].schedule[0].name, d.epochs, d.data.mix) == (0.01, "cosine", 200, "cutmix(1.0, p=0.5)")
    assert (e.optim[0].name, e.optim[0].lr, e.optim[0].weight_decay, e.epochs) == ("adamw", 0.01, 1e-3, 50)
    assert all(twin.select == "best-test" for twin in (first, d, e)) and c.select == "last"


def test_the_published_fault_of_dreamfires_schedule_is_repeated_and_put_right() -> None:
    """Warm-up, then a cosine of the whole length: the twin's rate never reaches its minimum, the clean one's comes near."""
    published, clean = (LearningRate(resolve(name).optim[0], 1, 50) for name in ("dreamfire-as-published", "dreamfire"))
    assert published.at(49) == pytest.approx(1e-5 + (0.01 - 1e-5) * (1 + math.cos(math.pi * 44 / 50)) / 2)
    assert published.at(49) > 10 * clean.at(49)
    assert [published.at(epoch) for epoch in range(6)] == pytest.approx([0.002, 0.0036, 0.0052, 0.0068, 0.0084, 0.01])


@pytest.mark.parametrize(
    ("sets", "label"),
    [
        (["select=best-val"], "clean"),
        (["select=last"], "clean"),
        (["data.val.source=none", "select=last"], "final"),
        (["data.val.source=test", "select=last"], "final"),
        (["data.val.source=test", "select=best-test"], "as published"),
        (["data.val.source=test", "select=last", "optim.schedule=plateau"], "as published"),
        (["data.val.augment=true", "select=best-val"], "as published"),
        (["data.val.augment=true", "select=last"], "clean"),
    ],
)
def test_labels(sets: list[str], label: str) -> None:
    assert tiny(*sets).label == label


def test_a_plateau_comes_last() -> None:
    with pytest.raises(UserError, match="plateau can only be the last segment"):
        tiny("optim.schedule=[{name: plateau, epochs: 1}, cosine]")


def test_a_label_cannot_be_set() -> None:
    with pytest.raises(UserError, match="unknown key 'label'"):
        tiny("label=clean")


def test_a_recipe_of_ones_own_may_build_on_another(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("base: quickstart\nname: base\nepochs: 7\n")
    (tmp_path / "mine.yaml").write_text("base: base\nname: mine\noptim: {lr: 0.3}\n")
    config = resolve(str(tmp_path / "mine.yaml"))
    assert (config.name, config.epochs, config.optim[0].lr, config.optim[0].name) == ("mine", 7, 0.3, "sgd")


def test_sets_reach_into_lists_and_change_kinds() -> None:
    config = resolve("quickstart", ["optim.schedule.0.epochs=4", "optim.name=adamw", "data.val.count=100"])
    group = config.optim[0]
    assert (group.name, group.lr, group.schedule[0].epochs) == ("adamw", 0.1, 4) and not hasattr(group, "momentum")
    renamed = resolve("quickstart", ["model.name=resnet8"]).model
    assert renamed == resolve("resnet8-tiny").model
    two = "optim=[{match: '@norm-bias', name: sgd, lr: 0.2}, {name: adam, lr: 0.001}]"
    changed = resolve("quickstart", [two, "optim.1.lr=0.5"])
    assert [g.lr for g in changed.optim] == [0.2, 0.5]
    assert apply_set({"a": 1}, "b.c=[1, x]") == {"a": 1, "b": {"c": [1, "x"]}}
    assert merge({"a": {"b": [1, 2], "c": 3}}, {"a": {"b": [4]}}) == {"a": {"b": [4], "c": 3}}


def test_the_order_of_sets_does_not_lose_any(tmp_path: Path) -> None:
    """A new name clears away keys of the old one, wherever it stands, but nothing that is set beside it."""
    model, count = resolve("resnet8-tiny", ["model.blocks=[5,5,5]", "model.name=resnet20"]).model, "data.val.count=20"
    assert model == resolve("resnet8-tiny", ["model.name=resnet20", "model.blocks=[5,5,5]"]).model
    assert resolve("resnet8-tiny", [count, f"data.name={tmp_path}"]).data.val.count == 20
    assert resolve("quickstart", ["model.name=resnet8", "model.stem_width=8", "model.name=resnet20"]).model.name == "resnet20"
    two = "optim=[{match: '@norm-bias', name: sgd, lr: 0.2}, {name: sgd, lr: 0.1}]"
    for sets in (["optim.lr=7", two, "optim.1.name=adam"], [two, "optim.1.eps=1e-3", "optim.1.name=adam"]):
        assert [group.name for group in resolve("quickstart", sets).optim] == ["sgd", "adam"]


def test_numbers_with_an_exponent_are_numbers_wherever_they_stand() -> None:
    for text in ("1e-8", "1E+3", "-2e5", "3.e-4"):
        found = apply_set({}, f"optim.args.eps={text}")["optim"]["args"]["eps"]
        assert isinstance(found, float) and found == float(text)
    assert apply_set({}, "data.name='1e5'") == {"data": {"name": "1e5"}}
    assert yaml.load(write_yaml({"a": "1e5", "b": 1e-8}), yaml.SafeLoader) == {"a": "1e5", "b": 1e-8}
    assert read_value(write_yaml({"a": "1e5", "b": 1e-8})) == {"a": "1e5", "b": 1e-8}


@pytest.mark.parametrize(("short", "key", "other"), [("ema", "decay", "buffers=average"), ("sam", "rho", "adaptive=true")])
def test_a_number_that_stands_for_a_section_takes_more_keys(short: str, key: str, other: str) -> None:
    section = getattr(resolve("quickstart", [f"{short}=0.5", f"{short}.{other}"]), short)
    assert getattr(section, key) == 0.5 and str(getattr(section, other.partition("=")[0])).lower() == other.partition("=")[2]


def test_names_are_looked_up_as_path_then_recipe_then_net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find("resnet-variant").kind == "recipe" and find("resnet20").kind == "net"
    Path("quickstart").mkdir()
    assert find("quickstart").kind == "recipe"
    Path("quickstart/config.yaml").write_text("")
    assert find("quickstart").kind == "run"
    Path("resnet20").write_bytes(b"")
    assert find("resnet20").kind == "model file"


def test_every_key_has_help() -> None:
    def sections(kind: type) -> set[type]:
        found = {kind}
        for child in kind.__subclasses__():
            found |= sections(child)
        return found

    from bantamnet.config import Section

    for section in sections(Section) - {Section}:
        for name, field in section.model_fields.items():  # type: ignore[attr-defined]
            assert field.description or name == "name", f"{section.__name__}.{name}"
    assert issubclass(RunConfig, Section)


def test_nearest_names() -> None:
    assert unknown("thing", "appel", ["apple", "pear"]) == "unknown thing 'appel'; did you mean 'apple'? (valid: apple, pear)"
    assert "did you mean" not in unknown("thing", "zzz", ["apple"])
