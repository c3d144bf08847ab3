"""The losses of the golden file, which holds float64 values and gradients of each."""

from functools import partial
from pathlib import Path

import numpy as np

from supclap_jax.losses import (
    info_nce,
    radius_constraint,
    siglip,
    supclap,
    svr,
    symmetric_info_nce,
)
from supclap_jax.losses.similarity import distance

GOLDEN = dict(np.load(Path(__file__).parents[1] / "golden" / "losses.npz", allow_pickle=False))
IDS = GOLDEN["ids"].astype(np.int32)


def nce_text_to_audio(audio, text, logit_scale, **options):
    return info_nce(text, audio, logit_scale, **options)


def nce_svr(audio, text, audio_radius, text_radius, logit_scale, direction, **options):
    contrast = partial(info_nce, logit_scale=logit_scale, **options)
    return svr(audio, text, audio_radius, text_radius, contrast, direction=direction)


def siglip_svr(
    audio, text, audio_radius, text_radius, siglip_scale, siglip_bias, direction, **options
):
    contrast = partial(siglip, logit_scale=siglip_scale, logit_bias=siglip_bias, **options)
    return svr(audio, text, audio_radius, text_radius, contrast, direction=direction)


def constraint(audio, text, text_radius):
    return radius_constraint(text_radius, distance(audio, text))


def objective(audio, text, audio_radius, text_radius, logit_scale, **options):
    radii = {"audio_radius": audio_radius, "text_radius": text_radius}
    return supclap(audio, text, logit_scale, **radii, **options)[0]


PAIR = ("audio", "text")
RADII = ("audio_radius", "text_radius")
SIGLIP = ("siglip_scale", "siglip_bias")
CASES = {
    "info_nce_text_to_audio": (nce_text_to_audio, (*PAIR, "logit_scale")),
    "info_nce_audio_to_text": (info_nce, (*PAIR, "logit_scale")),
    "symmetric_info_nce": (symmetric_info_nce, (*PAIR, "logit_scale")),
    "siglip": (siglip, (*PAIR, *SIGLIP)),
    "radius_constraint_text": (constraint, (*PAIR, "text_radius")),
    "supclap_info_nce": (objective, (*PAIR, *RADII, "logit_scale")),
}
for same_id in ("positive", "ignore"):
    for name in ("info_nce_text_to_audio", "symmetric_info_nce", "siglip"):
        function, inputs = CASES[name]
        with_ids = partial(function, ids=IDS, same_id=same_id)
        CASES[f"{name}_ids_{same_id}"] = (with_ids, inputs)
for direction in ("both", "text_to_audio", "audio_to_text"):
    CASES[f"svr_info_nce_{direction}"] = (
        partial(nce_svr, direction=direction),
        (*PAIR, *RADII, "logit_scale"),
    )
    CASES[f"svr_siglip_{direction}"] = (
        partial(siglip_svr, direction=direction),
        (*PAIR, *RADII, *SIGLIP),
    )


# Largest errors of values and of gradients: relative, and to the largest entry.
ERRORS = {"float32": (2e-5, 2e-5), "float64": (1e-12, 1e-6)}
