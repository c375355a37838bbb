"""Which figures a study has."""

from __future__ import annotations

from hwsim.studies.effects import effects
from hwsim.studies.study import Study
from reports.breakdown import breakdown_drawing
from reports.drawing import Drawing
from reports.heatmap import plane_drawing
from reports.pareto import front_drawing
from reports.reached import roofline_drawing
from reports.scaling import scaling_drawing
from reports.tornado import effects_drawing


def drawings(study: Study) -> list[Drawing]:
    """Every figure the study has something to show in, what people ask first on top."""
    moved = {one.name: effects(study, one) for one in study.objectives[:2]}
    first = moved[study.objectives[0].name]
    found = (
        front_drawing(study),
        scaling_drawing(study, first),
        plane_drawing(study, first),
        effects_drawing(study, moved),
        breakdown_drawing(study),
        roofline_drawing(study),
    )
    return [drawing for drawing in found if drawing is not None]
