"""Contrastive losses as pure functions of arrays; needs only jax and numpy."""

from .base import BASES, BaseLoss, Decoupled, Sigmoid, Softmax
from .contraction import contract
from .forces import forces
from .info_nce import info_nce, symmetric_info_nce
from .intra_modal import intra_modal
from .microbatches import cached_value_and_grad
from .sharding import sharded
from .siglip import siglip
from .supclap import supclap
from .svr import radius_constraint, support_vectors, svr

__all__ = [
    "BASES",
    "BaseLoss",
    "Decoupled",
    "Sigmoid",
    "Softmax",
    "cached_value_and_grad",
    "contract",
    "forces",
    "info_nce",
    "intra_modal",
    "radius_constraint",
    "sharded",
    "siglip",
    "supclap",
    "support_vectors",
    "svr",
    "symmetric_info_nce",
]
