"""Results as files: CSV, JSON Lines and JSON. Each is written whole or not at all, with mode 0600."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from he_infer.client.spreadsheet import to_csv
from he_infer.files import PRIVATE, write_json, write_text

if TYPE_CHECKING:
    from he_infer.client.results import Result, RunReport


def write_csv(path: Path, results: "Sequence[Result]", classes: Sequence[str]) -> None:
    """Write one row for each image, with a column for the probability of each class.

    Raises:
        OSError: the file cannot be written.
    """
    plain = [name for name in results[0].to_json() if name != "probabilities"] if results else []
    rows: list[list[object]] = [[*plain, *(f"probability of {name}" for name in classes)]]
    for result in results:
        row = result.to_json()
        rows.append([*(row[name] for name in plain), *(result.probabilities.get(name) for name in classes)])
    write_text(path, to_csv(rows), mode=PRIVATE)


def write_lines(path: Path, results: "Sequence[Result]") -> None:
    """Write one JSON object for each image.

    Raises:
        OSError: the file cannot be written.
    """
    lines = (json.dumps(result.to_json(), ensure_ascii=False, sort_keys=True) + "\n" for result in results)
    write_text(path, "".join(lines), mode=PRIVATE)


def write_report(path: Path, results: "Sequence[Result]", report: "RunReport", model: str) -> None:
    """Write the whole run: results, studies, costs, and the receipts, which 'he-infer receipts verify' reads.

    Raises:
        OSError: the file cannot be written.
    """
    from he_infer.client.results import summarise, summarise_folders

    index = {receipt.signature: number for number, receipt in enumerate(report.receipts)}
    images = []
    for result in results:
        row = result.to_json()
        images.append({**row, "receipt": index.get(row["receipt"])})
    write_json(
        path,
        {
            "model": model,
            "images": images,
            "studies": [asdict(study) for study in summarise(results)],
            "folders": [
                {"folder" if name == "study" else name: value for name, value in asdict(one).items()}
                for one in summarise_folders(results)
            ],
            "classified": report.classified,
            "refused": report.refused,
            "requests": report.requests,
            "bytes_up": report.bytes_up,
            "bytes_down": report.bytes_down,
            "seconds": round(report.seconds, 4),
            "stages": {name: round(seconds, 4) for name, seconds in report.stages.items()},
            "canaries": {"sent": report.canaries, "requests": report.canary_requests, "wrong": 0},
            "receipts": [receipt.to_json() for receipt in report.receipts],
        },
        mode=PRIVATE,
    )
