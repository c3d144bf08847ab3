"""Published weights of ML-CLAP: CED, SONAR, projections and temperature in one file.

The temperature is `temperature` in its source (github.com/zyyan4/ml-clap); `temp`, usual in its
relatives, is taken as well.
"""

import numpy as np

from supclap_jax.models.ced_weights import CED_HEADS, CED_ORIGINAL, front_end
from supclap_jax.models.key_maps import Layout, Source, Transform, dense, within
from supclap_jax.models.sonar_weights import NON_COMMERCIAL, SONAR_FAIRSEQ2, SONAR_HEADS


def nearest_temperature(log_logit_scale: np.ndarray) -> np.ndarray:
    """The shortest decimal number whose float32 has this float32 `log(1 / temperature)`.

    A low temperature has finer float32 steps than its logarithm, so that several share one. The
    shortest is what somebody wrote down, such as 0.07.
    """
    exact = float(np.exp(-np.float64(log_logit_scale)))
    for digits in range(1, 18):
        short = np.float32(f"{exact:.{digits}g}")
        if np.float32(-np.log(np.float64(short))) == np.float32(log_logit_scale):
            break
    return np.asarray(short)


TEMPERATURE = Transform(  # raw; ours is log(1 / temperature)
    lambda x: -np.log(x.astype(np.float64)), nearest_temperature, lambda shape: shape
)

_AUDIO, _TEXT = "audio_encoder.model.", "text_encoder.model."

ML_CLAP = Layout(
    name="ML-CLAP",
    tower="dual",
    sources={
        **within(_AUDIO, CED_ORIGINAL.sources, "audio"),
        **within(_TEXT, SONAR_FAIRSEQ2.sources, "text"),
        **dense("params/audio_projection/Dense_0", "audio_proj.0"),
        **dense("params/audio_projection/Dense_1", "audio_proj.2"),
        **dense("params/text_projection/Dense_0", "text_proj.0"),
        **dense("params/text_projection/Dense_1", "text_proj.2"),
        "params/log_logit_scale": Source(("temperature",), TEMPERATURE, model_may_lack=True),
        # Of SigLIP; written and read by us alone.
        "params/logit_bias": Source(("logit_bias",), file_may_lack=True, model_may_lack=True),
    },
    sizes={
        **{name: (_AUDIO + key, axis) for name, (key, axis) in CED_ORIGINAL.sizes.items()},
        **{name: (_TEXT + key, axis) for name, (key, axis) in SONAR_FAIRSEQ2.sizes.items()},
        "projection_dim": ("audio_proj.0.bias", 0),
    },
    heads=CED_HEADS | SONAR_HEADS,
    leftovers={
        **{_AUDIO + key: why for key, why in CED_ORIGINAL.leftovers.items()},
        **{_TEXT + key: why for key, why in SONAR_FAIRSEQ2.leftovers.items()},
    },
    constants=front_end(_AUDIO),
    aliases={"temp": "temperature"},
    notice=NON_COMMERCIAL,
)
