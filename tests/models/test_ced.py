from functools import partial
from math import prod

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from supclap_jax.models.ced import CED, SIZES, leave_out, random_bands, resize_positions
from supclap_jax.models.log_mel import log_mel
from tests.models.golden import (
    CED_MODEL,
    CLIPS,
    EMBEDDING_ERROR,
    WAVEFORM_ERROR,
    cases_of,
    ced_weights_of,
    cut,
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def exact_matmuls():
    with jax.default_matmul_precision("highest"):
        yield


@pytest.fixture(scope="module")
def golden():
    return cases_of("ced_encoder.cases")


@pytest.fixture(scope="module", params=["original", "hf"])
def variables(request):
    return ced_weights_of(request.param)


@pytest.fixture(scope="module")
def original():
    return ced_weights_of("original")


embed = jax.jit(CED_MODEL.apply)
tokens = jax.jit(partial(CED_MODEL.apply, method="tokens"))


def test_weights_have_the_structure_of_the_model(variables):
    initial = jax.eval_shape(CED_MODEL.init, jax.random.key(0), jnp.zeros([1, 200, 64]))
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(jnp.shape, initial)


def test_tokens_match_the_reference(golden, variables):
    got, valid = tokens(variables, cut(golden, "f200")[None])
    assert valid is None
    np.testing.assert_allclose(got[0], golden["tokens.f200"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", CLIPS)
def test_embeddings_match_the_reference(golden, variables, name):
    got = embed(variables, cut(golden, name)[None])
    np.testing.assert_allclose(got[0], golden[f"embedding.{name}"], rtol=0, atol=EMBEDDING_ERROR)


def test_long_clips_of_a_batch_match_the_reference(golden, original):
    names = ["f1500_a", "f1500_b"]
    got = embed(original, np.stack([cut(golden, name) for name in names]))
    expected = np.stack([golden[f"embedding.{name}"] for name in names])
    np.testing.assert_allclose(got, expected, rtol=0, atol=EMBEDDING_ERROR)


def test_the_last_chunk_of_an_exact_multiple_counts(golden, original):
    got = embed(original, cut(golden, "f2024")[None])[0]
    assert np.abs(got - golden["upstream_wrong.f2024"]).max() > 0.1


@pytest.mark.parametrize("clip", ["loud", "quiet"])
def test_embeddings_of_waveforms_match_the_reference(golden, variables, clip):
    waveform = cases_of("ced_frontend")[f"waveform.{clip}"]
    got = embed(variables, log_mel(waveform[None]))
    np.testing.assert_allclose(got[0], golden[f"embedding.e2e_{clip}"], rtol=0, atol=WAVEFORM_ERROR)


@pytest.mark.parametrize("length", [200, 1100])
def test_an_embedding_does_not_depend_on_its_neighbours(golden, original, length):
    bank = golden["logmel_bank"].T
    clip, neighbour = bank[:length], 2 * bank[50 : 50 + length] + 30
    alone = embed(original, clip[None])
    np.testing.assert_allclose(alone, embed(original, np.stack([clip, neighbour]))[:1], atol=1e-5)
    np.testing.assert_allclose(alone, embed(original, np.stack([neighbour, clip]))[1:], atol=1e-5)


def padded(clips, length, padding):
    """The clips in one batch, garbage after their ends, and their lengths."""
    batch = np.full([len(clips), length, 64], padding, np.float32)
    for row, clip in zip(batch, clips, strict=True):
        row[: len(clip)] = clip
    return batch, np.array([len(clip) for clip in clips], np.int32)


@pytest.mark.parametrize("length", [2024, 2025, 2600, 3036])
def test_padding_changes_no_embedding(golden, original, length):
    names = list(CLIPS)
    batch, frames = padded([cut(golden, name) for name in names], length, padding=77.0)
    got = embed(original, batch, frames)
    expected = np.stack([golden[f"embedding.{name}"] for name in names])
    np.testing.assert_allclose(got, expected, rtol=0, atol=EMBEDDING_ERROR)


def test_lengths_of_whole_clips_change_nothing(golden, original):
    clips = np.stack([cut(golden, "f1500_a"), cut(golden, "f1500_b")])
    got = embed(original, clips, np.array([1500, 1500]))
    np.testing.assert_allclose(got, embed(original, clips), rtol=0, atol=1e-6)


def test_tokens_say_which_are_the_clips_own(golden, original):
    """A clip of 200 frames has 12 of the 63 columns in each of its 4 rows, and one chunk of 2."""
    batch, frames = padded([cut(golden, "f200"), cut(golden, "f1500_a")], 1500, padding=0)
    got, valid = tokens(original, batch, frames)
    own = np.arange(63) < np.array([[12], [0]])
    np.testing.assert_array_equal(valid[0], np.repeat(own, 4, axis=0).ravel())
    assert valid[1].all()
    np.testing.assert_allclose(np.asarray(got)[0][valid[0]], golden["tokens.f200"], atol=1e-5)


def test_training_statistics_are_of_the_clips_own_frames(golden, original):
    bank = golden["logmel_bank"].T
    clips = [bank[:300], bank[300:340], bank[340:1240]]
    batch, frames = padded(clips, 1300, padding=-50.0)
    model = CED_MODEL.clone(target_length=400)
    variables = jax.tree.map(np.copy, original)
    variables["params"]["time_pos_embed"] = variables["params"]["time_pos_embed"][:25]
    train = jax.jit(partial(model.apply, train=True, mutable=["batch_stats"]))
    got, updated = train(variables, batch, frames)
    own = np.concatenate(clips).astype(np.float64)
    new = {"mean": own.mean(0), "var": own.var(0)}
    for name in ("mean", "var"):
        expected = 0.99 * original["batch_stats"]["input_norm"][name] + 0.01 * new[name]
        np.testing.assert_allclose(updated["batch_stats"]["input_norm"][name], expected, rtol=1e-5)

    variables["batch_stats"]["input_norm"] = jax.tree.map(np.float32, new)
    for i, clip in enumerate(clips):
        np.testing.assert_allclose(got[i], model.apply(variables, clip[None])[0], atol=1e-5)


def test_gradients_beside_padding_are_finite(original):
    """Padded chunks have no patch to attend to, and one row is padding throughout."""
    batch = np.random.default_rng(0).normal(size=(3, 130, 64)).astype(np.float32)
    model = CED_MODEL.clone(target_length=32)
    variables = jax.tree.map(np.copy, original)
    variables["params"]["time_pos_embed"] = variables["params"]["time_pos_embed"][:2]

    def loss(params, frames):
        apply = partial(model.apply, train=True, mutable=["batch_stats"])
        return (apply({**variables, "params": params}, batch, frames)[0] ** 2).sum()

    gradient = jax.jit(jax.grad(loss))(variables["params"], np.array([130, 16, 0]))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


@pytest.mark.parametrize("share", [0.25, 0.5])
def test_left_out_tokens_are_that_share_of_each_rows_own(share):
    count = np.array([40, 12, 4, 1])
    valid = jnp.arange(40) < count[:, None]
    numbered = np.where(valid, np.arange(1, 41), -1)[..., None].astype(np.float32)
    drawn = []
    for seed in range(400):
        kept, still_valid = leave_out(jax.random.key(seed), numbered, valid, share)
        assert kept.shape == (4, 40 - int(share * 40), 1)
        np.testing.assert_array_equal(still_valid.sum(1), count - np.floor(share * count))
        kept, still_valid = np.asarray(kept)[..., 0], np.asarray(still_valid)
        own = [set(row[mask]) for row, mask in zip(kept, still_valid, strict=True)]
        assert [len(numbers) for numbers in own] == list(count - np.floor(share * count))
        assert all(-1 not in numbers for numbers in own)
        drawn.append([number in own[0] for number in range(1, 41)])
    np.testing.assert_allclose(np.mean(drawn, axis=0), 1 - share, atol=0.1)
    assert np.abs(np.corrcoef(np.transpose(drawn)) - np.eye(40)).max() < 0.25


def test_patch_out_without_padding_keeps_the_same_share():
    kept, valid = leave_out(jax.random.key(0), np.ones([2, 248, 3]), None, 0.4)
    assert kept.shape == (2, 149, 3)
    assert valid is None


def test_patch_out_and_dropout_act_in_training_only(golden, original):
    clips, frames = padded([cut(golden, "f200"), cut(golden, "f1500_a")[:300]], 320, padding=9.0)
    rngs = {"dropout": jax.random.key(0)}
    expected = embed(original, clips, frames)
    for options in ({"patch_out": 0.5}, {"dropout": 0.1}):
        model = CED_MODEL.clone(**options)
        evaluated = model.apply(original, clips, frames, rngs=rngs)
        np.testing.assert_allclose(evaluated, expected, atol=1e-5)
        train = partial(model.apply, original, train=True, mutable=["batch_stats"])
        first, _ = train(clips, frames, rngs=rngs)
        other, _ = train(clips, frames, rngs={"dropout": jax.random.key(1)})
        assert np.abs(first - other).max() > 0.01
        assert np.abs(first - expected).max() < 2
    (kept, valid), _ = CED_MODEL.clone(patch_out=0.5).apply(
        original, clips, frames, train=True, mutable=["batch_stats"], rngs=rngs, method="tokens"
    )
    assert kept.shape == (2, 40, 48)
    np.testing.assert_array_equal(valid.sum(1), [24, 36])


@pytest.mark.parametrize(("rows", "length"), [(63, 63), (63, 20), (63, 125), (5, 7), (1, 4)])
def test_positions_are_cut_or_interpolated_between_centres(rows, length):
    """Reference: numpy's linear interpolation, constant beyond the outer centres."""
    table = np.random.default_rng(0).normal(size=(rows, 8)).astype(np.float32)
    got = resize_positions(table, length)
    if length <= rows:
        np.testing.assert_array_equal(got, table[:length])
        return
    at = (np.arange(length) + 0.5) * rows / length - 0.5
    expected = np.stack([np.interp(at, np.arange(rows), column) for column in table.T], axis=1)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)


def test_training_moves_the_running_statistics_by_one_percent(golden, original):
    clips = np.stack([golden["logmel_bank"].T[:300], golden["logmel_bank"].T[300:600]])
    train = jax.jit(partial(CED_MODEL.apply, train=True, mutable=["batch_stats"]))
    got, updated = train(original, clips)
    old = original["batch_stats"]["input_norm"]
    new = {"mean": clips.mean((0, 1), np.float64), "var": clips.var((0, 1), np.float64)}
    for name in ("mean", "var"):
        expected = 0.99 * old[name] + 0.01 * new[name]
        np.testing.assert_allclose(updated["batch_stats"]["input_norm"][name], expected, rtol=1e-5)

    by_the_batch = {
        "params": original["params"],
        "batch_stats": {"input_norm": jax.tree.map(np.float32, new)},
    }
    np.testing.assert_allclose(got, embed(by_the_batch, clips), atol=1e-5)


@pytest.mark.parametrize(
    "size, published",
    [("tiny", 5_503_183), ("mini", 9_696_655), ("small", 21_622_543), ("base", 85_711_759)],
)
def test_parameter_counts_are_those_published(size, published):
    """The published totals count the tagging head, LayerNorm and Linear(dim, 527), and no buffer:
    neither running statistics nor the front end."""
    variables = jax.eval_shape(CED(**SIZES[size]).init, jax.random.key(0), jnp.zeros([1, 16, 64]))
    encoder = sum(prod(x.shape) for x in jax.tree.leaves(variables["params"]))
    dim = SIZES[size]["dim"]
    tagging_head = 2 * dim + 527 * dim + 527
    assert encoder + tagging_head == published


def test_initialisation():
    init = jax.jit(CED(dim=96, depth=1, heads=3).init)
    params = init(jax.random.key(0), jnp.zeros([1, 16, 64]))["params"]
    block = jax.tree.map(lambda leaf: leaf[0], params["blocks"])
    for kernel in (params["patch_embed"]["kernel"], block["qkv"]["kernel"], block["fc2"]["kernel"]):
        assert np.abs(kernel).max() <= 2 * 0.02
        np.testing.assert_allclose(np.std(kernel), 0.88 * 0.02, rtol=0.05)
    np.testing.assert_allclose(np.std(params["time_pos_embed"]), 0.02, rtol=0.05)
    np.testing.assert_allclose(np.std(params["freq_pos_embed"]), 0.02, rtol=0.2)
    assert not np.any(block["qkv"]["bias"])


def test_bfloat16_keeps_float32_parameters_and_embeddings(golden, original):
    model = CED_MODEL.clone(dtype=jnp.bfloat16)
    clips = cut(golden, "f200")[None]
    initial = jax.eval_shape(model.init, jax.random.key(0), clips)
    assert {x.dtype for x in jax.tree.leaves(initial)} == {jnp.dtype("float32")}
    got = jax.jit(model.apply)(original, clips)
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got[0], golden["embedding.f200"], atol=0.05)
    assert np.abs(got[0] - golden["embedding.f200"]).max() > 1e-4


def test_errors_name_both_values(original):
    with pytest.raises(ValueError, match="64 mel bins, got 80"):
        CED_MODEL.apply(original, jnp.zeros([1, 200, 80]))
    with pytest.raises(ValueError, match="at least 16 frames, got 15"):
        CED_MODEL.apply(original, jnp.zeros([1, 15, 64]))
    with pytest.raises(ValueError, match=r"dim 48 .* heads 5"):
        CED(dim=48, depth=1, heads=5).init(jax.random.key(0), jnp.zeros([1, 16, 64]))


def test_random_bands_stay_inside_the_clip():
    lengths = jnp.array([0, 5, 40, 100])
    marked = np.stack(
        [
            random_bands(jax.random.key(seed), lengths, 100, count=1, widest=10)
            for seed in range(300)
        ]
    )
    widths = marked.sum(axis=2)
    assert set(np.unique(widths[:, 0])) == {0}
    assert set(np.unique(widths[:, 1])) == set(range(6))
    assert set(np.unique(widths[:, 2])) == set(range(11))
    assert not marked[:, 2, 40:].any() and marked[:, 3].any(axis=0).all()
    edges = np.abs(np.diff(marked.astype(int), axis=2, prepend=0, append=0)).sum(axis=2)
    assert edges.max() == 2  # each is one band


def test_spec_augment_is_of_training_alone_and_leaves_padding_alone():
    """Random bands in training; padded clips get the same ones."""
    ced = CED(dim=16, depth=1, heads=2, time_masks=2, time_mask_frames=20, freq_masks=1)
    x = jax.random.normal(jax.random.key(0), (3, 64, 64))
    variables = CED(dim=16, depth=1, heads=2).init(jax.random.key(1), x)
    run = lambda x, seed, train, frames=None: ced.apply(  # noqa: E731
        variables,
        x,
        frames,
        train=train,
        mutable=["batch_stats"],
        rngs={"dropout": jax.random.key(seed)},
    )[0]
    plain = CED(dim=16, depth=1, heads=2).apply(variables, x)
    np.testing.assert_array_equal(run(x, 2, False), plain)
    first, second = run(x, 2, True), run(x, 3, True)
    assert np.abs(first - second).max() > 1e-3
    np.testing.assert_array_equal(run(x, 2, True), first)
    padded = jnp.pad(x, ((0, 0), (0, 32), (0, 0)), constant_values=7.0)
    frames = jnp.full(3, 64)
    np.testing.assert_allclose(run(padded, 2, True, frames), run(x, 2, True, frames), atol=1e-5)
