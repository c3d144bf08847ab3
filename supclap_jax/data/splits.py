"""The splits of a data set: their names here, and what published layouts call them."""

SPLITS = ("train", "validation", "test")
CLOTHO = dict(zip(SPLITS, ("development", "validation", "evaluation"), strict=True))
AUDIOCAPS = dict(zip(SPLITS, ("train", "val", "test"), strict=True))
