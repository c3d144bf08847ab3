"""The towers as StableHLO: programs with their weights that need no code of ours."""

from pathlib import Path

import jax
from jax import export

from supclap_jax.inference.loaded_model import LoadedModel
from supclap_jax.inference.towers import towers_of

PLATFORMS = ("cpu", "cuda", "tpu")


def write_stablehlo(model: LoadedModel, folder: Path) -> None:
    """Writes `audio.stablehlo` and `text.stablehlo`, of a batch of any size.

    They are what `jax.export.deserialize` reads.

    Raises:
      ConfigError: a tower is too large.
    """
    import flatbuffers  # noqa: F401  # what `serialize` needs, and would miss after the tracing

    (batch,) = export.symbolic_shape("batch")
    for tower in towers_of(model, "StableHLO"):
        arguments = [
            jax.ShapeDtypeStruct((batch, *array.shape), array.dtype)
            for array in tower.inputs.values()
        ]
        program = export.export(jax.jit(tower.encode), platforms=PLATFORMS)(*arguments)
        (folder / f"{tower.name}.stablehlo").write_bytes(program.serialize())
