"""The base loss of a config: one of the package's, or the user's own."""

from collections.abc import Callable

from ml_collections import ConfigDict

from supclap_jax.config.named_objects import is_reference, resolve
from supclap_jax.errors import ConfigError
from supclap_jax.losses import BASES, BaseLoss


def base_loss(config: ConfigDict) -> BaseLoss | Callable:
    """The loss that `loss.base` names: a `BaseLoss`, or a function of one direction (`supclap`).

    Raises:
      ConfigError: there is none of that name, it is neither, or it is a function although
        `loss.block_size` is set.
    """
    base, block_size = config.loss.base, config.loss.block_size
    loss = resolve("loss.base", base) if is_reference(base) else BASES[base]
    if isinstance(loss, BaseLoss):
        return loss
    if isinstance(loss, type) or not callable(loss):
        raise ConfigError(
            f"loss.base is {base!r}, which is {loss!r}; expected a function of "
            "(query, key, logit_scale), or an object of a subclass of supclap_jax.losses.BaseLoss"
        )
    if block_size is not None:
        raise ConfigError(
            f"loss.block_size is {block_size!r}, but loss.base {base!r} is a function; tiles need "
            "a loss object (supclap_jax.losses.BaseLoss): name one, or leave loss.block_size at "
            "None"
        )
    return loss


def takes_bias(config: ConfigDict) -> bool:
    """Whether the base loss adds a bias to the logits; raises as `base_loss`."""
    loss = base_loss(config)
    return isinstance(loss, BaseLoss) and loss.takes_bias
