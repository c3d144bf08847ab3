"""What one chip of each TPU generation can do.

Rates are from Google's system architecture pages, https://docs.cloud.google.com/tpu/docs/v4, /v5e,
/v5p and /v6e. Their interconnect counts both directions ("bidirectional"), half of which a chip can
send. They give none for v4: its six links of 50 GB/s each way are from Jouppi et al. (2023),
arXiv:2304.01433. Of the 32, 16, 95 and 32 GiB on those pages a program can use what the compiler in
libtpu 0.0.42.1 says when a program needs more.
"""

from dataclasses import dataclass, field

GIB = 2**30


@dataclass(frozen=True)
class Chip:
    """A TPU chip.

    Attributes:
      flops: peak bfloat16 operations per second; a multiplication with an addition is two.
      hbm_bytes: memory that a program can use.
      hbm_rate: bytes per second read and written together.
      ici_rate: bytes per second sent to other chips, over all links.
      options: of a topology, to have one device a chip.
    """

    flops: float
    hbm_bytes: int
    hbm_rate: float
    ici_rate: float
    options: dict[str, str] = field(default_factory=dict)


CHIPS = {
    "v4": Chip(275e12, int(30.75 * GIB), 1200e9, 300e9, {"chip_config_name": "megacore"}),
    "v5e": Chip(197e12, int(15.75 * GIB), 819e9, 200e9),
    "v5p": Chip(459e12, int(95.74 * GIB), 2765e9, 600e9),
    "v6e": Chip(918e12, int(31.25 * GIB), 1638e9, 400e9),
}
