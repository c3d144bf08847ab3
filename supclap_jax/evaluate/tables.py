"""What an evaluation reported, for a terminal."""

import math

from rich.table import Table

METRICS = ("R@1", "R@5", "R@10", "median_rank", "mean_rank", "mAP@10")
DIRECTIONS = {"text_to_audio": "text → audio", "audio_to_text": "audio → text"}
STYLE_NAMES = {"laion": "LAION-CLAP", "cacophony": "Cacophony", "dcase": "DCASE 2025"}
FACTS = {"words": "words of the caption", "seconds": "length of the clip", "events": "sound events"}
CLASSES_SHOWN = 50


def recall_tables(found: dict) -> list[Table]:
    """The tables of `answers.recall_by`."""
    shown = []
    for fact, by_direction in found.items():
        table = _table(f"R@1 by {FACTS[fact]}", fact, *DIRECTIONS.values())
        cells = {
            direction: [f"{_cell(row['R@1'])}  of {row['queries']:,}" for row in rows]
            for direction, rows in by_direction.items()
        }
        for place, row in enumerate(next(iter(by_direction.values()))):
            ends = dict.fromkeys(f"{row[end]:.4g}" for end in ("from", "to"))
            columns = (cells[name][place] if name in cells else "" for name in DIRECTIONS)
            table.add_row(" to ".join(ends), *columns)
        shown.append(table)
    return shown


def tables(report: dict) -> list[Table]:
    """The tables of `report.report`, and of `report.compare` under "against"."""
    shown = []
    if report["retrieval"]:
        shown.append(_headline(report))
    if report["languages"]:
        shown.append(_languages(report))
    if report["zero_shot"]:
        shown += _zero_shot(report["zero_shot"])
    if report["geometry"]:
        shown.append(_geometry(report["geometry"]))
    if "against" in report:
        shown.append(_against(report["against"]))
    return shown


def _headline(report: dict) -> Table:
    size = f"{report['clips']:,} clips, {report['captions']:,} captions"
    table = _table(f"Retrieval: {size}; 95 % interval over clips", "", *DIRECTIONS.values())
    styles = report.get("metric_styles", {})
    metrics = list(METRICS)
    for style, results in styles.items():
        for direction, result in results.items():
            table.add_column(f"{STYLE_NAMES[style]}\n{DIRECTIONS[direction]}", justify="right")
            metrics += [name for name in result if "@" in name and name not in metrics]
    for metric in metrics:
        cells = [_cell(report["retrieval"][direction].get(metric)) for direction in DIRECTIONS]
        for results in styles.values():
            for result in results.values():
                cells.append(f"{result[metric]:.1f}" if metric in result else "")
        table.add_row(metric.replace("_", " "), *cells)
    if entropy := report["entropy"]:
        cells = [_cell(entropy[direction], digits=3) for direction in DIRECTIONS]
        table.add_row(f"entropy, {entropy['candidates']} candidates", *cells)
    if queries := styles.get("dcase", {}).get("text_to_audio", {}).get("queries"):
        table.caption = f"DCASE 2025: {queries:,} queries"
    return table


def _languages(report: dict) -> Table:
    table = _table("R@1 by language of the captions", "", *DIRECTIONS.values())
    for language, retrieval in report["per_language"].items():
        table.add_row(language, *(_cell(retrieval[direction]["R@1"]) for direction in DIRECTIONS))
    table.add_section()
    average = report["languages"]["average"]
    table.add_row("average", *(_cell(average[direction]["R@1"]) for direction in DIRECTIONS))
    variance = report["languages"]["mean_rank_variance"]
    table.add_row("mean rank variance", *(f"{variance[name]:.1f}" for name in DIRECTIONS))
    return table


