"""Collectives and memory traffic read from compiled programs and from text written by hand."""

from functools import partial

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType, PartitionSpec

from supclap_jax.planning import hlo

OPTIMIZED = True

BYTES = 4 * 64  # of the local array [8, 8]


def compiled(body):
    mesh = jax.make_mesh((8,), ("x",), (AxisType.Auto,))
    split = PartitionSpec("x")
    spread = jax.shard_map(body, mesh=mesh, in_specs=split, out_specs=split, check_vma=False)
    return hlo.parse(jax.jit(spread).lower(jnp.zeros([64, 8])).compile().as_text())


def ring(x):
    return jax.lax.ppermute(x, "x", [(i, (i + 1) % 8) for i in range(8)])


@pytest.mark.parametrize(
    ("kind", "body", "sent"),
    [
        ("all-reduce", partial(jax.lax.psum, axis_name="x"), 2 * 7 / 8 * BYTES),
        ("all-gather", partial(jax.lax.all_gather, axis_name="x", tiled=True), 7 * BYTES),
        ("reduce-scatter", partial(jax.lax.psum_scatter, axis_name="x", tiled=True), 7 / 8 * BYTES),
        (
            "all-to-all",
            partial(jax.lax.all_to_all, axis_name="x", split_axis=0, concat_axis=0, tiled=True),
            7 / 8 * BYTES,
        ),
        ("collective-permute", ring, BYTES),
    ],
)
def test_counts_what_a_device_sends(kind, body, sent):
    assert hlo.collectives(compiled(body)) == {kind: {"count": 1, "bytes": sent}}


def test_a_loop_counts_as_often_as_it_turns():
    """Five turns of a loop of three, each with a shift of its own."""

    def turns(body, count):
        return lambda x: jax.lax.scan(lambda x, _: (body(x), None), x, length=count)[0]

    found = hlo.collectives(compiled(turns(turns(lambda x: ring(x) + 1, 3), 5)))
    assert found == {"collective-permute": {"count": 15, "bytes": 15 * BYTES}}


def test_gathers_of_one_channel_count_each():
    """All collectives of a `shard_map` share a channel; the second one gathers twice as much."""

    def twice(x):
        whole = jax.lax.all_gather(x, "x", tiled=True)
        again = jax.lax.all_gather(jnp.sin(whole)[:16], "x", tiled=True)
        return again.sum(0, keepdims=True) + x

    found = hlo.collectives(compiled(twice))
    assert found == {"all-gather": {"count": 2, "bytes": 7 * (BYTES + 2 * BYTES)}}


def test_without_other_devices_nothing_is_sent():
    program = jax.jit(lambda x: x @ x).lower(jnp.zeros([64, 64])).compile()
    assert hlo.collectives(hlo.parse(program.as_text())) == {}


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
    assert hlo.collectives(program) == {"all-gather": {"count": 1, "bytes": 3 * row}}
    fusion, copy, gather, add = row + 4 + row, row, row + 4 * row, row
    assert hlo.hbm_bytes(program) == fusion + copy + gather + add


PIECES = """HloModule pieces

%all-reduce-scatter.1 (x: bf16[16,64]) -> bf16[1,64] {
  %x = bf16[16,64]{1,0} parameter(0)
  %sum = bf16[16,64]{1,0} all-reduce(%x), replica_groups={{0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15}}
  %at = s32[] constant(0)
  ROOT %mine = bf16[1,64]{1,0} dynamic-slice(%sum, %at, %at), dynamic_slice_sizes={1,64}
}

%piece.1 (x: bf16[1,64]) -> bf16[16,64] {
  %x = bf16[1,64]{1,0} parameter(0)
  ROOT %all.1 = bf16[16,64]{1,0} all-gather(%x), channel_id=7, GROUPS, dimensions={0}
}

%piece.2 (x: bf16[1,64]) -> bf16[16,64] {
  %x = bf16[1,64]{1,0} parameter(0)
  ROOT %all.2 = bf16[16,64]{1,0} all-gather(%x), channel_id=7, GROUPS, dimensions={0}
}

ENTRY %main (x: bf16[16,64]) -> bf16[16,64] {
  %x = bf16[16,64]{1,0} parameter(0)
  %part = bf16[1,64]{1,0} fusion(%x), kind=kCustom, calls=%all-reduce-scatter.1
  %begin = bf16[16,64]{1,0} fusion(%part), kind=kCustom, calls=%piece.1
  ROOT %end = bf16[16,64]{1,0} fusion(%part), kind=kCustom, calls=%piece.2
}
""".replace("GROUPS", "replica_groups=mesh['a'=2,'b'=16], device_ids=([2,16]T(1,0)) {'b'}")


def test_what_a_tpu_runs_in_pieces_counts_once():
    row = 2 * 64
    assert hlo.collectives(hlo.parse(PIECES)) == {
        "all-gather": {"count": 1, "bytes": 15 * row},
        "reduce-scatter": {"count": 1, "bytes": 15 * row},
    }


def test_what_is_no_program_is_refused():
    with pytest.raises(ValueError, match="no ENTRY computation"):
        hlo.parse("nothing")
