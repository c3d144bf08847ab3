"""What the hosts of a slice have to deliver, so that no step waits for its batch."""

import math
from collections.abc import Mapping

from jax import ShapeDtypeStruct

# Seconds of audio that a core decodes in a second from prepared sets: 427 clips of 10 s, on each of
# two cores (benchmarks/results/input.json).
DECODED_PER_CORE = 4_270
STORED_PER_SECOND = 32_000  # bytes of 16 bit mono at 16 kHz, which FLAC makes fewer


def host_needs(
    batch: Mapping[str, ShapeDtypeStruct], seconds: float, step_seconds: float, hosts: int
) -> dict[str, float]:
    """Of each host, so that steps take `step_seconds`.

    Args:
      batch: of all hosts, [clips, ...].
      seconds: of audio in a clip; stored clips are taken to be no longer.
      step_seconds: of a step.
      hosts: that share the batch.

    Returns:
      "hosts", "clips_per_second", "stored_bytes_per_second" at most, "decoding_cores", and
      "device_bytes_per_second", from the memory of the host to that of its devices.
    """
    clips = batch["audio"].shape[0] / step_seconds / hosts
    carried = sum(math.prod(array.shape) * array.dtype.itemsize for array in batch.values())
    return {
        "hosts": hosts,
        "clips_per_second": clips,
        "stored_bytes_per_second": clips * seconds * STORED_PER_SECOND,
        "decoding_cores": clips * seconds / DECODED_PER_CORE,
        "device_bytes_per_second": carried / step_seconds / hosts,
    }
