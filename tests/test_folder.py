"""Listing a folder: parts, classes, what is ignored, what is refused."""

import os
import unicodedata
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bantamnet.data.folder import natural_key, printable, scan
from bantamnet.data.pictures import ENDINGS
from bantamnet.data.preprocess import find_pictures
from bantamnet.errors import UserError


def make(root: Path, *paths: str) -> Path:
    """Empty files, and folders where a path ends with a slash."""
    for path in paths:
        target = root / path
        (target if path.endswith("/") else target.parent).mkdir(parents=True, exist_ok=True)
        if not path.endswith("/"):
            target.touch()
    return root


def test_parts_classes_and_files_come_in_natural_order(tmp_path: Path) -> None:
    root = make(tmp_path, *(f"{p}/{c}/x{n}.png" for p in ("test", "val", "train") for c in ("10", "2", "1") for n in (10, 9)))
    listing = scan(root)
    assert listing.class_names == ("1", "2", "10") and listing.parts == ["train", "val", "test"]
    assert [f.path for f in listing.files[:4]] == ["train/1/x9.png", "train/1/x10.png", "train/2/x9.png", "train/2/x10.png"]
    assert [f.label for f in listing.files] == [0, 0, 1, 1, 2, 2] * 3 and not listing.ignored


def test_what_is_hidden_empty_or_stray_is_ignored_with_a_line(tmp_path: Path) -> None:
    root = make(
        tmp_path,
        *("1/a.png", "2/a.JPG", "10/a.webp", "été/a.gif", "字/a.bmp", "empty/"),
        *(".ipynb_checkpoints/a.png", "1/.ipynb_checkpoints/a.png", "1/.DS_Store", "2/._a.png", "__MACOSX/1/a.png"),
        *("notes.txt", "1/Thumbs.db", "1/deeper/a.png", "only text/readme.md"),
    )
    listing = scan(root)
    assert listing.class_names == ("1", "2", "10", "été", "字") and listing.parts == ["all"]
    assert [f.path for f in listing.files] == ["1/a.png", "2/a.JPG", "10/a.webp", "été/a.gif", "字/a.bmp"]
    told = "\n".join(listing.ignored)
    for line in (
        "ignored 5 hidden entries: .ipynb_checkpoints, __MACOSX, .DS_Store, .ipynb_checkpoints, ._a.png",
        "ignored 2 class folders without pictures: empty, only text",
        "ignored 1 files outside class folders: notes.txt",
        "ignored 2 entries that are no pictures: 1/Thumbs.db, only text/readme.md",
        "ignored 1 folders inside class folders: 1/deeper",
    ):
        assert line in told, told


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    listing = scan(make(tmp_path, "train/a.png", "ship/a.png", "test/a.png"))
    assert listing.class_names == ("ship", "test", "train") and listing.parts == ["all"]


def test_names_are_the_same_whatever_file_system_wrote_them(tmp_path: Path) -> None:
    composed, apart = unicodedata.normalize("NFC", "café"), unicodedata.normalize("NFD", "café")
    listing = scan(make(tmp_path, f"train/{composed}/a.png", "train/tea/a.png", f"test/{apart}/b.png", "test/tea/b.png"))
    assert listing.class_names == (composed, "tea")
    assert [f.label for f in listing.files if f.part == "test"] == [0, 1]


def test_links_are_followed_and_broken_ones_are_kept_to_be_told(tmp_path: Path) -> None:
    root = make(tmp_path / "set", "a/x.png", "b/x.png")
    make(tmp_path / "elsewhere", "c.png")
    (root / "c").symlink_to(tmp_path / "elsewhere")
    (root / "a" / "lost.png").symlink_to(tmp_path / "nowhere.png")
    (root / "b" / "loop").symlink_to(root)
    listing = scan(root)
    assert listing.class_names == ("a", "b", "c")
    assert [(f.path, f.size) for f in listing.files if f.size < 0] == [("a/lost.png", -1)]


def test_pictures_to_predict_come_in_natural_order_without_hidden_ones(tmp_path: Path) -> None:
    wanted = ["a/x2.png", "a/x10.png", "img_1.png", "img_2.png", "img_10.png"]
    make(tmp_path, *wanted, "._img_1.png", "__MACOSX/a/x2.png", "a/.thumbs/x2.png")
    assert [str(path.relative_to(tmp_path)) for path in find_pictures([tmp_path])] == wanted


