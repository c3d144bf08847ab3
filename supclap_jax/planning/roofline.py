"""How fast a step can be at best: what each part of a chip needs for its share of the work."""

from supclap_jax.planning.chips import Chip


def floor(
    chip: Chip, flops: float, hbm_bytes: float, sent_bytes: float, exposed_bytes: float = 0
) -> dict:
    """Seconds that one step takes at least, each part of a chip at its peak and all at once.

    The roofline model (Williams et al., 2009) with the interconnect as a third roof. Real steps
    are slower: collectives wait for products, and neither is ever at its peak.

    Args:
      chip: of `CHIPS`.
      flops: operations of one chip, all of them in bfloat16 on the matrix unit.
      hbm_bytes: that it reads from its memory and writes to it.
      sent_bytes: that it sends to other chips, over all links.
      exposed_bytes: of these, what nothing else hides.

    Returns:
      seconds of "matrix", "hbm" and "interconnect"; "seconds", the longest, and which is
      "bound_by"; "with_exposed", the longest where what is exposed takes its time alone.
    """
    parts = {
        "matrix": flops / chip.flops,
        "hbm": hbm_bytes / chip.hbm_rate,
        "interconnect": sent_bytes / chip.ici_rate,
    }
    longest = max(parts, key=parts.get)
    alone = exposed_bytes / chip.ici_rate
    hidden = {**parts, "interconnect": parts["interconnect"] - alone}
    return {
        **parts,
        "seconds": parts[longest],
        "bound_by": longest,
        "with_exposed": max(hidden.values()) + alone,
    }
