"""Contrastive language-audio pretraining with Support Vector Regularization in JAX."""

__version__ = "0.1.0"
