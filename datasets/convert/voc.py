"""Read Pascal VOC: Annotations/*.xml, JPEGImages, and ImageSets/Main/{set}.txt with the names of each set."""

import math
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from xml.parsers import expat

import numpy as np

from util.errors import DatasetError
from util.progress import with_progress

from .folder import (
    IMAGE_SUFFIXES,
    ImageSize,
    LabelledFolder,
    LabelledImage,
    LabelledObject,
    Mistakes,
    image_size,
    sort_classes,
)

Element = ElementTree.Element
_EDGES = ("xmin", "ymin", "xmax", "ymax")


def read_voc(
    root: Path, *, sets: dict[str, str], classes: list[str] | None = None, difficult_as_crowd: bool = False
) -> LabelledFolder:
    """Read the sets of a folder in Pascal VOC's layout.

    `sets` names the set of each split: {"train": "train", "val": "val"}; one for "val" may be missing, which is noted.
    Folders named otherwise are found where they are called images and annotations, in any case; without ImageSets/Main
    all images are for "train". Without such folders a set is one with XML beside its images, as labelling programs
    save it.
    Classes are in alphabetical order, or that of `classes`. VOC counts pixels from 1 and includes the last: the box
    (xmin, ymin, xmax, ymax) becomes x = xmin - 1, y = ymin - 1, width = xmax - xmin + 1, height = ymax - ymin + 1.
    Each object keeps `difficult` as a field; `difficult_as_crowd` makes such objects crowds, which are not trained on
    and neither rewarded nor punished in the evaluation, as VOC's own does. Raises DatasetError, with file and line.
    """
    folder, annotations = _folders(root)
    # Labelling programs (LabelImg, for one) save VOC's XML beside each image, without VOC's folders.
    beside = not folder.is_dir() and (any(root.glob("*.xml")) or any(root.glob("*/*.xml")))
    images = {} if beside else _by_stem(folder, annotations)
    # Filled on the way where no classes are given: an index is a class's place of first use until `sort_classes`.
    names: dict[str, int] = {name: index for index, name in enumerate(classes or [])}
    reader = _Reader(None if beside else annotations, names, classes is not None, difficult_as_crowd)
    splits, notes = {}, []
    for split, set_name in sets.items():
        if beside:
            place = _folder_of_set(root, split, set_name)
            if place is None:
                notes.append(f"{root}: no folder {set_name} with XML beside images, so there are no images for {split}")
            else:
                splits[split] = reader.read_folder(place)
            continue
        listed = root / "ImageSets" / "Main" / f"{set_name}.txt"
        if not listed.parent.is_dir() and set_name == "train":
            notes.append(f"{root}: no ImageSets/Main, so all images are for train")
            splits[split] = reader.read_all(images)
            continue
        if split != "train" and not listed.exists():
            notes.append(f"{listed}: no such set, so there are no images for {split}")
            continue
        splits[split] = reader.read_set(listed, images)
    # After all sets: one run lists every mistake.
    reader.mistakes.raise_any()
    if not names:
        raise DatasetError(f"{root if beside else annotations}: the files of the sets hold no object")
    notes += [f"{reader.resized} images have another size than their XML says: theirs counts"] if reader.resized else []
    if classes is None:
        sort_classes(names, splits)
    return LabelledFolder({index: name for name, index in names.items()}, splits, notes)


def parse_xml(path: Path) -> tuple[Element, dict[Element, int]]:
    """The root element of an XML file, and the line on which each element starts.

    A document type, which is where entities that expand without end would be declared, is refused. Raises DatasetError.
    """
    builder, lines = ElementTree.TreeBuilder(), {}
    parser = expat.ParserCreate()

    def start(tag: str, attributes: dict[str, str]) -> None:
        # ElementTree keeps no line numbers, and its own parser does not let anyone ask: hence expat by hand.
        lines[builder.start(tag, attributes)] = parser.CurrentLineNumber

    def doctype(*_: object) -> None:
        raise DatasetError(f"{path}:{parser.CurrentLineNumber}: has a document type (DOCTYPE), which is not read")

    parser.StartElementHandler = start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = doctype
    try:
        parser.Parse(path.read_bytes(), True)
        return builder.close(), lines
    except expat.ExpatError as error:
        raise DatasetError(f"{path}:{error.lineno}: not XML ({expat.ErrorString(error.code)})") from None
    except (OSError, ValueError, LookupError) as error:  # the latter two: an encoding that is none
        raise DatasetError(f"{path}: cannot be read ({error})") from None


