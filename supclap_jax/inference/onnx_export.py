"""The towers as ONNX, by jax2onnx; each file is run once and compared before it counts."""

import logging
from pathlib import Path
from unittest import mock

import flax.linen as nn
import jax
import numpy as np

from supclap_jax.errors import ConfigError
from supclap_jax.inference.loaded_model import LoadedModel
from supclap_jax.inference.towers import Tower, towers_of
from supclap_jax.models import transformer
from supclap_jax.models.tokens import END_ID, PAD_ID

TOLERANCE = 1e-4
BATCH = 3  # of the comparison
INSTALL = "pip install onnxruntime onnx_ir dm_pix equinox && pip install --no-deps jax2onnx==0.17.1"


class Unrolled(nn.Module):
    """A stack of blocks, one after the other: jax2onnx cannot follow the scan over them.

    Attributes:
      options: of `Block`.
    """

    options: dict

    def __call__(self, x: jax.Array, valid: jax.Array | None, train: bool) -> tuple:
        """As the stack of `transformer.blocks`, of whose parameters it makes use."""
        stacked = self.variables["params"]
        block = transformer.Block(**self.options, parent=None)
        for layer in range(len(jax.tree.leaves(stacked)[0])):
            params = jax.tree.map(lambda leaf, layer=layer: leaf[layer], stacked)
            x, _ = block.apply({"params": params}, x, valid, train)
        return x, None


def _blocks(
    depth: int, *, scan_layers: bool, remat: str, saved: tuple, offloaded: tuple, **options
) -> Unrolled:
    return Unrolled(options)


def write_onnx(model: LoadedModel, folder: Path) -> None:
    """Writes `audio.onnx` and `text.onnx`, of a batch of any size.

    Raises:
      ConfigError: jax2onnx is missing, a tower is too large, or cannot be converted.
    """
    try:
        import onnx
        import onnxruntime  # noqa: F401
        from jax2onnx import to_onnx
    except ImportError as error:
        raise ConfigError(
            f"--format=onnx needs jax2onnx and onnxruntime ({error}); install them with '{INSTALL}'"
        ) from error
    for name in ("jax2onnx", "onnx_ir"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for tower in towers_of(model, "ONNX"):
        path = folder / f"{tower.name}.onnx"
        arguments = [
            jax.ShapeDtypeStruct(("batch", *array.shape), array.dtype)
            for array in tower.inputs.values()
        ]
        try:
            with mock.patch.object(transformer, "blocks", _blocks):
                program = to_onnx(
                    tower.encode,
                    inputs=arguments,
                    model_name=tower.name,
                    input_names=list(tower.inputs),
                    output_names=["embedding"],
                )
        except Exception as error:  # of a converter that meets what it does not know
            reason = str(error).splitlines()[0] if str(error) else repr(error)
            raise ConfigError(
                f"the {tower.name} encoder cannot be converted to ONNX ({reason}); export it with "
                "--format=stablehlo"
            ) from error
        _mend_pads(program)
        onnx.helper.set_model_props(program, {"space": model.space})
        onnx.save(program, path)
        difference = _difference(tower, path, model.tokenizer.pieces)
        if not difference <= TOLERANCE:
            raise ConfigError(
                f"the {tower.name} encoder as ONNX differs by {difference:.2g}, more than "
                f"{TOLERANCE:g}; export it with --format=stablehlo"
            )


def _mend_pads(program) -> None:
    """Gives what pads a float32 array that type; jax2onnx makes it float64 behind a `where`."""
    import onnx

    fills = {node.input[2] for node in program.graph.node if node.op_type == "Pad"}
    for constant in program.graph.initializer:
        if constant.name in fills and constant.data_type == onnx.TensorProto.DOUBLE:
            value = onnx.numpy_helper.to_array(constant).astype(np.float32)
            constant.CopyFrom(onnx.numpy_helper.from_array(value, constant.name))


def _difference(tower: Tower, path: Path, pieces: int) -> float:
    """Largest difference of an embedding from JAX's, of noise or some tokens of so many."""
    import onnxruntime

    rng = np.random.default_rng(0)
    if tower.name == "audio":
        samples = tower.inputs["waveform"].shape[0]
        lengths = np.linspace(samples // 2, samples, BATCH).astype(np.int32)
        given = [rng.uniform(-0.5, 0.5, (BATCH, samples)).astype(np.float32), lengths]
    else:
        (length,) = tower.inputs["tokens"].shape
        tokens = np.full((BATCH, length), PAD_ID, np.int32)
        tokens[:, : length // 2] = rng.integers(END_ID, pieces, (BATCH, length // 2))
        given = [tokens]
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, dict(zip(tower.inputs, given, strict=True)))
    return float(np.abs(found - np.asarray(jax.jit(tower.encode)(*given))).max())
