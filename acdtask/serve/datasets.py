"""The RPCs on containers and datasets; each method serves the RPC of the same name."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from acdtask.cube.model import Addition, Dataset, Instance, Variable
from acdtask.cube.protocol import datasets_pb2 as pb
from acdtask.cube.protocol.convert import DTYPES, dformat_to_message
from acdtask.errors import AcdError, ErrorCode
from acdtask.raster.source_files import Header, read_header
from acdtask.serve.cancellation import wanted
from acdtask.serve.catalogue import Catalogue
from acdtask.serve.errors import RefusalError, already_exists, invalid, not_found, not_served, uuid_of
from acdtask.serve.frames import metas_of
from acdtask.serve.ids import instance_id
from acdtask.serve.managed import Managed
from acdtask.serve.messages import mapped_dformat_of, query_of, record_to_message

__all__ = ["DatasetCalls"]


@dataclass(frozen=True)
class _DescribedDataset:
    """A dataset to index, as described by the request, before its file is opened."""

    message: pb.Dataset
    record_id: str
    variable: Variable
    instance: Instance


class DatasetCalls:
    """The RPCs on containers and datasets of a confined cube. Every method raises RefusalError or AcdError."""

    def __init__(self, catalogue: Catalogue, managed: Managed) -> None:
        self._catalogue = catalogue
        self._managed = managed
        self._cube = catalogue.cube

    def index_datasets(self, request: pb.IndexDatasetsRequest) -> pb.IndexDatasetsResponse:
        """Index the datasets of a container, all or none. Indexing them again changes nothing."""
        container = request.container
        self._check_address(container.uri)
        described = [self._described(message) for message in container.datasets]
        if described:
            header = self._header(container.uri)
            datasets = [_dataset_of(description, container.uri, header) for description in described]
            self._check_records(datasets)
            self._commit(datasets)
        if described and container.managed:
            self._managed.mark(container.uri)
        return pb.IndexDatasetsResponse()

    def get_containers(self, request: pb.GetContainersRequest) -> pb.GetContainersResponse:
        """Return containers with their datasets, in the order of the request's addresses."""
        keys = {uri: self._catalogue.key_of(uri) for uri in request.uris}
        by_uri: dict[str, list[Dataset]] = defaultdict(list)
        for dataset in self._cube.datasets_at([*keys, *keys.values()]):
            by_uri[self._catalogue.address_of(dataset.uri)].append(dataset)
        for uri in keys:
            if uri not in by_uri:
                raise not_found("Container", "uri", uri)
        variables = {variable.name: variable for variable in self._cube.variables()}
        return pb.GetContainersResponse(
            containers=[
                pb.Container(
                    uri=uri,
                    managed=self._managed.is_marked(uri),
                    datasets=[_to_message(dataset, variables[dataset.variable]) for dataset in by_uri[uri]],
                )
                for uri in keys
            ]
        )

    def list_datasets(self, request: pb.ListDatasetsRequest) -> pb.ListDatasetsResponse:
        """List the datasets of an instance by record, sorted by the records' datetime."""
        variable, instance = self._catalogue.instance(request.instance_id)
        if request.HasField("records"):
            records = self._cube.records_by_id(list(dict.fromkeys(request.records.ids)))
            records.sort(key=lambda record: (record.datetime, record.name, record.id))
        else:
            records = self._cube.records(query_of(request.filters))
        by_record: dict[str, list[Dataset]] = defaultdict(list)
        datasets = self._cube.datasets(variable.name, instance.name, frozenset(record.id for record in records))
        for dataset in wanted(datasets):
            by_record[dataset.record_id].append(dataset)
        listed = [record for record in wanted(records) if record.id in by_record]
        return pb.ListDatasetsResponse(
            records=[record_to_message(record) for record in wanted(listed)],
            dataset_metas=[
                metas_of(by_record[record.id], variable, self._catalogue.address_of) for record in wanted(listed)
            ],
        )

    def _check_address(self, uri: str) -> None:
        if uri.startswith("file://"):
            raise invalid(f"{uri} cannot be opened: it is neither an absolute path nor an s3:// address")
        self._cube.store.gdal_path(uri)

    def _described(self, message: pb.Dataset) -> _DescribedDataset:
        record_id = _own_uuid(message.record_id, f"Invalid record id: {message.record_id}")
        _own_uuid(message.instance_id, f"Invalid instance id: {message.instance_id}")
        _check_mapping(message)
        variable, instance = self._catalogue.instance(message.instance_id)
        if len(message.bands) != len(variable.bands):
            raise invalid("Wrong number of bands in dataset")
        low, high = message.real_min_value, message.real_max_value
        if low >= variable.dformat.max or high <= variable.dformat.min:
            raise invalid(
                f"Range of external values of the dataset [{low:f},{high:f}] does not intersect the range of values "
                f"of the variable [{variable.dformat.min:f},{variable.dformat.max:f}]"
            )
        if message.container_subdir:
            raise not_served(
                f"acd does not read images within a container ({message.container_subdir}); index one file per image, "
                "or bands of a file"
            )
        return _DescribedDataset(message, record_id, variable, instance)

    def _header(self, uri: str) -> Header:
        try:
            return read_header(self._cube.store, uri)
        except AcdError as error:
            if error.code is not ErrorCode.INPUT_UNREADABLE:
                raise
            raise invalid(error.detail.replace(" cannot be opened: ", " cannot be opened: GDAL 4: ", 1)) from error

    def _check_records(self, datasets: Sequence[Dataset]) -> None:
        wanted = list(dict.fromkeys(dataset.record_id for dataset in datasets))
        known = {record.id for record in self._cube.records_by_id(wanted)}
        for record_id in wanted:
            if record_id not in known:
                raise not_found("Dataset", "record_id", record_id)

    def _commit(self, datasets: Sequence[Dataset]) -> None:
        try:
            self._cube.commit(Addition(datasets=datasets))
        except AcdError as error:
            if error.code is not ErrorCode.DATASET_CONFLICT:
                raise
            raise self._conflict(datasets) from error

    def _conflict(self, datasets: Sequence[Dataset]) -> RefusalError:
        """The refusal that describes the conflict in Geocube's words; datasets may also conflict within a request."""
        indexed = self._cube.datasets_at([datasets[0].uri])
        for dataset in datasets:
            variable, bands = self._cube.variable(dataset.variable), "-".join(map(str, dataset.bands))
            for other in indexed:
                meets = other.subdir == dataset.subdir and set(other.bands) & set(dataset.bands)
                if meets and (why := _difference(other, dataset, variable)):
                    message = (
                        f"A dataset {why} already refers to the container {dataset.uri}, the subdir "
                        f"'{dataset.subdir}' and one of the bands among: {bands}"
                    )
                    return already_exists("dataset", "subdir/bands", f"{dataset.subdir}/{bands}", message)
            indexed.append(dataset)
        return already_exists("dataset", "uri", datasets[0].uri)


