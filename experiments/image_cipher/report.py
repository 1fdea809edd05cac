"""The cipher's evaluation as JSON and as one self-contained HTML page."""

import math
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from cipher.analysis import correlation
from cipher.analysis.line import Line, Verdict
from cipher.analysis.suite import Evaluation, Seeds
from experiments.image_cipher import figures as cipher_figures
from experiments.image_cipher.study import NOISE_TRIALS, Study, crop_to_control, find_worst_verdict, group_lines
from experiments.present.drawing import Picture
from experiments.present.markdown_tables import Table
from experiments.present.pages import render_template

FORMAT = "he-infer cipher evaluation"
VERSION = 1


@dataclass(frozen=True)
class EvaluationRun:
    """The studies that a report covers."""

    studies: tuple[Study, ...]
    seeds: Seeds
    keys: int
    command: str

    @property
    def surprises(self) -> list[str]:
        """Unexpected results, over all images."""
        return [f"{study.image.name}: {line}" for study in self.studies for line in study.surprises]


@dataclass(frozen=True)
class GroupVerdict:
    """Verdict of a group of lines for a subject."""

    verdict: Verdict
    passed: int
    lines: int
    smallest: float | None
    """The smallest P-value of the group."""

    @classmethod
    def of(cls, lines: list[Line]) -> "GroupVerdict":
        p_values = [p for line in lines for p in line.p_values]
        failed = sum(line.verdict is Verdict.FAIL for line in lines)
        return cls(find_worst_verdict(lines), len(lines) - failed, len(lines), min(p_values) if p_values else None)


@dataclass(frozen=True)
class StudySummary:
    """A row for each group, a column for each subject."""

    columns: tuple[str, ...]
    rows: dict[str, dict[str, GroupVerdict]]

    @classmethod
    def of(cls, study: Study) -> "StudySummary":
        """Sum up a study; columns without evaluations are left out."""
        subjects = {
            "inner cipher": study.ours,
            "ideal control": study.positive,
            "toy": study.negative,
            "version 1": study.version1,
        }
        rows: dict[str, dict[str, GroupVerdict]] = {}
        for name, evaluations in subjects.items():
            for evaluation in evaluations:
                for group, lines in group_lines(evaluation).items():
                    rows.setdefault(group, {})[name] = GroupVerdict.of(lines)
        return cls(tuple(name for name, evaluations in subjects.items() if evaluations), rows)


def render_json(run: EvaluationRun) -> dict[str, object]:
    """The whole run as JSON takes it; NaN and infinity become null."""
    document = {
        "format": FORMAT,
        "version": VERSION,
        "command": run.command,
        "seed": run.seeds.seed,
        "salt": run.seeds.salt.hex(),
        "keys": run.keys,
        "versions": find_versions(),
        "surprises": run.surprises,
        "images": [_study_json(study) for study in run.studies],
    }
    cleaned: dict[str, object] = _finite(document)
    return cleaned


def render_html(run: EvaluationRun) -> str:
    """The run as one page with its figures inside; it asks for nothing from outside."""
    filters: dict[str, Callable[..., Any]] = {
        "number": format_number,
        "probability": format_probability,
        "unbroken": lambda text: text.replace(" %", "\u00a0%"),
        "groups": lambda evaluation: list(group_lines(evaluation).items()),
        "summary": StudySummary.of,
        "drawn": _drawn,
    }
    return render_template(
        "cipher.html.j2",
        filters,
        title="Evaluation of the image cipher",
        studies=run.studies,
        command=run.command,
        seed=run.seeds.seed,
        keys=run.keys,
        versions=", ".join(f"{name} {format_number}" for name, format_number in find_versions().items()),
        surprises=run.surprises,
        published=correlation.PUBLISHED,
        noise_trials=NOISE_TRIALS,
    )


def render_markdown(run: EvaluationRun) -> str:
    """The inner cipher's results as Markdown tables, as the documentation shows them."""
    parts = [f"`{run.command}`"]
    for study in run.studies:
        toy, ours = study.attacks
        parts += [
            f"### {study.image.described}",
            _measures_table(study).to_markdown(),
            f"Four chosen images foretell {toy.right_bytes:.2%} of another image's bytes for the toy and "
            f"{ours.right_bytes:.2%} for the inner cipher (chance: 0.39%).",
            _damage_table(study).to_markdown(),
        ]
    return "\n\n".join(parts) + "\n"


