"""The RPCs of the service Admin; each method serves the RPC of the same name."""

from __future__ import annotations

import math
from collections import Counter

from acdtask.cube.model import Dataset, Variable
from acdtask.cube.protocol import services_pb2 as pb
from acdtask.serve.catalogue import Catalogue
from acdtask.serve.errors import invalid
from acdtask.serve.messages import mapped_dformat_of

__all__ = ["AdminCalls"]


class AdminCalls:
    """Repairs. Every method raises RefusalError or AcdError."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._cube = catalogue.cube

    def update_datasets(self, request: pb.UpdateDatasetsRequest) -> pb.UpdateDatasetsResponse:
        """Change the data mapping of datasets of an instance; with `simulate` only report which would change."""
        low, high = request.real_min_value, request.real_max_value
        if not low < high or not math.isfinite(high - low) or not 0 < request.exponent < math.inf:
            raise invalid("Invalid Dataset.DataMapping: min must be stricly lower than max, and the exponent positive")
        variable, instance = self._catalogue.instance(request.instance_id)
        datasets = self._cube.datasets(variable.name, instance.name, frozenset(request.record_ids))
        chosen = [dataset for dataset in datasets if dataset.is_outside]
        changed = [_mapped(dataset, request) for dataset in chosen]
        if not request.simulate and changed != chosen:
            self._cube.exchange(chosen, changed)
        return pb.UpdateDatasetsResponse(results=Counter(_mapping_text(dataset, variable) for dataset in chosen))


def _mapping_text(dataset: Dataset, variable: Variable) -> str:
    """The current data mapping of a dataset, in Geocube's words."""
    dformat, (low, high) = dataset.dformat, dataset.real or (variable.dformat.min, variable.dformat.max)
    stored = f"({dformat.dtype}, {dformat.min:g}, {dformat.max:g}, no_data={dformat.nodata:g})"
    return f"{stored} currently maps to ({low:g}, {high:g}) with exponent={dataset.exponent:g}"


def _mapped(dataset: Dataset, request: pb.UpdateDatasetsRequest) -> Dataset:
    dformat = mapped_dformat_of(request.dformat, dataset.dformat.dtype)
    real = (request.real_min_value, request.real_max_value)
    return dataset.model_copy(update={"dformat": dformat, "real": real, "exponent": request.exponent})