def _own_uuid(text: str, message: str) -> str:
    try:
        return uuid_of(text)
    except RefusalError as error:
        raise invalid(message) from error


def _check_mapping(message: pb.Dataset) -> None:
    low, high = message.real_min_value, message.real_max_value
    shown = f"[{message.dformat.min_value:g} -> {message.dformat.max_value:g}], nodata:{message.dformat.no_data:g}"
    if not message.dformat.min_value < message.dformat.max_value or not low < high:
        raise invalid(f"Invalid Dataset.DataMapping ({shown}): min must be stricly lower than max")
    if not math.isfinite(high - low):
        raise invalid(f"Invalid Dataset.DataMapping ({shown}): min and max must be finite")
    if not 0 < message.exponent < math.inf:
        raise invalid(f"Invalid Dataset.DataMapping ({shown}): invalid exponent (must be strictly positive)")


def _dataset_of(described: _DescribedDataset, uri: str, header: Header) -> Dataset:
    """The dataset of a file; its data type is read from the file, not from the request."""
    message = described.message
    for band in message.bands:
        if not 1 <= band <= header.bands:
            raise invalid(f"{uri} has no band: {band}")
    if len(set(message.bands)) < len(message.bands):
        raise invalid(f"{uri}: a band is listed twice")
    dtypes = [header.dtypes[band - 1] for band in message.bands]
    if len(set(dtypes)) > 1:
        names = " and ".join(sorted(set(dtypes)))
        raise invalid(f"{uri} : all bands must have the same data type (found {names})")
    if dtypes[0] not in DTYPES:
        raise not_served(
            f"{uri} has the data type {dtypes[0]}, which acd does not support; use one of {', '.join(sorted(DTYPES))}"
        )
    return Dataset(
        record_id=described.record_id,
        variable=described.variable.name,
        instance=described.instance.name,
        uri=uri,
        bands=tuple(message.bands),
        dformat=mapped_dformat_of(message.dformat, dtypes[0]),
        grid=header.grid,
        real=(message.real_min_value, message.real_max_value),
        exponent=message.exponent,
    )


def _difference(indexed: Dataset, new: Dataset, variable: Variable) -> str:
    """How an indexed dataset differs from a new one of this variable; empty if they are equal."""
    if indexed.record_id != new.record_id:
        return f"of another record ({indexed.record_id})"
    if (indexed.variable, indexed.instance) != (new.variable, new.instance):
        return f"of another instance ({instance_id(indexed.variable, indexed.instance)})"
    if indexed.bands != new.bands:
        return "with a different set of bands"
    if indexed.grid != new.grid:
        return "with different shape"
    mappings = [(dataset.dformat, dataset.exponent, _real(dataset, variable)) for dataset in (indexed, new)]
    return "" if mappings[0] == mappings[1] else "with another datamapping"


def _real(dataset: Dataset, variable: Variable) -> tuple[float, float]:
    return dataset.real or (variable.dformat.min, variable.dformat.max)


def _to_message(dataset: Dataset, variable: Variable) -> pb.Dataset:
    low, high = _real(dataset, variable)
    return pb.Dataset(
        record_id=dataset.record_id,
        instance_id=instance_id(dataset.variable, dataset.instance),
        container_subdir=dataset.subdir,
        bands=dataset.bands,
        dformat=dformat_to_message(dataset.dformat),
        real_min_value=low,
        real_max_value=high,
        exponent=dataset.exponent,
    )
