"""Summaries of studies and of folders."""

from pathlib import Path

from he_infer.client.results import Identifiers, Result, summarise, summarise_folders


def make_result(path: str, label: str | None, study: str | None = None) -> Result:
    return Result(
        path=Path(path),
        label=label,
        probability=None if label is None else 0.7,
        probabilities={} if label is None else {label: 0.7, "other": 0.3},
        refusal=None if label else "no image",
        cause=None,
        identifiers=Identifiers(study=study),
        frame=0,
        model="m",
        publisher=None,
        plan=None,
        threshold=None,
        receipt=None,
        seconds=None,
    )


def test_images_without_a_study_are_summarised_by_folder() -> None:
    results = [
        make_result("a/1.png", "ill"),
        make_result("a/2.png", "well"),
        make_result("a/3.txt", None),
        make_result("b/only.png", "ill"),
        make_result("a/4.dcm", "ill", study="1.2.3"),
        make_result("slice 7", "ill"),
        make_result("slice 8", "ill"),
    ]
    (folder,) = summarise_folders(results)
    assert (folder.study, folder.images, folder.refused) == ("a", 3, 1)
    assert (folder.labels, folder.highest["ill"]) == ({"ill": 1, "well": 1}, 0.7)
    (study,) = summarise(results)
    assert (study.study, study.images) == ("1.2.3", 1)
