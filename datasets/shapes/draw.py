"""Scenes of the generated images: places of the shapes, their visible pixels, and their paint.

`plan_scene` decides classes, places and visible pixels without any colour, so that annotations cost no painting;
`paint` turns a scene into an image. Both take all chance from the generator they are given.
"""

import math
from dataclasses import dataclass, field

import numpy as np

from .background import add_grain, random_background

ELLIPSE, RECTANGLE, TRIANGLE, STAR = 1, 2, 3, 4
CLASS_NAMES = {ELLIPSE: "ellipse", RECTANGLE: "rectangle", TRIANGLE: "triangle", STAR: "star"}

#: Diameter of the circle round a shape, as a part of the image's side.
SMALLEST, LARGEST = 0.3, 0.6
#: Shapes stand upright but for a tilt of at most this angle, in radians, to either side.
TILT = math.radians(15)
#: A shape keeps at least this part of its pixels when later shapes cover it.
MIN_VISIBLE = 0.7
#: A new shape that does not fit is drawn again, each time this much smaller, down to SMALLEST.
SHRINK = 0.93
#: Colours are kept this far apart (`_contrast`, 0..1) from the background and from every shape they touch.
MIN_CONTRAST = 0.35
#: Weights of red, green, blue in squared colour distances: green is seen best ("redmean" without its red term).
CHANNEL_WEIGHTS = np.array([2, 4, 3], np.float32) / 9


@dataclass(frozen=True, slots=True)
class Shape:
    """One shape on the rectangle of the image that bounds it."""

    label: int
    extent: tuple[slice, slice]  # rows, columns of the image
    distance: np.ndarray  # (h, w) float32: signed distance of pixel centres from the outline in pixels, negative inside


@dataclass(slots=True)
class Scene:
    """Shapes in drawing order (later ones on top) and which of them each pixel shows."""

    size: int
    shapes: list[Shape] = field(default_factory=list)
    owner: np.ndarray = field(init=False)  # (S, S) uint8: 1 + index of the topmost shape, 0 for background
    drawn: list[int] = field(default_factory=list)  # pixels of every shape when it was placed
    visible: list[int] = field(default_factory=list)  # pixels of every shape that no later one covers

    def __post_init__(self) -> None:
        self.owner = np.zeros((self.size, self.size), np.uint8)

    def masks(self) -> np.ndarray:
        """Return the visible pixels of every shape, (n, S, S) bool."""
        return self.owner == np.arange(1, len(self.shapes) + 1, dtype=np.uint8)[:, None, None]

    def boxes_and_areas(self) -> tuple[np.ndarray, np.ndarray]:
        """Return tight boxes (n, 4) xyxy with exclusive right and bottom edge, and pixel counts (n,); both float32."""
        boxes = np.empty((len(self.shapes), 4), np.float32)
        for index, shape in enumerate(self.shapes):
            rows, columns = shape.extent
            # (h, w): its pixels that no later shape covers.
            seen = self.owner[shape.extent] == index + 1
            used_rows, used_columns = seen.any(axis=1).nonzero()[0], seen.any(axis=0).nonzero()[0]
            boxes[index, 0::2] = columns.start + used_columns[0], columns.start + used_columns[-1] + 1
            boxes[index, 1::2] = rows.start + used_rows[0], rows.start + used_rows[-1] + 1
        return boxes, np.array(self.visible, np.float32)

    def place(self, shape: Shape) -> bool:
        """Put a shape on top unless it would hide too much of an earlier one; return whether it was placed."""
        extent, inside = self.owner[shape.extent], shape.distance < 0
        # How many pixels it takes from the background and from each earlier shape, (1 + n,) counts.
        background, *covered = np.bincount(extent[inside], minlength=len(self.shapes) + 1).tolist()
        remaining = [seen - lost for seen, lost in zip(self.visible, covered, strict=True)]
        if any(left < MIN_VISIBLE * full for left, full in zip(remaining, self.drawn, strict=True)):
            return False
        self.shapes.append(shape)
        self.drawn.append(background + sum(covered))
        self.visible = [*remaining, self.drawn[-1]]
        extent[inside] = len(self.shapes)
        return True


