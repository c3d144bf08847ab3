"""Published weights of SONAR's text encoder: fairseq2's names, the original, and Hugging Face's."""

from collections.abc import Callable

import numpy as np

from supclap_jax.models.key_maps import Layout, Source, Transform, dense, norm
from supclap_jax.models.sonar import SONAR


def _reordered(rows: list[int]) -> Callable[[np.ndarray], np.ndarray]:
    """Takes the first rows in another order."""

    def reorder(table):
        return np.concatenate([table[rows], table[len(rows) :]])

    return reorder


FAIRSEQ2_VOCABULARY = Transform(  # <pad> <unk> <s> </s>; ours <s> <pad> </s> <unk>
    _reordered([2, 0, 3, 1]), _reordered([1, 3, 0, 2]), lambda shape: shape
)


def _sizes_of_sonar(embed: str, layer: str, hidden: str) -> dict[str, tuple[str, int | None]]:
    return {
        "text.dim": (embed, 1),
        "text.depth": (f"{layer}.self_attn_layer_norm.weight", None),
        "text.ffn_dim": (f"{layer}.{hidden}.bias".format(i=0), 0),
        "text.vocab_size": (embed, 0),
    }


SONAR_HEADS = {"text": {SONAR["dim"]: SONAR["heads"]}}
NON_COMMERCIAL = (
    "SONAR's published weights, and those trained from them, are licensed for non-commercial use "
    "only (CC-BY-NC 4.0)."
)

SONAR_HUGGINGFACE = Layout(
    name="SONAR text encoder, Hugging Face M2M100 names",
    tower="text",
    sources={
        "params/embed/embedding": Source(("embed_tokens.weight",)),
        **norm("params/blocks/norm1", "layers.{i}.self_attn_layer_norm"),
        **dense(
            "params/blocks/qkv",
            "layers.{i}.self_attn.q_proj",
            "layers.{i}.self_attn.k_proj",
            "layers.{i}.self_attn.v_proj",
        ),
        **dense("params/blocks/proj", "layers.{i}.self_attn.out_proj"),
        **norm("params/blocks/norm2", "layers.{i}.final_layer_norm"),
        **dense("params/blocks/fc1", "layers.{i}.fc1"),
        **dense("params/blocks/fc2", "layers.{i}.fc2"),
        **norm("params/norm", "layer_norm"),
    },
    sizes=_sizes_of_sonar("embed_tokens.weight", "layers.{i}", "fc1"),
    heads=SONAR_HEADS,
    leftovers={
        "version": "a version number of fairseq",
        "embed_positions.*": "sinusoids, which are computed",
    },
    notice=NON_COMMERCIAL,
)

SONAR_FAIRSEQ2 = Layout(
    name="SONAR text encoder, fairseq2 names",
    tower="text",
    sources={
        "params/embed/embedding": Source(("encoder_frontend.embed.weight",), FAIRSEQ2_VOCABULARY),
        **norm("params/blocks/norm1", "encoder.layers.{i}.self_attn_layer_norm"),
        **dense(
            "params/blocks/qkv",
            "encoder.layers.{i}.self_attn.q_proj",
            "encoder.layers.{i}.self_attn.k_proj",
            "encoder.layers.{i}.self_attn.v_proj",
        ),
        **dense("params/blocks/proj", "encoder.layers.{i}.self_attn.output_proj"),
        **norm("params/blocks/norm2", "encoder.layers.{i}.ffn_layer_norm"),
        **dense("params/blocks/fc1", "encoder.layers.{i}.ffn.inner_proj"),
        **dense("params/blocks/fc2", "encoder.layers.{i}.ffn.output_proj"),
        **norm("params/norm", "layer_norm"),
    },
    sizes=_sizes_of_sonar("encoder_frontend.embed.weight", "encoder.layers.{i}", "ffn.inner_proj"),
    heads=SONAR_HEADS,
    leftovers={"encoder_frontend.pos_encoder.*": "sinusoids, which are computed"},
    notice=NON_COMMERCIAL,
)

LAYOUTS = {"original": SONAR_FAIRSEQ2, "huggingface": SONAR_HUGGINGFACE}
