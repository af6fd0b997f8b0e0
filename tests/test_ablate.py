"""`ablate`: every cell is checked before the first one trains, whatever ends the process the same command goes on, and the table
says what the run directories say."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from bantamnet.errors import UserError
from bantamnet.report.ablate import ablate
from bantamnet.report.ablation import markdown
from bantamnet.runs.ablation import ablation_names, cells, find_ablation, read_vary
from bantamnet.runs.directory import RunDirectory
from bantamnet.runs.group import group_runs
from bantamnet.runs.lookup import resolve
from bantamnet.training import seeds as training
from bantamnet.training.precheck import check_before_data
from bantamnet.training.train import Options, train
from conftest import invoke
from test_groups import small, stamps, write_recipe

GRID = ["optim.lr=0.2,0.001", "tta=none,shift(1,1)"]


@pytest.mark.parametrize(
    ("text", "key", "values"),
    [
        ("optim.name=sgd,adamw", "optim.name", ["sgd", "adamw"]),
        ("model.blocks=[2,2,2],[3,3,3]", "model.blocks", [[2, 2, 2], [3, 3, 3]]),
        ('data.mix="",cutmix(1.0, p=0.5), mixup(0.2)', "data.mix", ["", "cutmix(1.0, p=0.5)", "mixup(0.2)"]),
        ("ema=null, 0.99", "ema", [None, 0.99]),
        (
            "optim={name: sgd, lr: 0.1},{name: adamw, lr: 0.001}",
            "optim",
            [{"name": "sgd", "lr": 0.1}, {"name": "adamw", "lr": 0.001}],
        ),
        ("data.name='a,b',c", "data.name", ["a,b", "c"]),
        ("drop_last=true,false", "drop_last", [True, False]),
    ],
)
def test_values_are_yaml_cut_at_commas(text: str, key: str, values: list[Any]) -> None:
    assert read_vary(text) == (key, values)


@pytest.mark.parametrize(
    ("vary", "message"),
    [
        ([], "say what to vary"),
        (["optim.lr"], "takes KEY=V1,V2"),
        (["optim.lr=0.1"], "two values or more"),
        (["optim.lr=0.1,"], "a value is empty"),
        (["optim.lr=0.1,0.1"], "given twice"),
        (["optim.lr=0.1,0.2", "optim.lr=0.3,0.4"], "given twice; list all its values"),
        (["optim.lr=0.1,'1e-1'"], "the same run as"),
        (["seed=0,1"], "--seeds N trains several"),
        (["optim.lr=[1,2"], "not a YAML value|two values or more"),
    ],
)
def test_mistakes_of_the_command_are_told(vary: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        cells(*find_ablation("quickstart", vary))


def test_every_cell_is_checked_before_the_first_one_trains(tmp_path: Path) -> None:
    """A typing error, an unknown word, a net over its budget, a batch that cannot be: all told at once, nothing written."""
    out = tmp_path / "out"
    with pytest.raises(UserError) as told:
        ablate("quickstart", ["optim.name=sgd,sdg", "epochs=1,-1"], 2, [], out, [], Options())
    assert "optim.name=sdg, epochs=1: " in str(told.value) and "optim.name=sgd, epochs=-1: " in str(told.value)
    grid = ["model.widths=[16,32,56],[160,320,560]", "batch_size=64,2000"]
    with pytest.raises(UserError) as told:
        ablate("quickstart", grid, 2, ["drop_last=true"], out, [], Options())
    mistakes = str(told.value)
    for cell in ("[160,320,560], batch_size=64: ", "[160,320,560], batch_size=2000: ", "[16,32,56], batch_size=2000: "):
        assert f"model.widths={cell}" in mistakes
    assert "model.widths=[16,32,56], batch_size=64" not in mistakes and not out.exists()
    with pytest.raises(UserError, match=r"precision=fp32-winograd: .*torch.compile"):
        ablate("quickstart", ["precision=fp32,fp32-winograd"], 1, ["compile=default"], out, [], Options())
    assert not out.exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="is no ablation; choose another --out"):
        ablate("quickstart", GRID, 1, [], tmp_path / "mine", [], Options())


@pytest.mark.parametrize("name", ablation_names())
def test_shipped_ablations_can_be_trained_and_hold_their_recipe(name: str) -> None:
    grid = cells(*find_ablation(name, []))
    assert len({cell.folder for cell in grid}) == len(grid) >= 4
    for cell in grid:
        check_before_data(cell.config)
        assert cell.config.label == "clean"
    recipe = resolve(find_ablation(name, [])[0].recipe)
    assert recipe in [cell.config for cell in grid], "one cell is the recipe as it stands"
    with pytest.raises(UserError, match="says itself what varies"):
        find_ablation(name, ["optim.lr=1,2"])


def test_a_file_of_ones_own_finds_the_recipe_beside_it(tmp_path: Path) -> None:
    write_recipe(tmp_path)
    file = tmp_path / "mine.yaml"
    file.write_text("recipe: small.yaml\nset: {epochs: 1}\nvary:\n  optim.lr: {slow: 0.01, fast: 0.1}\nseeds: 2\n")
    grid = cells(*find_ablation(str(file), []), ["batch_size=300"])
    assert [(cell.name, cell.folder, cell.config.optim[0].lr) for cell in grid] == [
        ("optim.lr=slow", "optim.lr-slow", 0.01),
        ("optim.lr=fast", "optim.lr-fast", 0.1),
    ]
    assert {(cell.config.epochs, cell.config.batch_size) for cell in grid} == {(1, 300)}
    file.write_text("recipe: small.yaml\nvary: {}\nseed: 2\n")
    with pytest.raises(UserError, match=r"(?s)vary: .*seed: Extra inputs"):
        find_ablation(str(file), [])


def test_a_grid_that_was_stopped_goes_on_and_its_table_holds_what_the_runs_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, out = str(write_recipe(tmp_path)), tmp_path / "out"
    trained: list[Path] = []
    really = training.train

    def dying(config: Any, path: Path, options: Options) -> RunDirectory:
        if len(trained) == 2:
            raise KeyboardInterrupt  # as if the process were killed here
        trained.append(path)
        return really(config, path, options)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(training, "train", dying)
        ablate(recipe, GRID, 3, [], out, [], Options())
    assert [path.name for path in trained] == ["seed-0", "seed-0"], "the first seed of every cell comes first"
    partial = json.loads((out / "ablation.json").read_text())
    assert [row["states"].get("finished", 0) for row in partial["cells"]] == [1, 1, 1, 1]
    before = {name: stamp for name, stamp in stamps(out).items() if "seed-0" in name}
    assert len(before) > 40

    command = ["ablate", recipe, *(word for text in GRID for word in ("--vary", text)), "--seeds", "3", "--out", str(out)]
    code, text, _ = invoke(command, monkeypatch, capsys)
    assert code == 0 and "4 cells × 3 seeds = 12 runs" in text and "run 4 of 12" in text
    assert {name: stamp for name, stamp in stamps(out).items() if "seed-0" in name} == before, "finished runs are untouched"
    facts = json.loads((out / "ablation.json").read_text())
    assert [row["cell"] for row in facts["cells"]] == [
        f"optim.lr={lr}, tta={tta}" for lr in (0.2, 0.001) for tta in ("none", "shift(1,1)")
    ]
    for row in facts["cells"]:
        runs = group_runs(out / row["folder"])
        accuracies = [summary["figures"]["test"]["accuracy"] for run in runs if (summary := run.summary())]
        assert row["states"] == {"finished": 3} and row["accuracies"] == pytest.approx(accuracies)
        assert row["mean"] == pytest.approx(sum(accuracies) / 3)
        assert row["std"] == pytest.approx(torch.tensor(accuracies, dtype=torch.float64).std().item())
    verdicts = [row["against_base"] for row in facts["cells"]]
    assert verdicts[0] is None and [v["test"] for v in verdicts[1:]] == ["paired t", "welch", "welch"]
    assert {verdict["first"] for verdict in verdicts[1:]} == {"the base"}
    written = (out / "ablation.md").read_text()
    assert written == markdown(facts) and written.count("\n| ") == 6 and all(row["cell"] in text for row in facts["cells"])
    with Image.open(out / "ablation.png") as picture:
        assert picture.width > 600 and len(set(picture.convert("L").tobytes())) > 20

    code, text, _ = invoke([*command, "--json"], monkeypatch, capsys)
    assert code == 0 and json.loads(text)["cells"] == facts["cells"]
    code, _, err = invoke([*command, "--set", "epochs=9"], monkeypatch, capsys)
    assert code == 2 and err.count("was begun with epochs=2, and this would train epochs=9") == 4


def test_a_cell_that_differs_in_views_takes_over_the_training_and_ends_as_if_it_had_trained(tmp_path: Path) -> None:
    recipe = str(write_recipe(tmp_path, "ema=null"))
    ablate(recipe, ["tta=none,shift(1,1)"], 1, [], tmp_path / "out", [], Options())
    twin, cell = (RunDirectory(tmp_path / "out" / name / "seed-0") for name in ("tta-none", "tta-shift-1-1"))
    alone = train(small("ema=null", "tta=shift(1,1)"), tmp_path / "alone")
    for split in ("val", "test"):
        assert torch.equal(cell.predictions(split)["logits"], alone.predictions(split)["logits"])
        assert not torch.equal(cell.predictions(split)["logits"], twin.predictions(split)["logits"])
    ours, theirs, twins = (run.summary() or {} for run in (cell, alone, twin))
    assert ours["weights_digest"] == theirs["weights_digest"] == twins["weights_digest"]
    assert (
        ours["figures"] == theirs["figures"]
        and ours["steps"] == theirs["steps"]
        and ours["seconds"] == pytest.approx(twins["seconds"], abs=0.5)
    )
    assert [line["why"] for line in map(json.loads, cell.evaluations.read_text().splitlines())] == ["final"]
    assert {path.name for path in cell.path.iterdir()} == {path.name for path in twin.path.iterdir()}


def test_a_diverged_cell_has_no_figures_and_the_others_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = str(write_recipe(tmp_path, "ema=null", "epochs=1"))
    facts = ablate(recipe, ["optim.lr=0.2,1e30"], 2, [], tmp_path / "out", [], Options())
    assert facts["cells"][1]["states"] == {"diverged": 2} and facts["cells"][1]["mean"] is None
    assert facts["cells"][0]["mean"] is not None and "2 diverged" in (tmp_path / "out" / "ablation.md").read_text()
    asked = ["ablate", recipe, "--vary", "optim.lr=0.2,1e30", "--seeds", "2", "--out", str(tmp_path / "out")]
    assert invoke(asked, monkeypatch, capsys)[0] == 3, "as of a run that diverged"
    facts = ablate(recipe, ["optim.lr=1e30,0.2"], 2, [], tmp_path / "turned", [], Options())
    assert facts["cells"][1]["against_base"] is None and any("nothing is compared" in note for note in facts["notes"])


def test_the_list_and_a_name_that_is_none(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = invoke(["ablate", "--list"], monkeypatch, capsys)
    assert code == 0 and all(name in out for name in ablation_names())
    code, out, _ = invoke(["ablate", "--list", "--json"], monkeypatch, capsys)
    listed = {row["name"]: row for row in json.loads(out)["ablations"]}
    assert set(listed) == set(ablation_names()) and listed["dreamfire-optimizer"]["runs"] == 12
    for arguments, message in ((["ablate"], "shipped ablation"), (["ablate", "dreamfire-optimiser"], "dreamfire-optimizer")):
        code, _, err = invoke(arguments, monkeypatch, capsys)
        assert code == 2 and message in err
