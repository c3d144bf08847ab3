"""Memory traffic read from the text of programs."""

import pytest

from supclap_jax.planning import hlo
from supclap_jax.planning.communication import collectives

OPTIMIZED = True

PROGRAM = """HloModule by_hand

%fused (big: f32[10,100], at: s32[]) -> f32[1,100] {
  %big = f32[10,100]{1,0} parameter(0)
  %at = s32[] parameter(1)
  %zero = s32[] constant(0)
  ROOT %row = f32[1,100]{1,0} dynamic-slice(%big, %at, %zero), dynamic_slice_sizes={1,100}
}

ENTRY %main (big: f32[10,100], at: s32[]) -> f32[1,100] {
  %big.1 = f32[10,100]{1,0} parameter(0)
  %at.1 = s32[] parameter(1)
  %row.1 = f32[1,100]{1,0} fusion(%big.1, %at.1), kind=kLoop, calls=%fused
  %near = f32[1,100]{1,0:S(1)} copy(%row.1)
  %all = (f32[1,100]{1,0}, f32[4,100]{1,0}) all-gather-start(%row.1), replica_groups={{0,1,2,3}}
  %whole = f32[4,100]{1,0} all-gather-done(%all)
  ROOT %doubled = f32[1,100]{1,0} add(%near, %near)
}
"""


def test_reads_what_is_written_by_hand():
    """A slice of a row reads a row, not the array; what lies in fast memory costs nothing."""
    program = hlo.parse(PROGRAM)
    row = 400
    assert collectives(program) == {
        "all-gather": {"count": 1, "bytes": 3 * row, "exposed": 3 * row}
    }
    fusion, copy, gather, add = row + 4 + row, row, row + 4 * row, row
    assert hlo.hbm_bytes(program) == fusion + copy + gather + add


def test_what_is_no_program_is_refused():
    with pytest.raises(ValueError, match="no ENTRY computation"):
        hlo.parse("nothing")
