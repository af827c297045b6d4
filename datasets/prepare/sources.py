"""Public homes of the datasets: addresses, sizes, checksums, and the place of each piece of an archive."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Piece:
    """A file or folder that an archive brings and that the dataset needs."""

    #: Its path in the archive, or the end of it: the folder it lies in there does not matter.
    source: str
    #: Its path in the dataset.
    target: str
    #: How many files the folder holds, where that is known; None for a file.
    files: int | None = None


@dataclass(frozen=True)
class Archive:
    """One file to download. `size` in bytes and `checksum` are None where they are not published."""

    path: str
    size: int | None
    checksum: str | None
    pieces: tuple[Piece, ...]
    #: Archives inside the archive, by their path in it, that are unpacked as well.
    inner: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The name of the file."""
        return self.path.rpartition("/")[2]


@dataclass(frozen=True)
class Source:
    """A dataset that comes as archives below one address."""

    base_url: str
    archives: tuple[Archive, ...]
    #: Downloaded only when asked for.
    panoptic: tuple[Archive, ...] = ()
    #: Under which terms the data may be used, for people.
    terms: str = ""


@dataclass(frozen=True)
class Repository:
    """A dataset that comes as a folder of a git repository."""

    base_url: str
    folder: str
    pieces: tuple[Piece, ...]
    terms: str = ""


# Sizes and SHA-256: TensorFlow Datasets' list (tensorflow_datasets/url_checksums/coco.txt).
COCO = Source(
    base_url="http://images.cocodataset.org",
    terms="annotations CC BY 4.0, images under the terms of Flickr: https://cocodataset.org/#termsofuse",
    archives=(
        Archive(
            path="annotations/annotations_trainval2017.zip",
            size=252_907_541,
            checksum="sha256:113a836d90195ee1f884e704da6304dfaaecff1f023f49b6ca93c4aaae470268",
            pieces=(
                Piece("annotations/instances_train2017.json", "annotations/instances_train2017.json"),
                Piece("annotations/instances_val2017.json", "annotations/instances_val2017.json"),
            ),
        ),
        Archive(
            path="zips/val2017.zip",
            size=815_585_330,
            checksum="sha256:4f7e2ccb2866ec5041993c9cf2a952bbed69647b115d0f74da7ce8f4bef82f05",
            pieces=(Piece("val2017", "val2017", files=5_000),),
        ),
        Archive(
            path="zips/train2017.zip",
            size=19_336_861_798,
            checksum="sha256:69a8bb58ea5f8f99d24875f21416de2e9ded3178e903f1f7603e283b9e06d929",
            pieces=(Piece("train2017", "train2017", files=118_287),),
        ),
    ),
    panoptic=(
        Archive(
            path="annotations/panoptic_annotations_trainval2017.zip",
            size=860_725_834,
            checksum="sha256:c05f76d2129b6b561eb70efe16e7006df62f73fb92889132d373b9d90e31a370",
            inner=("annotations/panoptic_train2017.zip", "annotations/panoptic_val2017.zip"),
            pieces=(
                Piece("panoptic_train2017", "panoptic_train2017", files=118_287),
                Piece("panoptic_val2017", "panoptic_val2017", files=5_000),
                Piece("annotations/panoptic_train2017.json", "annotations/panoptic_train2017.json"),
                Piece("annotations/panoptic_val2017.json", "annotations/panoptic_val2017.json"),
            ),
        ),
    ),
)

# The MD5 is the one in the authors' README; they give the size only as about 230 MB, so the MD5 alone decides.
CPPE5 = Source(
    base_url="https://github.com/Rishit-dagli/CPPE-Dataset/releases/download/v0.1.0",
    terms="annotations Apache 2.0, images under their owners' terms on Flickr and elsewhere",
    archives=(
        Archive(
            path="dataset.tar.gz",
            size=None,
            checksum="md5:f4e043f983cff94ef82ef7d57a879212",
            pieces=(
                Piece("images", "images"),
                Piece("annotations/train.json", "annotations/train.json"),
                Piece("annotations/test.json", "annotations/test.json"),
            ),
        ),
    ),
)

# No checksum is published: git verifies every object by its hash, the counts of the images are verified here.
HGP = Repository(
    base_url="https://github.com/lorenz369/hgp_detr",
    folder="HGP/images",
    terms="an educational licence of the ITESM, not for commercial use",
    pieces=(
        Piece("HGP/images/train2017", "HGP/images/train2017", files=1_989),
        Piece("HGP/images/val2017", "HGP/images/val2017", files=210),
        Piece("HGP/images/annotations/instances_train2017.json", "HGP/images/annotations/instances_train2017.json"),
        Piece("HGP/images/annotations/instances_val2017.json", "HGP/images/annotations/instances_val2017.json"),
    ),
)

SOURCES: dict[str, Source | Repository] = {"coco": COCO, "cppe5": CPPE5, "hgp": HGP}
