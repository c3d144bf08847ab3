"""What one device of each TPU generation can do: a chip, or half of one.

Rates are from Google's system architecture pages, https://docs.cloud.google.com/tpu/docs/v4, /v5e,
/v5p, /v6e and /tpu7x. A chip of tpu7x is two devices, of which each has half. Their interconnect
counts both directions ("bidirectional"), half of which a chip can send. They give none for v4: its
six links of 50 GB/s each way are from Jouppi et al. (2023), arXiv:2304.01433. The network between
slices has 6.4 Tb/s of a pod of 256 chips of v5e and 50 Gb/s of a chip of v5p, and, by the table of
TPUs in Compute Engine's documentation, 100 of one of v6e and tpu7x. Of the 32, 16, 95, 32 and 192
GiB on those pages a program can use what the compiler of libtpu 0.0.42.1 says when one needs more.
"""

from dataclasses import dataclass, field

GIB = 2**30


@dataclass(frozen=True)
class Chip:
    """A TPU chip, or one device of it.

    Attributes:
      flops: peak bfloat16 operations per second; a multiplication with an addition is two.
      hbm_bytes: memory that a program can use.
      hbm_rate: bytes per second read and written together.
      ici_rate: bytes per second sent to other chips, over all links.
      network_rate: bytes per second sent to other slices; None where it is not published.
      options: of a topology, to have one device a chip.
      a_chip: so many of these are.
    """

    flops: float
    hbm_bytes: int
    hbm_rate: float
    ici_rate: float
    network_rate: float | None
    options: dict[str, str] = field(default_factory=dict)
    a_chip: int = 1


CHIPS = {
    "v4": Chip(275e12, int(30.75 * GIB), 1200e9, 300e9, None, {"chip_config_name": "megacore"}),
    "v5e": Chip(197e12, int(15.75 * GIB), 819e9, 200e9, 6.4e12 / 8 / 256),
    "v5p": Chip(459e12, int(95.74 * GIB), 2765e9, 600e9, 50e9 / 8),
    "v6e": Chip(918e12, int(31.25 * GIB), 1638e9, 400e9, 100e9 / 8),
    "tpu7x": Chip(2307e12 / 2, int(94.75 * GIB), 7380e9 / 2, 600e9 / 2, 100e9 / 8 / 2, a_chip=2),
}