class _Reader:
    """Reads sets one after another, collecting the classes and mistakes of all."""

    def __init__(self, annotations: Path | None, names: dict[str, int], closed: bool, difficult_as_crowd: bool) -> None:
        """Read XML from the folder `annotations`, or where it is None from beside each image."""
        self.annotations = annotations
        self.names = names
        self.closed = closed
        self.difficult_as_crowd = difficult_as_crowd
        self.mistakes = Mistakes()
        self.resized = 0

    def read_set(self, listed: Path, images: dict[str, Path]) -> list[LabelledImage]:
        """Read the images that a file of ImageSets/Main lists."""
        try:
            lines = listed.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            known = ", ".join(sorted(path.stem for path in listed.parent.glob("*.txt"))[:8]) or "none"
            reason = getattr(error, "strerror", None) or "not text"
            raise DatasetError(f"{listed}: cannot be read ({reason}); sets that are there: {known}") from None
        result, seen = [], set()
        for number, line in enumerate(with_progress(lines, str(listed)), start=1):
            name = line.strip()
            # A file name may hold spaces, so the whole line is tried first.
            if name not in images and name:
                name = name.split()[0]  # the sets of one class: a name and -1, 0 or 1
            if name and name not in images:
                self.mistakes.add(f"{listed}:{number}", f"no image {name} in {listed.parents[2] / 'JPEGImages'}")
            elif name in seen:
                self.mistakes.add(f"{listed}:{number}", f"image {name} is listed for the second time")
            elif name:
                seen.add(name)
                result += self._read_image(images[name])
        if not result and not self.mistakes.found:
            raise DatasetError(f"{listed}: lists no image")
        return result

    def read_all(self, images: dict[str, Path]) -> list[LabelledImage]:
        """Read every image, with or without its XML."""
        return [image for path in with_progress(list(images.values()), "images") for image in self._read_image(path)]

    def read_folder(self, folder: Path) -> list[LabelledImage]:
        """Read the images of a folder, with the XML beside each, as labelling programs save them."""
        images = _by_stem(folder, folder)
        return [image for path in with_progress(list(images.values()), str(folder)) for image in self._read_image(path)]

    def _read_image(self, path: Path) -> list[LabelledImage]:
        """Read an image with its objects, none where it has no XML; an empty list after a mistake."""
        xml = (self.annotations or path.parent) / f"{path.stem}.xml"
        try:
            size = image_size(path)
            root, lines = parse_xml(xml) if xml.exists() else (Element("annotation"), {})
        except DatasetError as error:
            self.mistakes.found.append(str(error))
            return []
        turned = self._is_turned(root, size)
        objects = []
        for element in root.findall("object"):
            try:
                objects.append(self._object(element, size, turned))
            except ValueError as error:
                self.mistakes.add(f"{xml}:{lines[element]}", str(error))
        return [LabelledImage(path, path.name, size.width, size.height, objects)]

    def _is_turned(self, root: Element, size: ImageSize) -> bool:
        """Return True where the XML speaks of the image turned upright as EXIF says: the size it gives shows it."""
        written = tuple(root.findtext(f"size/{side}", "").strip() for side in ("width", "height"))
        stored, upright = ((str(w), str(h)) for w, h in ((size.width, size.height), size.upright))
        # Sizes in XML are often wrong or 0; boxes are in pixels of the file all the same.
        self.resized += all(written) and written not in (stored, upright)
        return written == upright != stored

    def _object(self, element: Element, size: ImageSize, turned: bool) -> LabelledObject:
        """Read one object; raises ValueError with what is wrong."""
        name = element.findtext("name", "").strip()
        if not name:
            raise ValueError("object without a name")
        if self.closed and name not in self.names:
            raise ValueError(f"class {name!r} is not among the given classes")
        edges = [_number(element, edge) for edge in _EDGES]
        # (x0, y0), (x1, y1); VOC counts from 1 and includes the last pixel, so only the first corner moves.
        corners = np.array(edges).reshape(2, 2) - [[1, 1], [0, 0]]
        if (corners[1] <= corners[0]).any():
            raise ValueError(f"box {dict(zip(_EDGES, edges))} has no area")
        if turned:
            # As fractions of the upright image, turned back to how the file stores its rows.
            corners = size.to_stored(corners / size.upright)
        # Kept as a field of the annotation, which COCO's readers ignore, so that nothing of VOC is lost.
        difficult = int(element.findtext("difficult", "0").strip() == "1")
        crowd = {"iscrowd": 1} if difficult and self.difficult_as_crowd else {}
        return LabelledObject(self.names.setdefault(name, len(self.names)), corners, {"difficult": difficult} | crowd)


def _folders(root: Path) -> tuple[Path, Path]:
    """Return the folders of the images and of the XML: VOC's, or two that are called images and annotations."""
    named = {path.name.lower(): path for path in sorted(root.iterdir()) if path.is_dir()} if root.is_dir() else {}
    images, annotations = named.get("images"), named.get("annotations")
    if images and annotations and not (root / "JPEGImages").is_dir() and any(annotations.glob("*.xml")):
        return images, annotations
    return root / "JPEGImages", root / "Annotations"


def _images(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise DatasetError(f"{folder}: no such folder; Pascal VOC's layout has one, with the images")
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)


def _folder_of_set(root: Path, split: str, name: str) -> Path | None:
    """Return the folder of a set whose XML lies beside the images; without any such folder all is for training."""
    # Names that exports use for validation images.
    others = ("valid", "validation", "test") if split == "val" else ()
    folders = [root / folder for folder in (name, *others)]
    if split == "train":
        inner = {path.parent for path in root.glob("*/*.xml")}
        folders += [root, *(inner if len(inner) == 1 else ())]  # a single folder of any name is the training set
    return next((folder for folder in folders if any(folder.glob("*.xml"))), None)


def _by_stem(folder: Path, annotations: Path) -> dict[str, Path]:
    """Return the images of `folder` by their names without suffix; of several, the one that their XML names.

    Raises DatasetError where the XML names none of them.
    """
    images: dict[str, Path] = {}
    for path in _images(folder):
        # VOC names an image by its stem: cat.jpg and cat.png would share one XML.
        other = images.setdefault(path.stem, path)
        if other == path:
            continue
        xml = annotations / f"{path.stem}.xml"
        said = parse_xml(xml)[0].findtext("filename", "").strip() if xml.exists() else ""
        if said not in (other.name, path.name):
            raise DatasetError(f"{xml}: belongs to two images, {other.name} and {path.name}: <filename> must name one")
        images[path.stem] = path if said == path.name else other
    return images


def _number(element: Element, edge: str) -> float:
    text = element.findtext(f"bndbox/{edge}", "").strip()
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"bndbox has {edge} {text!r}, not a number" if text else f"bndbox has no {edge}")
    return value
