"""Wrong invocations: told what is wrong and how to put it right, exit code 2, nothing touched."""

import hashlib
from pathlib import Path

import pytest

import bantamnet
from conftest import invoke, tiny

# (arguments, words that the message must hold); @run is a finished run, @model its model file
WRONG: list[tuple[str, list[str]]] = [
    ("train", ["recipe", "--resume", "bantamnet recipes"]),
    ("train qickstart", ["unknown name 'qickstart'", "did you mean 'quickstart'", "resnet8-tiny"]),
    ("train nowhere/mine.yaml", ["nowhere/mine.yaml", "no such file"]),
    ("train resnet20", ["resnet20 is a net, not a recipe", "quickstart"]),
    ("train @run", ["is a run, not a recipe"]),
    ("train broken.yaml", ["broken.yaml is not valid YAML"]),
    ("train list.yaml", ["list.yaml must hold keys and values", "not list"]),
    ("train empty.yaml", ["must hold keys and values"]),
    ("train binary.yaml", ["binary.yaml"]),
    ("train loop.yaml", ["loop.yaml: base: unknown recipe 'loop'"]),
    ("train ping.yaml", ["base must name another recipe, got 'p"]),
    ("train lost.yaml", ["base: unknown recipe 'resnet-varient'", "did you mean 'resnet-variant'"]),
    ("train old.yaml", ["schema: unknown value '7'", "valid: 1"]),
    ("train quickstart --set optim.lr", ["--set takes KEY=VALUE", "optim.lr"]),
    ("train quickstart --set optim.lr=[", ["--set optim.lr", "not a YAML value"]),
    ("train quickstart --set optim.lr=fast", ["optim.lr: input should be a valid number", "'fast'"]),
    ("train quickstart --set optim.lr=-1", ["optim.lr: input should be greater than or equal to 0"]),
    ("train quickstart --set optim.lr=.nan", ["optim.lr", "finite"]),
    ("train quickstart --set optm.lr=1", ["unknown key 'optm'", "did you mean 'optim'"]),
    ("train quickstart --set optim.momentm=1", ["optim: unknown key 'momentm'", "did you mean 'momentum'", "weight_decay"]),
    ("train quickstart --set optim.name=sdg", ["optim: unknown name 'sdg'", "did you mean 'sgd'", "adamw"]),
    ("train quickstart --set optim.betas=[0.9,0.99]", ["optim: unknown key 'betas'"]),
    ("train quickstart --set optim.schedule=cosin", ["optim.schedule: unknown name 'cosin'", "did you mean 'cosine'"]),
    ("train quickstart --set optim.schedule=[cosine,cosine]", ["only the last segment may follow"]),
    ("train quickstart --set optim.schedule.5.epochs=1", ["list of 2", "schedule.0."]),
    ("train quickstart --set optim.match=nothing", ["no group matches", "match: '*'"]),
    ("train quickstart --set optim.name=muon", ["optim.0.match: '*' gives muon stem", "set match: '@weights'"]),
    ("train quickstart --set optim.name=moun", ["optim: unknown name 'moun'", "did you mean 'muon'"]),
    (
        "train quickstart --set optim.name=muon --set optim.normalize_weights=true",
        ["optim: normalize_weights undoes weight_decay", "weight_decay=0"],
    ),
    (
        "train quickstart --set optim.name=muon --set optim.scale=orginal",
        ["optim.scale: unknown value 'orginal'"],
    ),
    ("train quickstart --set optim.name=muon --set optim.ns_steps=0", ["optim.ns_steps: input should be greater than 0"]),
    ("train quickstart --set optim.lookahead.k=0", ["optim.lookahead.k: input should be greater than 0"]),
    ("train quickstart --set optim.lookahead.alpa=1", ["optim.lookahead: unknown key 'alpa'", "did you mean 'alpha'"]),
    ("train quickstart --set optim.lookahead=5", ["optim.lookahead: takes keys and values", "got 5"]),
    ("train quickstart --set sam.rho=-1", ["sam.rho: input should be greater than 0"]),
    ("train quickstart --set sam=-0.05", ["sam: input should be greater than 0"]),
    ("train quickstart --set clip_norm=0", ["clip_norm: input should be greater than 0"]),
    ("train quickstart --set ema=1.5", ["ema: input should be less than 1", "1.5"]),
    ("train speed94 --set ema.buffers=average", ["ema.decay: missing"]),
    (
        'train quickstart --set ema={"decay":0.9,"buffers":"averge"}',
        ["ema.buffers: unknown value 'averge'", "did you mean 'average'"],
    ),
    ("train quickstart --set swa.start=1", ["swa.start: input should be less than 1"]),
    ("train quickstart --set swa.start=0.5", ["ema and swa are two averages", "set ema=null or swa=null"]),
    ("train quickstart --set early_stop.min_delta=0.1", ["early_stop.patience: missing"]),
    ("train quickstart --set early_stop.patience=0", ["early_stop.patience: input should be greater than 0"]),
    (
        "train quickstart --set early_stop.patience=3 --set data.val.source=none",
        ["early_stop watches validation accuracy", "data.val.source=train"],
    ),
    ("train quickstart --set optim.schedule=lienar", ["optim.schedule: unknown name 'lienar'", "did you mean 'linear'"]),
    ("train quickstart --set optim.schedule=[one-cycle,linear]", ["only the last segment may follow"]),
    (
        'train quickstart --set optim.schedule={"name":"trapezoid","warmup":0.6,"cooldown":0.6}',
        ["optim.schedule", "warmup 0.6 and cooldown 0.6 are shares of one length"],
    ),
    (
        'train quickstart --set optim.schedule={"name":"one-cycle","three_phase":true,"pct_start":0.7}',
        ["optim.schedule", "pct_start 0.7 is spent twice"],
    ),
    ("train quickstart --set data=3", ["data: takes keys and values", "got 3"]),
    ("train quickstart --set model=null", ["model: takes keys and values"]),
    ("train quickstart --set optim=sgd", ["optim: input should be a valid list", "'sgd'"]),
    ("train quickstart --set optim=[]", ["optim needs at least one group"]),
    ("train quickstart --set model.name=[1]", ["model.name: input should be a valid string"]),
    ("train quickstart --set data.name={a:1}", ["data.name: input should be a valid string"]),
    ("train quickstart --set budget=[1]", ["budget: takes a weight class"]),
    ("train quickstart --set model.widths=[99999999999,1,1]", ["model.widths.0: input should be less than or equal to"]),
    ("train quickstart --set data.augment=jitter(1e400)", ["data.augment: jitter", "finite"]),
    ("train quickstart --set about=2020-99-99", ["--set about", "not a YAML value"]),
    ("evaluate here", ["here: no run directory or model file"]),
    ("summary " + "x" * 300, ["too long for a name"]),
    ("train quickstart --set data.augment=crp(4)", ["data.augment: unknown operation 'crp'", "did you mean 'crop'"]),
    ("train quickstart --set data.augment=crop(size=4)", ["unknown argument 'size'", "fill, pad"]),
    ("train quickstart --set data.augment=crop(0)", ["crop(0): pad: input should be greater than 0"]),
    ("train quickstart --set data.augment=crop(4", ["cannot read 'crop(4'", "crop(4)|hflip"]),
    ("train quickstart --set data.augment=import(os)", ["cannot read 'import(os)'"]),
    ("train quickstart --set data.name=digit", ["data.name: unknown data set 'digit'", "did you mean 'digits'"]),
    ("train quickstart --set data.val.count=99999", ["data.val.count: 99999 of 1437", "1 to 1436"]),
    ("train quickstart --set data.val.source=tset", ["data.val.source: unknown value 'tset'", "did you mean 'test'"]),
    (
        "train quickstart --set select=best-val --set data.val.source=none",
        ["select: best-val needs validation images", "select=last"],
    ),
    ("train quickstart --set select=best-val --set data.val.source=test", ["select: best-test"]),
    ("train quickstart --set select=best-test", ["select: best-test needs data.val.source=test"]),
    ("train quickstart --set data.std=[1,1,0]", ["data.std.2: input should be greater than 0"]),
    ("train quickstart --set model.blocks=[1,1]", ["model: blocks has 2 entries and widths 3"]),
    ("train quickstart --set model.blocks=[0,0,0]", ["at least one stage with a block"]),
    ("train quickstart --set model.block=bottlenek", ["unknown value 'bottlenek'", "did you mean 'bottleneck'"]),
    ("train quickstart --set model.name=resnet19", ["model.name: unknown net 'resnet19'", "did you mean 'resnet"]),
    ("train quickstart --set model.inner=[[[1]],[[1]],[[1,2]]]", ["inner[2] must hold 1 lists of 1"]),
    ("train quickstart --set model.widths=[64,128,256]", ["over the budget of 78,186", "costliest layers: stages.2", "budget"]),
    ("train quickstart --set budget=flyy", ["budget: takes a weight class (fly, bantam, feather, light)", "'flyy'"]),
    ("train quickstart --set epochs=0 --set sede=1", ["epochs: input should be greater than 0", "did you mean 'seed'"]),
    ("train quickstart --epochs many", ["--epochs"]),
    ("train quickstart --set drop_last=true --set batch_size=5000", ["5000 is more than the 1293 training images"]),
    ("train quickstart --set init=gone.safetensors", ["gone.safetensors: no such file"]),
    ("train quickstart --set init=@model", ["is another net than", "differ"]),
    ("train quickstart --device cuda", ["cuda was asked for", "device: auto"]),
    ("train quickstart --out @run", ["exists already", "--resume"]),
    ("train resnet8-tiny --data-dir here", ["cifar10 was not found", "cifar-10-batches-bin", "BANTAMNET_DATA", "digits"]),
    ("train resnet8-tiny --data-dir gone", ["--data-dir gone: no such folder", "bantamnet fetch cifar10 --data-dir gone"]),
    ("train airbench94 --set model.group=[8]", ["model: unknown key 'group'", "did you mean 'groups'"]),
    ("train airbench94 --set model.widths=[8]", ["model: unknown key 'widths'"]),
    ("train resnet8-tiny --data-dir cut", ["data_batch_1.bin", "no whole number of 3073-byte records"]),
    ("train resnet8-tiny --data-dir changed", ["these are not cifar10's train images", "fetch them again"]),
    ("train --resume @run", ["is finished", "bantamnet evaluate"]),
    ("train --resume @run --epochs 3", ["--resume goes on with the run's own config"]),
    ("train --resume here", ["here is no run directory"]),
    ("train --refit @run --use mine.py", ["--refit takes the run's recipe as it is"]),
    ("train quickstart --set data.test.share=0.5", ["test is for folders of pictures; digits has test images of its own"]),
    ("train quickstart --set model.activation=leaky_relu --set model.slope=-0.2", ["model.slope: input should be greater"]),
    ("summary airbench94 --set model.groups=[64,64,64,64,64]", ["pictures of 32 × 32 are too small for airbench94"]),
    ("summary @run --size 64", ["--size: ", "the size that it was trained at"]),
    ("evaluate @run --tta-average probabilities", ["--tta-average says how views are averaged", "--tta hflip"]),
    ("import w.pth --as quickstart --out new --set epochs=7", ["--set epochs=7", "only model.… keys can be set"]),
    ("import w.pth --as resnet20 --out new --size 64", ["--size and --resize are for folders of pictures"]),
    ("evaluate gone", ["gone: no run directory or model file"]),
    ("evaluate old.yaml", ["not a model file"]),
    ("evaluate half.safetensors", ["not a model file, or damaged"]),
    ("evaluate flipped.safetensors", ["damaged (its checksum does not hold)"]),
    ("evaluate @checkpoint", ["format version None", "is it a checkpoint"]),
    ("evaluate @run --split tset", ["--split", "'tset'", "train, test, val"]),
    ("evaluate @run --tta flip", ["tta: unknown value 'flip'", "did you mean 'hflip'"]),
    ("evaluate @run --device gpu", ["unknown device 'gpu'", "auto, cpu, cuda"]),
    ("predict @run", ["PATH"]),
    ("predict @run gone.png", ["gone.png: no such file"]),
    ("predict @run old.yaml", ["old.yaml: not a picture"]),
    ("predict @run here", ["here: no pictures in this folder"]),
    ("predict @run picture.png --top 0", ["top must be 1 or more"]),
    ("predict @run picture.png --csv old.yaml", ["old.yaml exists already"]),
    ("summary resnet2", ["unknown name 'resnet2'", "did you mean 'resnet20'"]),
    ("summary resnet20 --set epochs=3", ["a named net has only model.… keys"]),
    ("summary resnet20 --set model.block=tall", ["model.block: unknown value 'tall'"]),
    ("summary @run --set model.blocks=[1]", ["its net is what it is"]),
    ("runs gone", ["gone: no such folder", "bantamnet train quickstart"]),
    ("runs . --sort tset", ["--sort: unknown column 'tset'", "did you mean 'test'"]),
    ("recipes show resnet-varient", ["did you mean 'resnet-variant'"]),
    ("recipes copy quickstart old.yaml", ["old.yaml exists already"]),
    ("recipes copy nothing", ["unknown recipe 'nothing'"]),
    ("recipes --json list", ["bantamnet recipes list --json"]),
    ("recipes shw", ["shw"]),
    ("trian quickstart", ["trian"]),
    ("train quickstart --sed 1", ["--sed"]),
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with a finished run and all kinds of unsuitable files."""
    folder = tmp_path_factory.mktemp("place")
    run = bantamnet.train(tiny("epochs=1", "device=cpu"), out=folder / "myrun")
    model = run.best.read_bytes()
    files = {
        "broken.yaml": b"a: [1,\nb: }",
        "list.yaml": b"- 1\n- 2\n",
        "empty.yaml": b"",
        "binary.yaml": bytes(range(128, 256)),
        "loop.yaml": b"base: loop\nname: loop\n",
        "ping.yaml": b"base: pong\nname: ping\n",
        "pong.yaml": b"base: ping\nname: pong\n",
        "lost.yaml": b"base: resnet-varient\nname: lost\n",
        "old.yaml": b"base: quickstart\nschema: 7\n",
        "half.safetensors": model[: len(model) // 2],
        "flipped.safetensors": model[:-50] + bytes([model[-50] ^ 1]) + model[-49:],
        "here/notes.txt": b"nothing",
    }
    for data, content in (("cut", b"12345"), ("changed", bytes(3073 * 3))):
        names = [*(f"data_batch_{n}.bin" for n in range(1, 6)), "test_batch.bin"]
        files |= {f"{data}/cifar-10-batches-bin/{name}": content for name in names}
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    from PIL import Image

    Image.new("RGB", (40, 30), "red").save(folder / "picture.png")
    return folder


def tree_hash(folder: Path) -> str:
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        total.update(str(path.relative_to(folder)).encode() + (path.read_bytes() if path.is_file() else b"/"))
    return total.hexdigest()


@pytest.mark.parametrize(("arguments", "words"), WRONG, ids=[arguments for arguments, _ in WRONG])
def test_wrong_invocation(
    place: Path, arguments: str, words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setenv("COLUMNS", "300")
    names = {"@run": "myrun", "@model": "myrun/best.safetensors", "@checkpoint": "myrun/checkpoints/step-7.safetensors"}
    words_given = arguments.split()
    for short, name in names.items():
        words_given = [word.replace(short, name) for word in words_given]
    before = tree_hash(place)
    code, out, err = invoke(words_given, monkeypatch, capsys)
    assert code == 2, (out, err)
    assert tree_hash(place) == before
    assert "Traceback" not in err and not out
    for word in words:
        assert word in err, err


def test_there_are_enough_of_them() -> None:
    assert len(WRONG) >= 30 and len({arguments for arguments, _ in WRONG}) == len(WRONG)


def test_all_mistakes_are_told_at_once_with_the_paths_the_user_wrote(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    wrong = ["optim.lr=x", "optim.schedule.0.epochs=-1", "data.val.cuont=3", "model.widths=[0,1,1]", "budget=-1", "selct=last"]
    code, _, err = invoke(["train", "quickstart", *(part for w in wrong for part in ("--set", w))], monkeypatch, capsys)
    told = [line.strip() for line in err.splitlines()[1:]]
    assert code == 2 and len(told) == 6, err
    paths = [
        "optim.lr:",
        "optim.schedule.0.epochs:",
        "data.val: unknown key",
        "model.widths.0:",
        "budget:",
        "unknown key",
    ]
    for path in paths:
        assert any(line.startswith(path) for line in told), (path, told)
