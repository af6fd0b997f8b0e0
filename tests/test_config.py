"""Recipes build, configs survive their file, figures get the label they deserve."""

import json
from pathlib import Path

import pytest
import yaml

from bantamnet.config import RunConfig
from bantamnet.configfile import apply_set, merge, validate, write_yaml
from bantamnet.errors import UserError, unknown
from bantamnet.models.resnet import build_on_meta
from bantamnet.models.summary import check_budget
from bantamnet.runs.lookup import RECIPES, find, recipe_names, resolve
from conftest import tiny

EXPECTED = {
    "quickstart": "clean",
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
    check_budget(build_on_meta(config.model, 10), config.max_parameters)
    assert validate(yaml.safe_load(write_yaml(config.dump()))) == config
    assert validate(json.loads(json.dumps(config.dump()))) == config
    assert (RECIPES / f"{name}.yaml").read_text().startswith(f"# {name}: ")
    if name.endswith("-as-published"):
        assert config.claims and config.claims.notes and config.claims.milestones and config.claims.parameters == 2_777_674
        assert config.assumed


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