def _damage_table(study: Study) -> Table:
    heads = ("Damage to the inner cipher image", "cipher pixels changed", "plain pixels wrong", "intact", "PSNR, dB")
    rows = tuple(
        (n.name, f"{n.damaged_pixels:.0f}", f"{n.wrong_pixels:.1f}", f"{n.intact_share:.2%}", f"{n.psnr:.1f}")
        for n in study.noise
    )
    return Table(heads, rows)


def _measures_table(study: Study) -> Table:
    heads = ("Measure", "mean", "ideal", "one key in", "outside, of keys (level)", "P, rate", "P, pooled", "verdict")
    rows: list[tuple[str, ...]] = []
    for evaluation in study.ours:
        for group, lines in group_lines(evaluation).items():
            rows.append((f"**{group}**", *("" for _ in heads[1:])))
            rows += [_measure_row(line) for line in lines]
    return Table(heads, tuple(rows))


def _measure_row(line: Line) -> tuple[str, ...]:
    within = "" if line.low is None or line.high is None else f"{format_number(line.low)} .. {format_number(line.high)}"
    outside = (
        f"{line.keys}" if line.outside is None else f"{line.outside} of {line.keys} ({format_probability(line.size)})"
    )
    return (
        line.name,
        format_number(line.statistic),
        format_number(line.expected),
        within,
        outside,
        format_probability(line.p_rate),
        format_probability(line.p_pooled),
        line.verdict.value,
    )


def find_versions() -> dict[str, str]:
    """The versions that the figures depend on."""
    found = {"Python": platform.python_version()}
    for name in ("he-infer", "numpy", "scipy", "numba", "cryptography"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def format_number(value: float | None) -> str:
    """A figure for a table: five digits, no false zeros."""
    if value is None:
        return ""
    if math.isinf(value):
        return "∞"
    if value == int(value) and abs(value) < 1e6:
        return str(int(value))
    if abs(value) < 1e-3 or abs(value) >= 1e7:
        return f"{value:.2e}"
    return f"{value:.6g}" if abs(value) < 1 else f"{value:.7g}"


def format_probability(value: float | None) -> str:
    """A P-value or level for a table: three digits."""
    return "" if value is None else f"{value:.3g}"


def _study_json(study: Study) -> dict[str, object]:
    return {
        "name": study.image.name,
        "shape": list(study.image.pixels.shape),
        "type": str(study.image.pixels.dtype),
        "effort": asdict(study.effort),
        "table_2": {
            "directions": list(correlation.DIRECTIONS),
            "published": [{"method": name, "r": list(values)} for name, values in correlation.PUBLISHED],
            "ours": list(study.correlation),
            "bound": list(study.bounds),
        },
        "ours": [_evaluation_json(e) for e in study.ours],
        "positive_controls": [_evaluation_json(e) for e in study.positive],
        "negative_controls": [_evaluation_json(e) for e in (*study.negative, *study.version1)],
        "attack": [
            {"subject": a.subject, "chosen_images": 4, "right_bytes": a.right_bytes, "stream_period_bytes": a.period}
            for a in study.attacks
        ],
        "noise": [
            {
                "damage": n.name,
                "damaged_pixels": n.damaged_pixels,
                "wrong_pixels": n.wrong_pixels,
                "intact_share": n.intact_share,
                "psnr_db": n.psnr,
            }
            for n in study.noise
        ],
    }


def _evaluation_json(evaluation: Evaluation) -> dict[str, object]:
    return {
        "subject": evaluation.subject,
        "passed": evaluation.passed,
        "p_threshold": evaluation.threshold,
        "lines": [asdict(line) for line in evaluation.lines],
    }


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _drawn(study: Study, name: str) -> Picture:
    match name:
        case "attack":
            return cipher_figures.draw_attacks(study.attacks, crop_to_control(study.image.pixels))
        case "noise":
            return cipher_figures.draw_noise(study.noise, study.image.pixels)
        case "randomness":
            sources: Sequence[Evaluation] = (study.ours[1], *study.positive[1:], *study.negative[1:])
            return cipher_figures.draw_randomness(sources)
        case _:
            draw = {
                "histograms": cipher_figures.draw_histograms,
                "correlations": cipher_figures.draw_correlations,
                "scatter": cipher_figures.draw_scatter,
                "differential": cipher_figures.draw_differential,
            }[name]
            return draw(study)
