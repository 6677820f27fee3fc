"""The service Admin; a method is the RPC of its name."""

from __future__ import annotations

import math
from collections import Counter

from acdtask.cube.model import Dataset, Variable
from acdtask.cube.protocol import datasets_pb2
from acdtask.cube.protocol import services_pb2 as pb
from acdtask.serve.catalogue import Catalogue
from acdtask.serve.errors import invalid, not_served
from acdtask.serve.jobs import JobCalls
from acdtask.serve.messages import mapped_dformat_of

__all__ = ["AdminCalls"]


class AdminCalls:
    """Repairs. Every method raises RefusalError or AcdError."""

    def __init__(self, catalogue: Catalogue, jobs: JobCalls) -> None:
        self._catalogue = catalogue
        self._cube = catalogue.cube
        self._jobs = jobs

    def tidy_db(self, request: pb.TidyDBRequest) -> pb.TidyDBResponse:
        """UNIMPLEMENTED."""
        raise not_served(
            "acd has no database to tidy: what nothing refers to costs nothing; delete records by their ids"
        )

    def update_datasets(self, request: pb.UpdateDatasetsRequest) -> pb.UpdateDatasetsResponse:
        """Give datasets of an instance other numbers; with `simulate` only tell which."""
        low, high = request.real_min_value, request.real_max_value
        if not low < high or not math.isfinite(high - low) or not 0 < request.exponent < math.inf:
            raise invalid("Invalid Dataset.DataMapping: min must be stricly lower than max, and the exponent positive")
        variable, instance = self._catalogue.instance(request.instance_id)
        found = self._cube.datasets(variable.name, instance.name, frozenset(request.record_ids))
        chosen = [one for one in found if one.is_outside]
        changed = [_mapped(one, request) for one in chosen]
        if not request.simulate and changed != chosen:
            self._cube.exchange(chosen, changed)
        return pb.UpdateDatasetsResponse(results=Counter(_told(one, variable) for one in chosen))

    def delete_datasets(self, request: datasets_pb2.DeleteDatasetsRequest) -> datasets_pb2.DeleteDatasetsResponse:
        """Delete datasets by a job."""
        return self._jobs.delete_datasets(request)


def _told(dataset: Dataset, variable: Variable) -> str:
    """How a dataset is mapped now, as Geocube tells it."""
    dformat, (low, high) = dataset.dformat, dataset.real or (variable.dformat.min, variable.dformat.max)
    kept = f"({dformat.dtype}, {dformat.min:g}, {dformat.max:g}, no_data={dformat.nodata:g})"
    return f"{kept} currently maps to ({low:g}, {high:g}) with exponent={dataset.exponent:g}"


def _mapped(dataset: Dataset, request: pb.UpdateDatasetsRequest) -> Dataset:
    dformat = mapped_dformat_of(request.dformat, dataset.dformat.dtype)
    real = (request.real_min_value, request.real_max_value)
    return dataset.model_copy(update={"dformat": dformat, "real": real, "exponent": request.exponent})
