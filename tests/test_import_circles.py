"""Imports between modules form no circle, lazy imports inside functions included."""

from graphlib import CycleError, TopologicalSorter

import grimp
import pytest


def test_modules_of_all_packages_form_no_circle() -> None:
    graph = grimp.build_graph("he_infer", "cipher", "models", "experiments")
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    try:
        ordered = list(TopologicalSorter(imports).static_order())
    except CycleError as error:
        pytest.fail(f"Circle of imports: {' -> '.join(error.args[1])}")
    assert len(ordered) > 300