@pytest.mark.parametrize(
    ("paths", "words"),
    [
        (["a/x.txt"], ["no pictures in class folders", "CLASS/picture.png"]),
        (["x.png", "y.png"], ["no pictures in class folders"]),
        (["a/x.png"], ["one class alone (a)"]),
        (["train/a/x.png", "train/b/x.png", "test/c/x.png", "val/d/x.png"], ["no pictures of 2 classes: val/d, test/c", "a, b"]),
        (["train/a/x.png", "train/b/x.png", "train/c/", "test/c/x.png"], ["no pictures of 1 classes: test/c"]),
        (["test/a/x.png", "val/a/x.png"], ["no pictures in class folders", "train/CLASS"]),
    ],
)
def test_what_cannot_be_trained_on_is_refused(paths: list[str], words: list[str], tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        scan(make(tmp_path, *paths))
    for word in words:
        assert word in str(error.value), error.value


def test_a_class_that_is_no_utf8_is_refused_by_name(tmp_path: Path) -> None:
    make(tmp_path, "a/x.png")
    (tmp_path / os.fsdecode(b"\xff\xfe")).mkdir()
    (tmp_path / os.fsdecode(b"\xff\xfe") / "x.png").touch()
    with pytest.raises(UserError, match=r"no UTF-8 \(\\xff\\xfe\)"):
        scan(tmp_path)


names = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=20).filter(
    lambda name: name not in (".", "..") and len(name.encode()) < 100
)


@given(st.lists(names, unique=True))
def test_natural_order_is_total_and_keeps_numbers_by_value(given_names: list[str]) -> None:
    ordered = sorted(given_names, key=natural_key)
    backwards = given_names[::-1]
    assert sorted(backwards, key=natural_key) == ordered
    numbers = [name for name in ordered if name.isascii() and name.isdigit()]
    assert [int(n) for n in numbers] == sorted(int(n) for n in numbers)


folders = st.sampled_from(["1", "2", "10"]) | names
Tree = dict[tuple[str, str, str], str]
trees = st.dictionaries(
    st.tuples(st.sampled_from(["", "train", "train", "val", "test"]), folders, names),
    st.sampled_from(["", *ENDINGS, ".txt"]),
    max_size=12,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(trees)
def test_any_tree_is_listed_completely_or_refused(tmp_path_factory: pytest.TempPathFactory, tree: Tree) -> None:
    """Against a plain walk: every visible picture at its depth is listed once under its class, or the error says why not."""
    root = tmp_path_factory.mktemp("tree")
    for (part, folder, name), ending in tree.items():
        try:
            (root / part / folder).mkdir(parents=True, exist_ok=True)
            (root / part / folder / f"{name}{ending}").touch()
        except (NotADirectoryError, FileExistsError, IsADirectoryError):
            continue

    def hidden(path: Path) -> bool:
        return any(piece.startswith(".") or piece == "__MACOSX" for piece in path.relative_to(root).parts)

    visible = [p for p in root.rglob("*") if p.is_file() and not hidden(p) and p.suffix.lower() in ENDINGS]
    has_parts = any(p.is_dir() and not hidden(p) for p in (root / "train").glob("*"))
    depth = 3 if has_parts else 2
    expected = {
        str(p.relative_to(root))
        for p in visible
        if len(p.relative_to(root).parts) == depth and (not has_parts or p.relative_to(root).parts[0] in ("train", "val", "test"))
    }
    classes: dict[str, set[str]] = {"train": set(), "rest": set()}
    for path in expected:
        *part, folder, _ = Path(path).parts
        classes["train" if part in ([], ["train"]) else "rest"].add(unicodedata.normalize("NFC", folder))
    good = len(classes["train"]) >= 2 and classes["rest"] <= classes["train"]
    try:
        listing = scan(root)
    except UserError as error:
        assert not good and str(root) in str(error)
        return
    assert good and {f.path for f in listing.files} == expected and len(listing.files) == len(expected)
    assert list(listing.class_names) == sorted(classes["train"], key=natural_key)
    for file in listing.files:
        assert listing.class_names[file.label] == unicodedata.normalize("NFC", Path(file.path).parent.name)
    assert scan(root) == listing
    assert all(printable(f.path) for f in listing.files)
