import numpy as np
import pytest

from supclap_jax.evaluate.zero_shot import PROMPT, label_prompts, zero_shot

NAMES = ["dog_bark", "rain", "siren", "silence"]


def unit_rows(rng, rows, dim):
    x = rng.standard_normal((rows, dim)).astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def test_prompts():
    assert PROMPT == "This is a sound of {}."
    assert label_prompts(["dog_bark", "rain"]) == [
        "This is a sound of dog bark.",
        "This is a sound of rain.",
    ]
    assert label_prompts(["a{0}b"], prompt="Noise: {}") == ["Noise: a{0}b"]
    with pytest.raises(ValueError, match="'no place'"):
        label_prompts(["rain"], prompt="no place")


def test_matches_argmax_on_scores_without_ties():
    rng = np.random.default_rng(0)
    audio, classes = unit_rows(rng, 2500, 12), unit_rows(rng, 3, 12)
    label = rng.integers(3, size=2500)
    result = zero_shot(audio, classes, label, names=NAMES[:3], seed=0, resamples=200)
    correct = np.argmax(audio.astype(np.float64) @ classes.T, axis=1) == label
    accuracy = result["accuracy"]
    assert accuracy["value"] == pytest.approx(100 * correct.mean())
    assert accuracy["high"] - accuracy["low"] == pytest.approx(
        2 * 196 * correct.std() / np.sqrt(2500), rel=0.2
    )
    assert (result["clips"], result["classes"]) == (2500, 3)
    for k, name in enumerate(NAMES[:3]):
        own = label == k
        expected = {"accuracy": 100 * correct[own].mean(), "clips": own.sum()}
        assert result["per_class"][name] == pytest.approx(expected)


def test_handmade_case_with_a_tie_and_an_absent_class():
    classes = np.eye(4)[[0, 1, 1, 3]]
    audio, label = np.eye(4)[[0, 0, 1, 3]], np.array([0, 3, 1, 3])
    result = zero_shot(audio, classes, label, names=NAMES, seed=0, resamples=10)
    assert result["accuracy"]["value"] == 50
    assert result["per_class"] == {
        "dog_bark": {"accuracy": 100.0, "clips": 1},
        "rain": {"accuracy": 0.0, "clips": 1},
        "silence": {"accuracy": 50.0, "clips": 2},
    }


def test_equal_prompts_tie_exactly():
    rng = np.random.default_rng(1)
    audio, classes = unit_rows(rng, 300, 389), np.tile(unit_rows(rng, 1, 389), (37, 1))
    label = rng.integers(37, size=300)
    names = [f"class {k}" for k in range(37)]
    assert zero_shot(audio, classes, label, names=names, seed=0)["accuracy"]["value"] == 0


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"label": np.array([0, 4])}, r"\[0, 4\), got values from 0 to 4"),
        ({"label": np.array([0, -1])}, "got values from -1 to 0"),
        ({"label": np.array([0])}, r"integers of shape \[2\]"),
        ({"label": np.array([0.0, 1.0])}, "float64"),
        ({"names": NAMES[:3]}, "4 different class names"),
        ({"names": ["rain"] * 4}, "got 4 of which 1 differ"),
        ({"classes_text": np.eye(4, 5)}, "classes_text has dim 5, expected 4"),
        ({"audio": np.full((2, 4), np.nan)}, "audio must have rows of unit norm"),
    ],
)
def test_bad_input_is_refused(changed, message):
    good = {"audio": np.eye(2, 4), "classes_text": np.eye(4), "label": np.array([0, 1])}
    with pytest.raises(ValueError, match=message):
        zero_shot(**good | {"names": NAMES, "seed": 0} | changed)
