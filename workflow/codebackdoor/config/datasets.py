"""The settings of all data sets: one line for each task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from codebackdoor.config.base import models_in, tag_of
from codebackdoor.tasks.clone_detection.settings import CloneDetection
from codebackdoor.tasks.code_generation.settings import CodeGeneration
from codebackdoor.tasks.code_repair.settings import CodeRepair
from codebackdoor.tasks.code_search.settings import CodeSearch
from codebackdoor.tasks.code_smell.settings import CodeSmell
from codebackdoor.tasks.defect_detection.settings import DefectDetection
from codebackdoor.tasks.settings import DatasetSettings
from codebackdoor.tasks.technical_debt.settings import TechnicalDebt

AnyDataset = Annotated[
    DefectDetection | CloneDetection | CodeSearch | CodeRepair | CodeGeneration | TechnicalDebt | CodeSmell,
    Field(discriminator="task"),
]

#: The settings class of each task, for code that has only a task's name.
DATASETS: Mapping[str, type[DatasetSettings]] = {
    str(tag_of(model)): model for model in models_in(AnyDataset) if issubclass(model, DatasetSettings)
}