def _zero_shot(result: dict) -> list[Table]:
    names = [name for name in ("accuracy", "mAP") if name in result]
    columns = ("classes", *(f"{name} %" for name in names))
    total = _table("Zero-shot classification of labelled clips", "clips", *columns)
    cells = (_cell(result[name]) for name in names)
    total.add_row(f"{result['clips']:,}", str(result["classes"]), *cells)
    count = len(result["prompts"])
    total.caption = f"{count} prompts a class" if count > 1 else result["prompts"][0]
    if lacking := result["classes_without_clips"]:
        total.caption += f"; {lacking} of the classes have no clip"
    if "accuracy" not in result:
        total.caption += "; clips have several labels, so there is no accuracy and no confusion"
    shown = [total]
    if folds := result["per_fold"]:
        by_fold = _table("Zero-shot by fold", "fold", "clips", "accuracy %")
        for fold, row in folds.items():
            by_fold.add_row(fold, f"{row['clips']:,}", f"{row['accuracy']:.1f}")
        by_fold.add_section()
        mean = sum(row["accuracy"] for row in folds.values()) / len(folds)
        by_fold.add_row("mean", "", f"{mean:.1f}")
        shown.append(by_fold)
    shares = ["accuracy", "AP"] if "accuracy" in result else ["AP"]
    classes = sorted(result["per_class"].items(), key=lambda item: -item[1][shares[0]])
    columns = ("clips", *(f"{name} %" for name in shares))
    by_class = _table("Zero-shot by class, best first", "class", *columns)
    for place, (name, row) in enumerate(classes):
        half = CLASSES_SHOWN // 2
        if len(classes) <= CLASSES_SHOWN or not half <= place < len(classes) - half:
            by_class.add_row(name, f"{row['clips']:,}", *(f"{row[share]:.1f}" for share in shares))
        elif place == half:
            by_class.add_row(f"... {len(classes) - CLASSES_SHOWN} classes between")
    return [*shown, by_class]


def _geometry(found: dict) -> Table:
    table = _table("Embeddings", "", "audio", "text", "pairs")
    table.add_row("modality gap", "", "", f"{found['modality_gap']:.3f}")
    table.add_row("alignment (lower: nearer)", "", "", f"{found['alignment']:.3f}")
    spread = ("" if value is None else f"{value:.3f}" for value in found["uniformity"].values())
    table.add_row("uniformity (lower: more even)", *spread, "")
    ranks = (f"{value:.1f}" for value in found["rank_me"].values())
    table.add_row("RankMe (effective dimensions)", *ranks, "")
    return table


def _against(against: dict) -> Table:
    table = _table(
        f"Less {against['workdir']}, step {against['step']}: paired bootstrap over clips",
        *("", "this run", "other run", "difference", "p"),
    )
    for direction, name in DIRECTIONS.items():
        for metric, row in against["retrieval"].get(direction, {}).items():
            table.add_row(f"{name} {metric.replace('_', ' ')}", *_difference_cells(row))
        table.add_section()
    for direction, row in against["entropy"].items():
        table.add_row(f"{DIRECTIONS[direction]} entropy", *_difference_cells(row, digits=3))
    table.add_section()
    for direction, metrics in against["languages"].get("average", {}).items():
        label = f"{DIRECTIONS[direction]} R@1, mean of languages"
        table.add_row(label, *_difference_cells(metrics["R@1"]))
    table.add_section()
    for name, row in against["zero_shot"].items():
        table.add_row(f"zero-shot {name}", *_difference_cells(row))
    return table


def _difference_cells(row: dict[str, float], digits: int = 1) -> tuple[str, ...]:
    ours, theirs = (f"{row[name]:.{digits}f}" for name in ("ours", "theirs"))
    value, low, high = (f"{row[name]:+.{digits}f}" for name in ("value", "low", "high"))
    least = 2 / (row["resamples"] + 1)  # what so many resamples can tell from zero
    is_least = row["p_value"] <= least
    p = f"< {math.ceil(1000 * least) / 1000:.3f}" if is_least else f"{row['p_value']:.3f}"
    return ours, theirs, f"{value}  [{low}, {high}]", p


def _table(title: str, first: str, *columns: str) -> Table:
    table = Table(title=title)
    table.add_column(first, justify="left")
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _cell(interval: dict[str, float] | None, digits: int = 1) -> str:
    if interval is None:
        return ""
    value, low, high = (f"{interval[name]:.{digits}f}" for name in ("value", "low", "high"))
    return f"{value}  [{low}, {high}]"
