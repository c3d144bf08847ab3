import numpy as np
import pytest

from supclap_jax.errors import DataError
from supclap_jax.evaluate.average_precision import rank_clips
from supclap_jax.evaluate.zero_shot import (
    Classification,
    ZeroShot,
    classify,
    confusion,
    per_class,
    per_fold,
)
from supclap_jax.inference.prompts import (
    PROMPTS,
    class_embeddings,
    label_prompts,
    read_classes,
    read_prompts,
)

NAMES = ("dog_bark", "rain", "siren", "silence")


def unit_rows(rng, rows, dim):
    x = rng.standard_normal((rows, dim)).astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def classification(predicted, label, folds=None):
    folds = (None,) * len(label) if folds is None else folds
    return Classification(np.array(predicted), np.array(label), folds)


def test_prompts():
    assert PROMPTS == ("This is a sound of {}.",)
    assert label_prompts(["dog_bark", "rain"]) == [
        "This is a sound of dog bark.",
        "This is a sound of rain.",
    ]
    assert label_prompts(["a{0}b"], prompt="Noise: {}") == ["Noise: a{0}b"]
    with pytest.raises(ValueError, match="'no place'"):
        label_prompts(["rain"], prompt="no place")


def test_prompts_from_a_file(tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_bytes("\ufeffThis is {}.\r\n\r\n  Écoute : {} \r\n".encode())
    assert read_prompts(path) == ("This is {}.", "Écoute : {}")


def test_classes_from_a_file(tmp_path):
    path = tmp_path / "classes.txt"
    path.write_text("dog_bark\n\n rain \n")
    assert read_classes(path) == ("dog_bark", "rain")
    for content, message in (("\n", "names no classes"), ("rain\nrain\n", "names 'rain' twice")):
        path.write_text(content)
        with pytest.raises(DataError, match=message):
            read_classes(path)
    with pytest.raises(DataError, match="cannot read the classes"):
        read_classes(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a {}\nno place\n", "prompts.txt, line 2: 'no place' is no template"),
        (b"{} and {}\n", "line 1"),
        (b"\n \n", "holds no templates"),
        (b"\xff\xfe{}", "cannot read the prompts"),
        (None, "cannot read the prompts"),
    ],
)
def test_bad_prompt_files_are_refused(tmp_path, content, message):
    path = tmp_path / "prompts.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=message) as error:
        read_prompts(path)
    assert "\n" not in str(error.value)


def test_a_class_is_the_normalised_mean_of_its_prompts():
    rng = np.random.default_rng(0)
    prompts = unit_rows(rng, 15, 8).reshape(5, 3, 8)
    classes = class_embeddings(prompts)
    for k in range(3):
        mean = sum(np.float64(prompts[t, k]) for t in range(5)) / 5
        np.testing.assert_allclose(classes[k], mean / np.sqrt(mean @ mean), atol=1e-6)
    np.testing.assert_allclose(class_embeddings(prompts[:1]), prompts[0], atol=1e-6)
    np.testing.assert_allclose(class_embeddings(prompts[::-1]), classes, atol=1e-6)


def test_matches_argmax_on_scores_without_ties():
    rng = np.random.default_rng(0)
    audio, classes = unit_rows(rng, 2500, 12), unit_rows(rng, 5, 12)
    label = rng.integers(5, size=2500)
    expected = np.argmax(audio.astype(np.float64) @ classes.T, axis=1)
    np.testing.assert_array_equal(classify(audio, classes, label), expected)


def test_a_tie_is_wrong():
    classes = np.eye(4)[[0, 1, 1, 3]]
    audio, label = np.eye(4)[[0, 0, 1, 3]], np.array([0, 3, 1, 3])
    np.testing.assert_array_equal(classify(audio, classes, label), [0, 0, 2, 3])


def test_equal_prompts_tie_exactly():
    rng = np.random.default_rng(1)
    audio, classes = unit_rows(rng, 300, 389), np.tile(unit_rows(rng, 1, 389), (37, 1))
    label = rng.integers(37, size=300)
    assert (classify(audio, classes, label) != label).all()


def test_one_class_is_always_right():
    np.testing.assert_array_equal(classify(np.eye(3), np.eye(1, 3), np.zeros(3, int)), [0, 0, 0])


def test_tables_by_class_and_fold():
    result = classification([0, 0, 1, 3, 3], [0, 3, 1, 3, 1], folds=(2, 2, 10, 10, 10))
    np.testing.assert_array_equal(result.correct, [True, False, True, True, False])
    positive = np.eye(4, dtype=bool)[result.label]
    ranking = rank_clips(np.eye(4)[result.predicted], np.eye(4), positive)
    assert per_class(ZeroShot(NAMES, ranking, result)) == {
        "dog_bark": {"accuracy": 100.0, "AP": 50.0, "clips": 1},
        "rain": {"accuracy": 50.0, "AP": 70.0, "clips": 2},
        "silence": {"accuracy": 50.0, "AP": 45.0, "clips": 2},
    }
    assert per_class(ZeroShot(NAMES, ranking, None))["rain"] == {"AP": 70.0, "clips": 2}
    folds = per_fold(result)
    assert list(folds) == ["2", "10"]
    assert folds["2"] == {"accuracy": 50.0, "clips": 2}
    assert folds["10"] == pytest.approx({"accuracy": 200 / 3, "clips": 3})
    assert per_fold(classification([0], [0])) == {}
    assert per_fold(classification([0, 1], [0, 1], folds=(1, None))) == {}


def test_confusion_counts_every_clip_once():
    rng = np.random.default_rng(2)
    label, predicted = rng.integers(4, size=(2, 200))
    count = confusion(classification(predicted, label), 4)
    for true in range(4):
        for taken in range(4):
            assert count[true, taken] == ((label == true) & (predicted == taken)).sum()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"label": np.array([0, 4])}, r"\[0, 4\), got values from 0 to 4"),
        ({"label": np.array([0, -1])}, "got values from -1 to 0"),
        ({"label": np.array([0])}, r"integers of shape \[2\]"),
        ({"label": np.array([0.0, 1.0])}, "float64"),
        ({"classes_text": np.eye(4, 5)}, "classes_text has dim 5, expected 4"),
        ({"audio": np.full((2, 4), np.nan)}, "audio must have rows of unit norm"),
    ],
)
def test_bad_input_is_refused(changed, message):
    good = {"audio": np.eye(2, 4), "classes_text": np.eye(4), "label": np.array([0, 1])}
    with pytest.raises(ValueError, match=message):
        classify(**good | changed)
