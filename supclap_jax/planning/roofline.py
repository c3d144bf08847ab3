"""How fast a step can be at best: what each part of a chip needs for its share of the work."""

from typing import NamedTuple

from supclap_jax.planning.chips import Chip


class Sent(NamedTuple):
    """Bytes that a chip sends, and which of them nothing else hides."""

    bytes: float = 0
    exposed: float = 0


NOTHING = Sent()


def floor(
    chip: Chip, flops: float, hbm_bytes: float, links: Sent = NOTHING, network: Sent = NOTHING
) -> dict:
    """Seconds that one step takes at least, each part of a chip at its peak and all at once.

    The roofline model (Williams et al., 2009) with the interconnect, and the network between slices
    where anything crosses it, as further roofs. Real steps are slower: collectives wait for
    products, and neither is ever at its peak.

    Args:
      chip: of `CHIPS`.
      flops: operations of one chip, all of them in bfloat16 on the matrix unit.
      hbm_bytes: that it reads from its memory and writes to it.
      links: what it sends to other chips of its slice, over all links.
      network: what it sends to other slices.

    Returns:
      seconds of "matrix", "hbm", "interconnect" and, if it is used, "network"; "seconds", the
      longest, and which is "bound_by"; "with_exposed", the longest where what is exposed takes its
      time alone.
    """
    parts = {"matrix": flops / chip.flops, "hbm": hbm_bytes / chip.hbm_rate}
    hidden, alone = dict(parts), 0
    for name, sent, rate in (
        ("interconnect", links, chip.ici_rate),
        ("network", network, chip.network_rate),
    ):
        if sent.bytes or name == "interconnect":
            parts[name] = sent.bytes / rate
            hidden[name] = (sent.bytes - sent.exposed) / rate
            alone += sent.exposed / rate
    longest = max(parts, key=parts.get)
    return {
        **parts,
        "seconds": parts[longest],
        "bound_by": longest,
        "with_exposed": max(hidden.values()) + alone,
    }
