"""Every loss against float64 values and gradients of an independent implementation."""

from functools import partial

import jax
import numpy as np
import pytest

from tests.losses.golden import CASES, ERRORS, GOLDEN


def test_every_golden_case_is_used():
    golden = {name.removeprefix("value/") for name in GOLDEN if name.startswith("value/")}
    assert golden == set(CASES)


FORMS = [(name, None, dtype) for name in CASES for dtype in ERRORS] + [
    (name, 5, "float64") for name in CASES if not name.startswith(("svr", "radius"))
]


@pytest.mark.parametrize(("name", "block_size", "dtype"), FORMS)
def test_matches_golden(name, block_size, dtype):
    function, inputs = CASES[name]
    value_error, gradient_error = ERRORS[dtype]
    if block_size is not None:
        function = partial(function, block_size=block_size)
    with jax.enable_x64(dtype == "float64"):
        arguments = [jax.numpy.asarray(GOLDEN[key], dtype) for key in inputs]
        both = jax.jit(jax.value_and_grad(function, argnums=range(len(inputs))))
        value, gradients = both(*arguments)
        assert value.dtype == dtype
    expected = GOLDEN[f"value/{name}"]
    assert abs(float(value) - expected) <= value_error * abs(expected)
    for key, gradient in zip(inputs, gradients, strict=True):
        if f"grad/{name}/{key}" not in GOLDEN:
            assert not np.any(gradient), f"{name} must not depend on {key}"
            continue
        expected = GOLDEN[f"grad/{name}/{key}"]
        error = np.max(np.abs(np.asarray(gradient, np.float64) - expected))
        assert error <= gradient_error * np.max(np.abs(expected)), key
