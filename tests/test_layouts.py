"""CIFAR is found and read in every layout, packed or not, and trusted by its content alone; nothing in a file is run."""

import hashlib
import os
import pickle
import shutil
import struct
import sys
import tarfile
import tracemalloc
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import bantamnet
from bantamnet.data import obtain
from bantamnet.data.cifar import CIFARS
from bantamnet.data.layouts import find_archives, find_unpacked, read_binary, read_parquet, read_python
from bantamnet.data.obtain import load_cifar
from bantamnet.errors import UserError
from bantamnet.training.train import Options
from conftest import tiny
from small_cifar import SmallCifar, png, python2_pickle, tree

NAMES = ("cifar10", "cifar100")


@pytest.fixture(params=NAMES)
def small(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> SmallCifar:
    """A small set that the table knows by its content."""
    made = SmallCifar(request.param)
    monkeypatch.setitem(CIFARS, made.name, made.known())
    return made


@pytest.fixture
def small10(monkeypatch: pytest.MonkeyPatch) -> SmallCifar:
    made = SmallCifar()
    monkeypatch.setitem(CIFARS, made.name, made.known())
    return made


def write_all(small: SmallCifar, root: Path) -> dict[str, Path]:
    """A data folder for each layout, each in another place of it."""
    small.write_binary(root / "binary" / "cifar-binary")
    small.write_python(root / "python2" / f"{small.name}-python" / "data")
    for protocol in (2, 3, 4, 5):
        small.write_python(root / f"python3 protocol {protocol}", protocol)
    small.write_parquet(root / "parquet" / "plain_text")
    small.write_parquet(root / "parquet bytes" / small.name, "image", as_struct=False)
    parts = root / "parquet folders" / small.name / "default"
    small.write_parquet(parts)
    for part in ("train", "test"):
        (parts / part).mkdir()
        (parts / f"{part}-00000-of-00001.parquet").rename(parts / part / "0000.parquet")
    return {path.name: path for path in root.iterdir()}


def test_every_layout_is_the_same_set(small: SmallCifar, tmp_path: Path) -> None:
    images, labels = small.parts["train"]
    sums = [hashlib.sha256(bytes([n]) + i.tobytes()).digest() for i, n in zip(images, labels, strict=True)]
    order = sorted(range(len(sums)), key=sums.__getitem__)
    places = write_all(small, tmp_path)
    assert len(places) == 9
    for place in places.values():
        before = tree(place)
        train, test = load_cifar(small.name, place)
        assert train.fingerprint == small.fingerprint("train") and test.fingerprint == small.fingerprint("test"), place
        assert np.array_equal(train.images.numpy(), images[order]) and np.array_equal(train.labels.numpy(), labels[order])
        assert tree(place) == before


@pytest.mark.slow
def test_one_epoch_from_each_layout_gives_the_same_weights(small10: SmallCifar, tmp_path: Path) -> None:
    weights = []
    for name, place in write_all(small10, tmp_path / "data").items():
        if name in ("binary", "python2", "parquet"):
            config = tiny("data.name=cifar10", "epochs=1", "batch_size=16", "data.val.count=10", "device=cpu")
            run = bantamnet.train(config, out=tmp_path / "runs" / name, options=Options(data_dir=place))
            weights.append(bantamnet.load(run.best).net.state_dict())
    assert len(weights) == 3
    for other in weights[1:]:
        assert all(torch.equal(tensor, other[key]) for key, tensor in weights[0].items())


@pytest.mark.parametrize("ending", [".tar.gz", ".tgz", ".tar", ".tar.bz2", ".tar.xz", ".zip"])
def test_an_archive_is_unpacked_once_beside_itself(small10: SmallCifar, tmp_path: Path, ending: str) -> None:
    write = small10.write_binary if ending in (".tgz", ".zip") else small10.write_python
    write(tmp_path / "made" / "cifar-10-inside")
    root = tmp_path / "data"
    root.mkdir()
    archive = root / f"CIFAR-10-mine{ending}"
    if ending == ".zip":
        with zipfile.ZipFile(archive, "w") as packed:
            for path in sorted((tmp_path / "made").rglob("*")):
                packed.write(path, path.relative_to(tmp_path / "made"))
    else:
        kind = {".tar": "", ".tgz": "gz"}.get(ending, ending.rsplit(".", 1)[-1])
        with tarfile.open(archive, f"w:{kind}") as tar:  # type: ignore[call-overload]
            tar.add(tmp_path / "made" / "cifar-10-inside", "cifar-10-inside")
    assert load_cifar("cifar10", root)[0].fingerprint == small10.fingerprint("train")
    assert {path.name for path in root.iterdir()} == {archive.name, "cifar10", ".cifar10.lock"}
    archive.write_bytes(b"no longer needed")
    assert load_cifar("cifar10", root)[0].fingerprint == small10.fingerprint("train")


def test_an_archive_in_a_folder_that_can_only_be_read(
    small10: SmallCifar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small10.write_python(tmp_path / "made" / "cifar-10-batches-py")
    root = tmp_path / "data"
    root.mkdir()
    with tarfile.open(root / "cifar-10-python.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "made" / "cifar-10-batches-py", "cifar-10-batches-py")
    before = tree(root)

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(obtain, "_alone", refuse)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert load_cifar("cifar10", root)[0].fingerprint == small10.fingerprint("train")
    assert tree(root) == before


def test_another_set_beside_it_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One set lies there, the other is asked for: it is missing, not damaged."""
    for name, other in (NAMES, NAMES[::-1]):
        there, asked = SmallCifar(name), SmallCifar(other)
        monkeypatch.setitem(CIFARS, name, there.known())
        monkeypatch.setitem(CIFARS, other, asked.known())
        root = tmp_path / name
        there.write_binary(root / f"{name}-bin")
        there.write_python(root / f"{name}_py")
        there.write_parquet(root / name / "plain_text")
        (root / f"{name}.zip").write_bytes(b"damaged")
        (root / "train").mkdir()
        with pytest.raises(UserError, match=f"{other} was not found"):
            load_cifar(other, root)
        assert len(load_cifar(name, root)[0]) == 60
    SmallCifar("cifar10", seed=3).write_parquet(root / "data")
    monkeypatch.setattr(SmallCifar, "NUM", {"train": 61, "test": 20})
    monkeypatch.setitem(CIFARS, "cifar10", SmallCifar().known())
    with pytest.raises(UserError, match="cifar10 was not found"):  # the same columns, another count
        load_cifar("cifar10", root)


def test_damaged_files_are_named_and_a_whole_layout_beside_them_is_taken(small10: SmallCifar, tmp_path: Path) -> None:
    damages = {
        "cut": ("data_batch_3", lambda raw: raw[:-100], "data_batch_3: not a CIFAR batch"),
        "flipped": ("data_batch_3", lambda raw: raw[:5000] + bytes([raw[5000] ^ 1]) + raw[5001:], "not cifar10's train images"),
        "empty": ("test_batch", lambda raw: b"", "test_batch: not a CIFAR batch"),
        "text": ("test_batch", lambda raw: b"<html>", "test_batch: not a CIFAR batch"),
    }
    for name, (file, damage, words) in damages.items():
        small10.write_python(tmp_path / name / "cifar10")
        path = tmp_path / name / "cifar10" / file
        path.write_bytes(damage(path.read_bytes()))
        with pytest.raises(UserError, match=words) as told:
            load_cifar("cifar10", tmp_path / name)
        assert "bantamnet fetch cifar10" in str(told.value)
        small10.write_binary(tmp_path / name / "cifar")
        assert load_cifar("cifar10", tmp_path / name)[1].fingerprint == small10.fingerprint("test")
    small10.write_parquet(tmp_path / "parquet")
    path = tmp_path / "parquet" / "train-00000-of-00001.parquet"
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(UserError, match="not a Parquet file that can be read"):
        load_cifar("cifar10", tmp_path / "parquet")
    (tmp_path / "packed").mkdir()
    (tmp_path / "packed" / "cifar-10-python.tar.gz").write_bytes(b"\x1f\x8b" + bytes(50))
    with pytest.raises(UserError, match="damaged, incomplete or no archive"):
        load_cifar("cifar10", tmp_path / "packed")
    assert {path.name for path in (tmp_path / "packed").iterdir()} == {"cifar-10-python.tar.gz", ".cifar10.lock"}


def test_labels_that_would_wrap_into_place_are_refused(small10: SmallCifar, tmp_path: Path) -> None:
    """A label of 256 + n has the byte n; the fingerprint alone would not see it."""
    images, labels = small10.parts["train"]
    small10.parts["train"] = (images, labels + 256)
    small10.write_python(tmp_path / "python")
    small10.write_parquet(tmp_path / "parquet")
    for place in ("python", "parquet"):
        with pytest.raises(UserError, match="labels from 256 to"):
            load_cifar("cifar10", tmp_path / place)


def test_parquet_without_pyarrow_names_what_to_install(
    small10: SmallCifar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small10.write_parquet(tmp_path / "data")
    for module in ("pyarrow", "pyarrow.parquet"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=r"pip install 'bantamnet\[parquet\]'"):
        load_cifar("cifar10", tmp_path / "data")


def test_parquet_with_other_pictures_is_refused(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as parquet

    whole = png(np.zeros((3, 32, 32), np.uint8))
    bomb = png(np.zeros((3, 9, 9), np.uint8))
    bomb = bomb[:16] + struct.pack(">II", 60_000, 60_000) + bomb[24:]
    cells: list[tuple[list[object], str]] = [
        ([png(np.zeros((3, 32, 31), np.uint8))], "not 32×32 pixels"),
        ([bomb], "not 32×32|no PNG"),
        ([whole[:60]], "no PNG, or damaged"),
        ([b"GIF89a"], "no PNG, or damaged"),
        ([None], "no image bytes"),
        ([], "holds no images"),
    ]
    for number, (column, words) in enumerate(cells):
        path = tmp_path / f"{number}.parquet"
        table = pa.table({"img": pa.array(column, pa.binary()), "label": pa.array([0] * len(column), pa.int64())})
        parquet.write_table(table, path)
        with pytest.raises(UserError, match=words):
            read_parquet(path, ("label",))
    for column, words in ((["cat"], "one label for each"), ([None], "one label for each")):
        parquet.write_table(pa.table({"img": [whole], "label": column}), tmp_path / "labels.parquet")
        with pytest.raises(UserError, match=words):
            read_parquet(tmp_path / "labels.parquet", ("label",))


class Touches:
    """When it is unpickled as Python does, a file appears."""

    def __init__(self, call: object, *arguments: object) -> None:
        self.call, self.arguments = call, arguments

    def __reduce__(self) -> object:
        return self.call, self.arguments


def malicious(canary: Path) -> dict[str, bytes]:
    """Pickles that run something, and pickles that would take all memory."""
    command = f"touch {canary}"
    attacks = {
        "os.system": Touches(os.system, command),
        "eval": Touches(eval, f"open({str(canary)!r}, 'w')"),
        "open": Touches(open, str(canary), "w"),
        "exec": Touches(exec, f"import os; os.system({command!r})"),
    }
    found = {
        f"{name} {protocol}": pickle.dumps({"data": attack, "labels": []}, protocol)
        for name, attack in attacks.items()
        for protocol in range(6)
    }
    text = str(canary).encode()
    found["python 2"] = b"\x80\x02cposix\nsystem\n(U" + bytes([len(command)]) + command.encode() + b"tR."
    found["inst"] = b"(S'" + command.encode() + b"'\nios\nsystem\n."
    found["numpy file"] = b"\x80\x02cnumpy\nsave\n(U" + bytes([len(text)]) + text + b"K\x01tR."
    found["numpy attribute"] = b"\x80\x04\x8c\x05numpy\x8c\x0cndarray.dump\x93."
    found["build on a name"] = b"\x80\x02cnumpy\ndtype\n}U\x05_makeK\x01sb."
    found["build on an array"] = b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n)R}U\x05arrayK\x01sb."
    found["object array"] = b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n)R(K\x01K\x01\x85cnumpy\ndtype\nU\x01O\x85R\x89]tb."
    found["huge array"] = python2_pickle({"data": np.zeros((1, 4), np.uint8)}).replace(b"J\x04\0\0\0t", b"J\xff\xff\xff\x7ft")
    found["huge memo"] = b"\x80\x02Nr\xff\xff\xff\x7f."
    found["huge buffer"] = b"\x80\x05\x96" + struct.pack("<Q", 1 << 28) + b"x."
    found["cut array"] = pickle.dumps({"data": np.zeros(9, np.uint8)}, 5).replace(
        struct.pack("<Q", 9), struct.pack("<Q", 1 << 40)
    )
    found["huge string"] = b"\x80\x04\x8d" + struct.pack("<Q", 1 << 40) + b"x."
    found["persistent"] = b"\x80\x02U\x01aQ."
    found["extension"] = b"\x80\x02\x82\x01."
    return found


def test_pickles_that_run_something_are_refused(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    live = pickle.dumps(Touches(os.system, f"touch {canary}"))
    pickle.loads(live)
    assert canary.exists(), "the attack works where nobody guards"
    canary.unlink()
    attacks = malicious(canary)
    assert len(attacks) > 30
    path = tmp_path / "data_batch_1"
    tracemalloc.start()
    for name, raw in attacks.items():
        path.write_bytes(raw)
        words = "no dictionary" if name == "huge memo" else "not a CIFAR batch"  # that one is harmless, read in Python
        with pytest.raises(UserError, match=words):
            read_python(path, ("labels",))
        assert not canary.exists(), name
        assert tracemalloc.get_traced_memory()[1] < 1 << 24, name
    tracemalloc.stop()
    # And none has changed what an honest file gives.
    small = SmallCifar()
    small.write_python(tmp_path / "honest")
    images, labels = read_python(tmp_path / "honest" / "test_batch", ("labels",))
    assert np.array_equal(images, small.parts["test"][0]) and labels.tolist() == small.parts["test"][1].tolist()


HONEST = python2_pickle({"data": np.zeros((1, 3072), np.uint8), "labels": [3]})


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_bytes_are_a_batch_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    canary, path = tmp_path / "canary", tmp_path / "batch"
    pieces = [*malicious(canary).values(), HONEST]
    kind = data.draw(st.sampled_from(["bytes", "mutated", "joined"]))
    if kind == "bytes":
        raw = data.draw(st.binary(max_size=200))
    elif kind == "mutated":
        changed = bytearray(data.draw(st.sampled_from(pieces)))
        for _ in range(data.draw(st.integers(1, 4))):
            changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
        raw = bytes(changed)
    else:
        cuts = [data.draw(st.sampled_from(pieces)) for _ in range(3)]
        raw = b"".join(piece[data.draw(st.integers(0, 20)) : data.draw(st.integers(0, 200))] for piece in cuts)
    path.write_bytes(raw)
    try:
        images, labels = read_python(path, ("labels",))
        assert images.shape[1:] == (3, 32, 32) and len(labels) == len(images)
    except UserError:
        pass
    assert not canary.exists()


FILES = [
    *(f"data_batch_{n}{ending}" for n in range(1, 6) for ending in ("", ".bin")),
    *("test_batch", "test_batch.bin", "train", "test", "train.bin", "test.bin", "train-0.parquet", "test-0.parquet"),
    *("cifar-10-python.tar.gz", "cifar-100-binary.tar.gz", "CIFAR10.zip", "cifar1000.zip", ".cifar10.tgz", "notes.txt"),
]
FOLDERS = ["cifar-10-batches-bin", "cifar10", "cifar100", "cifar", "CIFAR-100", "data", "train", ".cifar10.part", "other", "été"]
WHOLE = [  # what makes a set, for the scanners to meet some
    *(("cifar10", kind) for kind in ("binary", "python")),
    *(("cifar100", kind) for kind in ("binary", "python")),
]
some_set = st.tuples(st.lists(st.sampled_from(FOLDERS), max_size=4), st.sampled_from(WHOLE))
some_path = st.tuples(st.lists(st.sampled_from(FOLDERS), max_size=5), st.sampled_from(FILES) | st.text("abc.-", min_size=1))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(some_path, max_size=20), st.lists(some_set, max_size=3), st.sampled_from(NAMES))
def test_whatever_lies_in_the_folder_the_scanners_find_only_what_is_there(
    tmp_path: Path, paths: list[tuple[list[str], str]], sets: list[tuple[list[str], tuple[str, str]]], name: str
) -> None:
    root = tmp_path / "data"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    files_of = {(known.name, kind): getattr(known.layouts, kind) for known in CIFARS.values() for kind in ("binary", "python")}
    whole = [(folders, file) for folders, which in sets for names in files_of[which].values() for file in names]
    for folders, file in [*whole, *paths]:
        path = root.joinpath(*folders, file)
        if not any(parent.is_file() for parent in path.parents) and not path.exists() and file not in (".", ".."):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x")
    layouts = CIFARS[name].layouts
    found = find_unpacked(root, layouts)
    other = "100" if name == "cifar10" else "10"
    for one in found:
        files = [path for paths in one.files.values() for path in paths]
        assert files and all(path.is_file() for path in files)
        inside = one.folder.relative_to(root).parts
        assert len(inside) <= 3 and not any(part.startswith(".") or part == "other" for part in inside)
        assert not any(part.lower().replace("-", "") == f"cifar{other}" for part in inside)
        with pytest.raises(UserError):
            one.read("train")
    for archive in find_archives(root, layouts):
        assert archive.is_file() and not archive.name.startswith(".") and "1000" not in archive.name
        assert ("100" in archive.name) == (name == "cifar100")
    # A plain twin: the folders that are sure to be looked into, and hold every file by name.
    for kind in ("binary", "python"):
        names = [file for part in getattr(layouts, kind).values() for file in part]
        sure = [folder for folder in (root, root / "cifar", root / "data", root / name) if folder.is_dir()]
        whole_ones = {folder for folder in sure if all((folder / file).is_file() for file in names)}
        assert whole_ones <= {one.folder for one in found if one.kind == kind}


def test_a_folder_with_all_files_is_found_first_at_the_top(small10: SmallCifar, tmp_path: Path) -> None:
    small10.write_binary(tmp_path / "a")
    small10.write_binary(tmp_path / "a" / "cifar10")
    assert [found.folder for found in find_unpacked(tmp_path / "a", CIFARS["cifar10"].layouts)] == [
        tmp_path / "a",
        tmp_path / "a" / "cifar10",
    ]
    assert find_unpacked(tmp_path / "nowhere", CIFARS["cifar10"].layouts) == []


@pytest.mark.slow
@pytest.mark.cifar10
def test_real_cifar10_in_every_layout(cifar_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = SmallCifar()
    layouts = CIFARS["cifar10"].layouts
    for part, names in layouts.binary.items():
        read = [read_binary(cifar_dir / "cifar-10-batches-bin" / name, 1) for name in names]
        whole.parts[part] = (np.concatenate([i for i, _ in read]), np.concatenate([n for _, n in read]))
    assert replace(whole.known(), layouts=layouts).fingerprints == CIFARS["cifar10"].fingerprints
    expected = load_cifar("cifar10", cifar_dir)
    for write in (whole.write_python, whole.write_parquet):
        write(tmp_path / write.__name__)
        for split, one in zip(load_cifar("cifar10", tmp_path / write.__name__), expected, strict=True):
            assert torch.equal(split.images, one.images) and torch.equal(split.labels, one.labels)
