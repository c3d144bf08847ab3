"""What devices of compiled programs, and of text written by hand, send each other."""

from functools import partial

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType, PartitionSpec

from supclap_jax.planning import hlo
from supclap_jax.planning.communication import between_slices, collectives

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
    assert collectives(compiled(body)) == {kind: {"count": 1, "bytes": sent, "exposed": sent}}


def test_a_loop_counts_as_often_as_it_turns():
    """Five turns of a loop of three, each with a shift of its own."""

    def turns(body, count):
        return lambda x: jax.lax.scan(lambda x, _: (body(x), None), x, length=count)[0]

    found = collectives(compiled(turns(turns(lambda x: ring(x) + 1, 3), 5)))
    assert found == {
        "collective-permute": {"count": 15, "bytes": 15 * BYTES, "exposed": 15 * BYTES}
    }


def test_gathers_of_one_channel_count_each():
    """All collectives of a `shard_map` share a channel; the second one gathers twice as much."""

    def twice(x):
        whole = jax.lax.all_gather(x, "x", tiled=True)
        again = jax.lax.all_gather(jnp.sin(whole)[:16], "x", tiled=True)
        return again.sum(0, keepdims=True) + x

    found = collectives(compiled(twice))
    assert found == {"all-gather": {"count": 2, "bytes": 21 * BYTES, "exposed": 21 * BYTES}}


def test_without_other_devices_nothing_is_sent():
    program = jax.jit(lambda x: x @ x).lower(jnp.zeros([64, 64])).compile()
    assert collectives(hlo.parse(program.as_text())) == {}


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
    assert collectives(hlo.parse(PIECES)) == {
        "all-gather": {"count": 1, "bytes": 15 * row, "exposed": 15 * row},
        "reduce-scatter": {"count": 1, "bytes": 15 * row, "exposed": 15 * row},
    }


def test_a_product_in_a_piece_hides_what_runs_in_pieces():
    product = "%y = bf16[16,16]{1,0} dot(%a, %b), lhs_contracting_dims={1}"
    line = "  ROOT %all.2 ="
    found = collectives(hlo.parse(PIECES.replace(line, f"  {product}\n{line}")))
    assert (found["all-gather"]["exposed"], found["reduce-scatter"]["exposed"]) == (0, 15 * 128)


CROSSING = """HloModule slices, is_scheduled=true

ENTRY %main (x: f32[8,8]) -> f32[8,8] {
  %x = f32[8,8]{1,0} parameter(0)
  %token = token[] after-all()
  %send = (f32[8,8]{1,0}, u32[], token[]) send(%x, %token), channel_id=2, ATTRIBUTES
  %recv = (f32[8,8]{1,0}, u32[], token[]) recv(%token), channel_id=1, ATTRIBUTES
  WORK
  %sent = token[] send-done(%send), channel_id=2
  ROOT %got = (f32[8,8]{1,0}, token[]) recv-done(%recv), channel_id=1
}
""".replace(
    "ATTRIBUTES",
    'frontend_attributes={_xla_host_transfer_rendezvous="a_0",_xla_megascale_transfer_type="KIND"}',
)


@pytest.mark.parametrize(
    ("kind", "share"), [("ALL_REDUCE", 4 / 3), ("ONE_TO_ONE", 1), ("ALL_GATHER", 2)]
)
@pytest.mark.parametrize("hidden", [True, False])
def test_what_crosses_slices(kind, share, hidden):
    """Of three: what a device of one of them sends to the others."""
    work = "%y = f32[8,8]{1,0} dot(%x, %x), lhs_contracting_dims={1}" if hidden else ""
    program = hlo.parse(CROSSING.replace("KIND", kind).replace("WORK", work))
    sent = round(share * BYTES)
    found = {"count": 1, "bytes": sent, "exposed": 0 if hidden else sent}
    name = {"ONE_TO_ONE": "collective-permute"}.get(kind, kind.lower().replace("_", "-"))
    assert between_slices(program, 3) == {name: found}
    assert collectives(program) == {}


SCHEDULE = """HloModule schedule, is_scheduled=true

%inside (a: f32[8,8]) -> f32[8,8] {
  %a = f32[8,8]{1,0} parameter(0)
  ROOT %product = f32[8,8]{1,0} OPERATION(%a, %a), window={}
}

ENTRY %main (x: f32[8,8], y: f32[8,8]) -> f32[8,8] {
  %x = f32[8,8]{1,0} parameter(0)
  %y = f32[8,8]{1,0} parameter(1)
  BEFORE
  %one = (f32[8,8]{1,0}, f32[32,8]{1,0}) all-gather-start(%x), replica_groups={{0,1,2,3}}
  BETWEEN
  %whole = f32[32,8]{1,0} all-gather-done(%one)
  AFTER
  ROOT %sum = f32[8,8]{1,0} all-reduce(%y), replica_groups={{0,1}}
}
"""
WORK = "%work = f32[8,8]{1,0} fusion(%y), kind=kOutput, calls=%inside"


@pytest.mark.parametrize(
    ("place", "operation", "hidden"),
    [
        ("BETWEEN", "dot", True),
        ("BETWEEN", "convolution", True),
        ("BETWEEN", "add", False),
        ("BEFORE", "dot", False),
        ("AFTER", "dot", False),
    ],
)
def test_a_product_between_start_and_end_hides_a_collective(place, operation, hidden):
    """What is not asynchronous is exposed in any case."""
    text = SCHEDULE.replace(place, WORK).replace("OPERATION", operation)
    for other in ("BEFORE", "BETWEEN", "AFTER"):
        text = text.replace(other, "")
    found = collectives(hlo.parse(text))
    assert found["all-gather"]["bytes"] == 3 * BYTES
    assert found["all-gather"]["exposed"] == (0 if hidden else 3 * BYTES)
    assert found["all-reduce"]["exposed"] == BYTES
