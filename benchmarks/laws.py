"""Whether fitted laws are what they promise: intervals, recovery, time, and published exponents.

    python benchmarks/laws.py --quick
    python benchmarks/laws.py --out=benchmarks/results/laws.json

Simulated ladders have 12 to 20 points, a spread of 1.5 to 4 decades (sizes by data for the law with
two columns) and normal noise of 1 to 3 %. The published runs are the 29 image-text models of Cherti
et al. (arXiv 2212.07143), whose errors fall as compute^-0.11 (ImageNet) and compute^-0.08 (COCO).
"""

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from supclap_jax.evaluate.bootstrap import interval
from supclap_jax.experiments.huber import LEAST_SQUARES
from supclap_jax.experiments.law_fit import fit
from supclap_jax.experiments.laws import LAWS
from supclap_jax.experiments.points import frontier, read_points

FORMULAS = {
    "power": lambda x, a, b: a * x**-b,
    "shifted": lambda x, a, b, c: a * (x + c) ** -b,
    "saturating": lambda x, e, a, b: e + a * x**-b,
    "chinchilla": lambda n, d, e, a, b, alpha, beta: e + a * n**-alpha + b * d**-beta,
}
RUNS = Path(__file__).parents[1] / "tests" / "golden" / "openclip_runs.csv"
PUBLISHED = {"imagenet_error": 0.11, "coco_image_retrieval_error_at_5": 0.08}
BEYOND = 4.0  # times the largest x: where a run is predicted


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="20 ladders a law, a minute")
    parser.add_argument("--out", type=Path, help="JSON file for the results")
    options = parser.parse_args()

    ladders, resamples = (20, 200) if options.quick else (200, 400)
    results = {
        "processors": os.cpu_count(),
        "seconds": seconds(),
        "published": published(),
        "ladders": ladders,
        "resamples": resamples,
        "laws": {law: promises(law, ladders, resamples) for law in LAWS},
    }
    show(results)
    if options.out:
        options.out.write_text(json.dumps(results, indent=2) + "\n")


def ladder(law: str, rng: np.random.Generator) -> tuple[np.ndarray, dict[str, float]]:
    """x `[points, columns]` and coefficients of a ladder in which each term of the law shows."""
    unit = 10 ** rng.uniform(3, 8)
    if law == "chinchilla":
        sizes, budgets = [(4, 3), (4, 4), (5, 3), (5, 4), (6, 3)][rng.integers(5)]
        n = unit * np.geomspace(1, rng.uniform(30, 100), sizes)
        d = 1e4 * np.geomspace(1, rng.uniform(20, 100), budgets)
        x = np.stack([axis.ravel() for axis in np.meshgrid(n, d, indexing="ij")], axis=-1)
        alpha, beta = rng.uniform(0.25, 0.6, 2)
        middle = np.exp(np.log(x).mean(axis=0))
        a, b = rng.uniform(0.3, 0.8, 2) * middle ** (alpha, beta)
        return x, {"e": rng.uniform(0.2, 0.6), "a": a, "b": b, "alpha": alpha, "beta": beta}
    x = unit * np.geomspace(1, 10 ** rng.uniform(1.5, 4), rng.integers(12, 21))
    b = rng.uniform(0.1, 0.6)
    if law == "power":
        return x[:, None], {"a": unit**b, "b": b}
    if law == "shifted":
        return x[:, None], {"a": unit**b, "b": b, "c": unit * 10 ** rng.uniform(-0.3, 1)}
    b = rng.uniform(0.25, 0.6)
    a = rng.uniform(0.4, 1) * np.exp(b * np.log(x).mean())
    return x[:, None], {"e": rng.uniform(0.2, 0.8), "a": a, "b": b}


