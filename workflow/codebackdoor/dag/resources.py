"""What a job requests from a scheduler: memory, runtime and accelerators."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from codebackdoor.config.study import Config
from codebackdoor.costs.bill import size_of
from codebackdoor.costs.memory import machine_megabytes
from codebackdoor.dag.files import Files
from codebackdoor.dag.parameters import Parameters
from codebackdoor.dag.paths import Wildcards, values

#: Maximum runtime of any attempt, in minutes; many partitions reject longer requests.
MAX_RUNTIME = 1440


@dataclass(frozen=True, slots=True)
class Request:
    """Memory in MB, runtime in minutes and the number of accelerators of a job's first attempt."""

    mem_mb: int
    runtime: int
    gpu: int = 0


#: Models of the papers' scale run on an accelerator, the small local ones on the CPU.
SMALL_MODEL, LARGE_MODEL = Request(2500, 60), Request(24000, 480, gpu=1)


class Resources:
    """The section ``resources`` of every rule, by the kind of job."""

    def __init__(self, config: Config, parameters: Parameters, files: Files) -> None:
        self._config, self._parameters, self._files = config, parameters, files

    def fixed(self, mem_mb: int, runtime: int) -> Mapping[str, Callable[..., int]]:
        """A job that loads no model."""
        return _growing(lambda _wildcards: Request(mem_mb, runtime))

    @property
    def training(self) -> Mapping[str, Callable[..., int]]:
        """A job that trains a victim, possibly with weights in a shorter format than that of later jobs."""
        return _growing(lambda wildcards: self._of_model(wildcards.model, wildcards.dataset, trains=True))

    @property
    def victim(self) -> Mapping[str, Callable[..., int]]:
        """A job that runs a victim, with its weights in float32."""
        return _growing(lambda wildcards: self._of_model(wildcards.model, wildcards.dataset))

    def helpers(self, kind: str) -> Mapping[str, Callable[..., int]]:
        """A job that runs only the helper models of a method of this kind."""

        def request(wildcards: Wildcards) -> Request:
            folders = self._files.helper_folders(kind, getattr(wildcards, kind))
            return SMALL_MODEL if all(self._files.is_small(folder) for folder in folders) else LARGE_MODEL

        return _growing(request)

    def attack(self, mem_mb: int, runtime: int) -> Mapping[str, Callable[..., int]]:
        """A job that poisons; it requests these amounts unless the attack has a crafting model."""

        def request(wildcards: Wildcards) -> Request:
            model = self._config.crafting(wildcards.attack)
            return Request(mem_mb, runtime) if model is None else self._of_model(model, wildcards.dataset)

        return _growing(request)

    @property
    def filter_by_victim(self) -> Mapping[str, Callable[..., int]]:
        """A filter that runs a victim, either of the model that it names or of the wildcard's model."""

        def request(wildcards: Wildcards) -> Request:
            model = self._config.filter_model(wildcards.filtering, values(wildcards).get("model", ""))
            return self._of_model(str(model), wildcards.dataset)

        return _growing(request)

    def _of_model(self, model: str, dataset: str, trains: bool = False) -> Request:
        settings = self._parameters.declared_victim(model, dataset)
        if not settings.is_hub:
            return SMALL_MODEL
        size = size_of(settings, self._config.datasets[dataset].head)
        weights = settings.weights if trains else "float32"
        memory = 0 if size is None else machine_megabytes(size, weights)
        return replace(LARGE_MODEL, mem_mb=max(LARGE_MODEL.mem_mb, memory))


def _growing(request: Callable[[Wildcards], Request]) -> Mapping[str, Callable[..., int]]:
    """The functions that Snakemake calls; the n-th attempt requests n times the memory and time."""
    return {
        "mem_mb": lambda wildcards, attempt: attempt * request(wildcards).mem_mb,
        "runtime": lambda wildcards, attempt: min(attempt * request(wildcards).runtime, MAX_RUNTIME),
        "gpu": lambda wildcards: request(wildcards).gpu,
    }