def count_objects(rng: np.random.Generator, max_objects: int) -> int:
    """Return the number of objects, 1..max_objects: the first thing drawn from an image's generator.

    The square makes small numbers more frequent: of 3 at most, 58 % have one object, 24 % two, 18 % three.
    """
    return 1 + int(rng.random() ** 2 * max_objects)


def plan_scene(rng: np.random.Generator, *, size: int, max_objects: int) -> Scene:
    """Place `count_objects` shapes of random class, size, place and tilt in an image of `size` x `size` pixels."""
    scene = Scene(size)
    for _ in range(count_objects(rng, max_objects)):
        label = 1 + int(rng.random() * len(CLASS_NAMES))
        # In parts of the image's side: the scene is the same at every --image_size.
        diameter = SMALLEST + (LARGEST - SMALLEST) * rng.random()
        while not scene.place(_random_shape(rng, label, diameter * size / 2, size)):
            diameter = max(SMALLEST, diameter * SHRINK)
    return scene


def paint(scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """Paint a scene on a fresh background; return (3, S, S) uint8."""
    canvas = random_background(rng, scene.size)
    colours = np.empty((len(scene.shapes), 3), np.float32)
    for index, shape in enumerate(scene.shapes):
        region = canvas[(slice(None), *shape.extent)]
        colours[index] = _pick_colour(rng, _neighbours(region, scene.owner[shape.extent], colours[:index]))
        # One pixel wide edge: half covered where the outline passes through the pixel's centre.
        alpha = np.clip(0.5 - shape.distance, 0.0, 1.0)
        region += alpha * (_shaded(rng, colours[index], shape.distance.shape) - region)
    add_grain(canvas, rng)
    canvas *= 255
    # Rounds to the nearest byte, for `astype` cuts off.
    canvas += 0.5
    return np.clip(canvas, 0, 255, out=canvas).astype(np.uint8)


def _random_shape(rng: np.random.Generator, label: int, radius: float, size: int) -> Shape:
    """Draw one shape of the class with the given circumscribed radius (pixels) at a random place and tilt."""
    x, y, turn, form = rng.random(4).tolist()
    margin = 0.8 * radius  # a little of a shape may lie outside the image
    centre_x, centre_y = margin + x * (size - 2 * margin), margin + y * (size - 2 * margin)
    rows, columns = _window(centre_y, radius, size), _window(centre_x, radius, size)
    dx = np.arange(columns.start, columns.stop, dtype=np.float32) + 0.5 - centre_x
    dy = (np.arange(rows.start, rows.stop, dtype=np.float32) + 0.5 - centre_y)[:, None]
    angle = (2 * turn - 1) * TILT
    if label in (TRIANGLE, STAR):
        angle -= math.pi / 2  # one corner points up
    if label == ELLIPSE:
        distance = _ellipse(dx, dy, angle, radius, radius * (0.5 + 0.5 * form))
    elif label == STAR:
        distance = _star(dx, dy, angle, radius)
    else:
        distance = _polygon(dx, dy, _corners(label, angle, form), radius)
    return Shape(label, (rows, columns), distance)


def _window(centre: float, radius: float, size: int) -> slice:
    """Return the pixels along one axis that a shape and its antialiased edge can reach."""
    return slice(max(0, math.floor(centre - radius - 1)), min(size, math.ceil(centre + radius + 1)))


def _corners(label: int, angle: float, form: float) -> list[float]:
    """Return the angles, ascending, of a polygon's corners on its circle; `form` in 0..1 varies its proportions."""
    if label == RECTANGLE:
        half = math.atan(0.45 + 0.55 * form)  # side ratio 0.45..1
        corners = [-half, half, math.pi - half, math.pi + half]
    else:
        lean = (form - 0.5) * 0.7  # one corner of the triangle moves by up to 20 degrees
        corners = [lean, 2 * math.pi / 3, 4 * math.pi / 3]
    return [angle + corner for corner in corners]


def _line(dx: np.ndarray, dy: np.ndarray, normal: float, offset: float) -> np.ndarray:
    """Return the distance (h, w) of every pixel from a line, positive on the side its normal (radians) points to."""
    return dx * math.cos(normal) + (dy * math.sin(normal) - offset)


def _polygon(dx: np.ndarray, dy: np.ndarray, corners: list[float], radius: float) -> np.ndarray:
    """Return the distance from a convex polygon inscribed in a circle: the largest distance from its edges' lines."""
    following = [*corners[1:], corners[0] + 2 * math.pi]
    # Each edge as its normal's angle and its distance from the centre.
    # The chord between angles a and b is at right angles to their bisector, r cos((b - a) / 2) from the centre.
    edges = [((b + a) / 2, radius * math.cos((b - a) / 2)) for a, b in zip(corners, following, strict=True)]
    distance = _line(dx, dy, *edges[0])
    for edge in edges[1:]:
        np.maximum(distance, _line(dx, dy, *edge), out=distance)
    return distance


def _star(dx: np.ndarray, dy: np.ndarray, angle: float, radius: float) -> np.ndarray:
    """Return the distance from a five-pointed star: its points lie beyond at most one of the pentagram's five lines.

    So the second largest distance from the lines decides; the chords of a pentagram lie at radius * cos(72 degrees).
    """
    step = 2 * math.pi / 5
    largest = _line(dx, dy, angle, radius * math.cos(step))
    second = np.full_like(largest, -np.inf)
    for k in range(1, 5):
        line = _line(dx, dy, angle + k * step, radius * math.cos(step))
        np.maximum(second, np.minimum(largest, line), out=second)
        np.maximum(largest, line, out=largest)
    return second


def _ellipse(dx: np.ndarray, dy: np.ndarray, angle: float, major: float, minor: float) -> np.ndarray:
    """Return the distance from an ellipse with the given half axes: exact on the outline, approximate near it."""
    along = _line(dx, dy, angle, 0.0) / major
    across = _line(dx, dy, angle + math.pi / 2, 0.0) / minor
    # In half axes the ellipse is the unit circle; times the minor one it is about pixels, near the outline.
    return (np.sqrt(along * along + across * across) - 1) * minor


def _neighbours(region: np.ndarray, owner: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """Return the colours (M, 3) that a shape must stand out from: background and earlier shapes in its extent.

    region: (3, h, w) of the canvas; owner: (h, w) as in Scene; colours: (k, 3) of the shapes painted so far.
    """
    background = (owner[::2, ::2] == 0).astype(np.float32)  # every other pixel tells enough
    mean = (region[:, ::2, ::2] * background).sum(axis=(1, 2)) / max(1.0, float(background.sum()))
    touched = np.bincount(owner.ravel(), minlength=len(colours) + 1)[1 : len(colours) + 1] > 0
    return np.concatenate([mean[None], colours[touched]])


def _contrast(colours: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the distance 0..1 between every colour (N, 3) and its nearest of others (M, 3)."""
    # (N, 1, 3) - (M, 3) = (N, M, 3).
    difference = colours[:, None] - others
    return np.sqrt((difference * difference * CHANNEL_WEIGHTS).sum(axis=2)).min(axis=1)


def _pick_colour(rng: np.random.Generator, neighbours: np.ndarray) -> np.ndarray:
    """Return the first of some random colours that stands out from every neighbour (M, 3), else the best of them."""
    candidates = rng.random((16, 3), dtype=np.float32)
    contrast = _contrast(candidates, neighbours)
    enough = contrast >= MIN_CONTRAST
    return candidates[enough.argmax() if enough.any() else contrast.argmax()]


def _shaded(rng: np.random.Generator, colour: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return a (3, h, w) fill: the colour with a soft light across it."""
    slope_x, slope_y = ((rng.random(2) - 0.5) * 0.3).tolist()
    height, width = shape
    # A plane that is about 1 in the middle of the picture: the colour on the whole stays what was drawn.
    light = np.arange(width, dtype=np.float32) * (2 * slope_x / width) + (1 - slope_x - slope_y)
    light = light + (np.arange(height, dtype=np.float32) * (2 * slope_y / height))[:, None]
    return colour[:, None, None] * light