def promises(law: str, ladders: int, resamples: int) -> dict:
    """Of simulated ladders: shares of 95 % intervals that hold, and recovery without noise.

    Returns:
      "coverage" of each exponent and "width" of its interval, relative, median; "prediction", how
      often a run at `BEYOND` times the largest x lies in its interval; "recovery", the largest
      relative error of an exponent from noiseless points.
    """
    names = LAWS[law].exponents
    holds, widths, recovered, predicted = [], [], [], []
    for seed in range(ladders):
        rng = np.random.default_rng(seed)
        x, truth = ladder(law, rng)
        exact = FORMULAS[law](*x.T, **truth)
        exponents = np.array([truth[name] for name in names])
        noiseless = fit(law, x, exact, resamples=1, seed=0).coefficients
        found = np.array([noiseless[name].value for name in names])
        recovered.append(np.abs(found / exponents - 1).max())

        noise = rng.uniform(0.01, 0.03)
        noisy = fit(
            law, x, exact * np.exp(noise * rng.normal(size=len(x))), resamples=resamples, seed=seed
        )
        ranges = [interval(noisy.coefficients[name]) for name in names]
        low, high = (np.array([one[side] for one in ranges]) for side in ("low", "high"))
        holds.append((low <= exponents) & (exponents <= high))
        widths.append((high - low) / exponents)
        beyond = BEYOND * x.max(axis=0, keepdims=True)
        run = FORMULAS[law](*beyond.T, **truth)[0] * np.exp(noise * rng.normal())
        (expected,) = map(interval, noisy.predict(beyond, noise=True))
        predicted.append(expected["low"] <= run <= expected["high"])
    return {
        "coverage": dict(zip(names, np.mean(holds, axis=0).tolist(), strict=True)),
        "width": dict(zip(names, np.median(widths, axis=0).tolist(), strict=True)),
        "prediction": float(np.mean(predicted)),
        "recovery": float(max(recovered)),
    }


def seconds() -> float:
    """Of one fit of the law with two columns to 30 points, 1,000 resamples: the best of three."""
    n, d = np.meshgrid(np.geomspace(1e5, 5e6, 6), np.geomspace(1e4, 1.6e5, 5))
    x = np.stack([n.ravel(), d.ravel()], axis=-1)
    y = FORMULAS["chinchilla"](*x.T, e=0.8, a=30, b=60, alpha=0.35, beta=0.45)
    noise = np.exp(0.02 * np.random.default_rng(0).normal(size=len(y)))
    taken = []
    for _ in range(3):
        start = time.perf_counter()
        fit("chinchilla", x, y * noise, resamples=1000, seed=0)
        taken.append(time.perf_counter() - start)
    return min(taken)


def published() -> dict:
    """Exponents of the published runs, as `supclap fit --law=power --frontier=5` has them."""
    found = {}
    for column, exponent in PUBLISHED.items():
        points = frontier(read_points(RUNS, ["gmacs_total"], column), 5)
        law = fit("power", points.x, points.y, resamples=1000, seed=0, delta=LEAST_SQUARES)
        found[column] = {"published": exponent, **interval(law.coefficients["b"])}
    return found


def show(results: dict) -> None:
    """The tables."""
    table = Table(title=f"{results['ladders']} simulated ladders a law, in percent")
    for column in ("exponent", "95 % interval holds", "its width", "run 4x beyond", "recovery"):
        table.add_column(column, justify="right")
    for law, found in results["laws"].items():
        for name, share in found["coverage"].items():
            table.add_row(
                f"{law} {name}",
                f"{100 * share:.1f}",
                f"{100 * found['width'][name]:.0f}",
                f"{100 * found['prediction']:.1f}",
                f"{found['recovery']:.0e}",
            )
    Console().print(table)
    for column, found in results["published"].items():
        Console().print(
            f"{column}: exponent {found['value']:.3f} [{found['low']:.3f}, {found['high']:.3f}], "
            f"published {found['published']}"
        )
    Console().print(f"chinchilla, 30 points, 1,000 resamples: {results['seconds']:.1f} s")


if __name__ == "__main__":
    main()
