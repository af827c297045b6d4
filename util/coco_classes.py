"""The class names of COCO by category id: what the published models, whose files hold no names, were trained on."""

#: The 80 things. Ids up to 90 that are missing here were never annotated.
COCO_NAMES = {
    id_: name
    for first, names in {
        1: "person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire hydrant",
        13: "stop sign, parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe",
        27: "backpack, umbrella",
        31: "handbag, tie, suitcase, frisbee, skis, snowboard, sports ball, kite, baseball bat, baseball glove, "
        "skateboard, surfboard, tennis racket, bottle",
        46: "wine glass, cup, fork, knife, spoon, bowl, banana, apple, sandwich, orange, broccoli, carrot, hot dog, "
        "pizza, donut, cake, chair, couch, potted plant, bed",
        67: "dining table",
        70: "toilet",
        72: "tv, laptop, mouse, remote, keyboard, cell phone, microwave, oven, toaster, sink, refrigerator",
        84: "book, clock, vase, scissors, teddy bear, hair drier, toothbrush",
    }.items()
    # Each line's first id, and the names that follow without a gap.
    for id_, name in enumerate(names.split(", "), start=first)
}

#: The 53 kinds of stuff that panoptic annotations add.
COCO_STUFF_NAMES = {
    92: "banner",
    93: "blanket",
    95: "bridge",
    100: "cardboard",
    107: "counter",
    109: "curtain",
    112: "door-stuff",
    118: "floor-wood",
    119: "flower",
    122: "fruit",
    125: "gravel",
    128: "house",
    130: "light",
    133: "mirror-stuff",
    138: "net",
    141: "pillow",
    144: "platform",
    145: "playingfield",
    147: "railroad",
    148: "river",
    149: "road",
    151: "roof",
    154: "sand",
    155: "sea",
    156: "shelf",
    159: "snow",
    161: "stairs",
    166: "tent",
    168: "towel",
    171: "wall-brick",
    175: "wall-stone",
    176: "wall-tile",
    177: "wall-wood",
    178: "water-other",
    180: "window-blind",
    181: "window-other",
    184: "tree-merged",
    185: "fence-merged",
    186: "ceiling-merged",
    187: "sky-other-merged",
    188: "cabinet-merged",
    189: "table-merged",
    190: "floor-other-merged",
    191: "pavement-merged",
    192: "mountain-merged",
    193: "grass-merged",
    194: "dirt-merged",
    195: "paper-merged",
    196: "food-other-merged",
    197: "building-other-merged",
    198: "rock-merged",
    199: "wall-other-merged",
    200: "rug-merged",
}

COCO_PANOPTIC_NAMES = COCO_NAMES | COCO_STUFF_NAMES

#: Class counts of the published models: the largest id + 1 of boxes, and of panoptic annotations in DETR.
DETECTION_COUNT, PANOPTIC_COUNT = 91, 250
