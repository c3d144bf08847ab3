"""Contrastive losses as pure functions of arrays; needs only jax and numpy."""

from supclap_jax.losses.base import BASES, BaseLoss
from supclap_jax.losses.forces import forces
from supclap_jax.losses.info_nce import info_nce, symmetric_info_nce
from supclap_jax.losses.sharding import sharded
from supclap_jax.losses.siglip import siglip
from supclap_jax.losses.supclap import supclap
from supclap_jax.losses.svr import radius_constraint, support_vectors, svr

__all__ = [
    "BASES",
    "BaseLoss",
    "forces",
    "info_nce",
    "radius_constraint",
    "sharded",
    "siglip",
    "supclap",
    "support_vectors",
    "svr",
    "symmetric_info_nce",
]
