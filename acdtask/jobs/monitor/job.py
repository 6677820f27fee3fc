"""Monitor: new images against the baseline, a date at a time, as if every date were one huge image."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from shapely.geometry import shape

from acdtask.change.method import halo_of, reads_twice
from acdtask.change.profile import Detection, detection_for
from acdtask.change.steps.registry import AllStepSettings
from acdtask.change.steps.step import Counts
from acdtask.cube.aoi import Aoi, load_aoi
from acdtask.cube.grid import Layout
from acdtask.cube.model import Record, RecordQuery, Variable
from acdtask.cube.tiling import tiles_as_geojson
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.bundle import array_from_bytes, pack, unpack
from acdtask.jobs.comparable import (
    Composition,
    Overlaps,
    composition_of,
    grids_note,
    pairs_of,
    pairs_of_labels,
    require_comparable,
    require_one_series,
)
from acdtask.jobs.contract import (
    AGAIN,
    Draft,
    Estimate,
    Findings,
    Handouts,
    Job,
    Plan,
    RoundResult,
    Shard,
    Site,
    content_id_of,
)
from acdtask.jobs.monitor.around import views_around
from acdtask.jobs.monitor.cut import CutTile, cut_tile
from acdtask.jobs.monitor.documents import tags_of_image
from acdtask.jobs.monitor.findings import findings_of, sentences_of
from acdtask.jobs.monitor.label import (
    LEFT,
    LEFT_OUT,
    NOTHING_MEASURED,
    PLACES,
    Left,
    Scorer,
    counts_to_bytes,
    join_counts,
    join_labels,
    left_of,
    left_to_bytes,
    write_change,
)
from acdtask.jobs.monitor.months import images_of_month
from acdtask.jobs.monitor.publish import patch_files, publish
from acdtask.jobs.monitor.settings import MonitorSettings
from acdtask.jobs.monitor.tally import Tally, require_images, require_judged
from acdtask.jobs.monitor.work import (
    WITHOUT_BASELINE,
    ImageWork,
    Places,
    TileWithoutBaseline,
    TileWork,
    images_of,
    monitor_tile,
    quarantined_tiles,
)
from acdtask.jobs.parts import month_of
from acdtask.jobs.products import BaselineManifest, MonitorManifest, find_manifest, is_latest, manifest_chain
from acdtask.jobs.shards import NO_WORK, cells_of, shards_of
from acdtask.jobs.stacks import Stacks, area_of, start_of, tiles_of_aoi

__all__ = ["MonitorJob"]

PIXELS_PER_CORE_SECOND = 1.25e6
"""Of one image, all rounds together (measured on the demo)."""
NAMED_AT_MOST = 5
TAG_IMAGE = "acd:content"
BECOMES_LATEST = "these images are monitored already, and their result becomes the latest again"


class MonitorJob(Job[MonitorSettings]):
    """Find where new images lie abnormally far below their baseline."""

    name = "monitor"
    rounds = ("statistics", "label", "cut")
    settings = MonitorSettings

    def plan(self, settings: MonitorSettings, site: Site) -> Draft:
        """The images after the baseline that were not monitored with these settings. BASELINE_UNKNOWN."""
        aoi = load_aoi(settings.aoi)
        layout = site.cube.layout(settings.layout)
        variable = site.cube.variable(settings.variable)
        baseline = _baseline(settings, aoi, site)
        start = settings.start or baseline.end + timedelta(microseconds=1)
        stacks = Stacks(site.cube, settings.variable, settings.instance, aoi, start, settings.end, settings.choice())
        stacks.require_choice()
        method = _method(settings, aoi, baseline, variable)
        found = _images(stacks, aoi, method)
        done = _done(method, site)
        pending = {one.label: one for one in found if _content(one.folder) not in done}
        wanted = [record for record in stacks.records if stacks.label_of(record) in pending]
        composition = _require_comparable(stacks, wanted, settings, baseline, layout, site)
        work: list[TileWork] = []
        without: list[TileWithoutBaseline] = []
        there = {one.tile.cell: one for one in baseline.tiles}
        absent = {one.cell: one for one in baseline.quarantined}
        tiles = tiles_of_aoi(aoi, layout)
        halo = halo_of(Detection.of(method["detection"]).steps)
        within = {tile.cell: there[tile.cell] for tile in tiles if tile.cell in there}
        for tile, images in zip(tiles, stacks.by_image(tiles, wanted, halo), strict=True):
            if tile.cell in there and images:
                mean, std, counts = views_around(tile, within, halo)
                work.append(TileWork(tile=tile, mean=mean, standard_deviation=std, count=counts, images=images))
            elif tile.cell in absent and images:
                without.append(TileWithoutBaseline(tile=absent[tile.cell], images=[image.label for image in images]))
        if work:
            require_images(len(baseline.images), _most_images(baseline), method["detection"])
        elif pending:
            _refuse_without_tiles(list(pending.values()), baseline, without)
        current = is_latest(site.store, aoi.name, self.name, _name(settings), method["id"])
        again = not work and bool(done) and not current
        count = sum(len(one.images) for one in work)
        images_read = count * (layout.cell_pixels + 2 * halo) ** 2
        return Draft(
            content={
                "method": method,
                "images": [] if again else [one.model_dump(mode="json") for one in pending.values()],
                **({WITHOUT_BASELINE: [one.model_dump(mode="json") for one in without]} if without else {}),
            },
            shards=[NO_WORK]
            if again
            else shards_of([one.model_dump(mode="json") for one in work], settings.shard_tiles, "tiles"),
            estimate=Estimate(
                tiles=len(work),
                dates=len(pending),
                bytes_read=images_read * np.dtype(variable.dformat.dtype).itemsize
                + len(work) * 12 * layout.cell_pixels**2,
                bytes_written=count * layout.cell_pixels**2 * 4,
                core_seconds=images_read / PIXELS_PER_CORE_SECOND,
            ),
            notes={
                "map": tiles_as_geojson([one.tile for one in work]),
                "area": area_of(aoi),
                "monitored already": len(found) - len(pending),
                **({AGAIN: BECOMES_LATEST} if again else {}),
                **composition.notes(),
                **grids_note(site, settings.variable, settings.instance, wanted),
                "stack": {"lines": [*composition.lines(), *_other_lengths(composition, baseline)]},
            },
            nothing_to_do="" if work or again else _why_nothing(found, start),
        )

    def run(
        self, plan: Plan, round_name: str, shard: Shard, handout: bytes, site: Site, progress: Callable[[int], None]
    ) -> bytes:
        """`statistics`: what is measured. `label`: z and fragments. `cut`: masks and outlines. A tile at a time."""
        shared = unpack(handout) if handout else {}
        stage = {"statistics": self._measure, "label": self._label, "cut": self._cut}[round_name]
        return stage(plan, shard, shared, site, progress)

    def gather(self, plan: Plan, round_name: str, result: RoundResult, site: Site) -> Handouts:
        """`statistics`: conclude. `label`: join fragments into blobs. `cut`: join outlines, and publish patches."""
        if round_name == "statistics":
            failed = {cell for one in result.left_out for cell in cells_of(one.shard)}
            partial = quarantined_tiles(plan, result.left_out)
            return join_counts(result.tables, _detection(plan).steps, partial, failed)
        if round_name == "label":
            missing = quarantined_tiles(plan, result.left_out)
            return join_labels(result.tables, missing, site.scratch(plan), _check_of(plan, site))
        publish(plan, result, site)
        return Handouts()

    def fenced_area(self, settings: MonitorSettings) -> str:
        """Its AOI."""
        return load_aoi(settings.aoi).name

    def names(self, shard: Shard) -> tuple[str, ...]:
        """Its cells."""
        return cells_of(shard)

    def artifacts(self, plan: Plan, site: Site) -> dict[str, str]:
        """The patches of the plan's images."""
        return patch_files(plan)

    def findings(self, plan: Plan, site: Site) -> Findings:
        """Images, patches and changed area of this plan; the files hold these patches."""
        return findings_of(plan, _published(plan, site), self.artifacts(plan, site), site)

    def notes(self, plan: Plan, site: Site) -> list[str]:
        """What the images are; patches, the share of the area that was judged, what came closest if there is none."""
        return [*plan.notes["stack"]["lines"], *sentences_of(plan, _published(plan, site), site)]

    def files_of(self, plan: Plan, table: bytes) -> tuple[str, ...]:
        """The rasters of its tiles and images."""
        cuts = (CutTile.model_validate_json(part).place for part in unpack(table).values())
        return tuple(key for place in cuts for key in (place.z.uri, place.change.uri))

    def _measure(
        self, plan: Plan, shard: Shard, shared: dict[str, bytes], site: Site, progress: Callable[[int], None]
    ) -> bytes:
        counts: dict[str, Counts] = {}
        needed = reads_twice(_detection(plan).steps)
        for done, work in enumerate(_tiles(shard), start=1):
            scorer = _scorer(work, plan, site, around=False) if needed else None
            for image in work.images:
                of_tile = scorer.measure(image) if scorer else NOTHING_MEASURED
                counts[image.label] = counts[image.label] + of_tile if image.label in counts else of_tile
            progress(done)
        return counts_to_bytes(counts)

    def _label(
        self, plan: Plan, shard: Shard, shared: dict[str, bytes], site: Site, progress: Callable[[int], None]
    ) -> bytes:
        settings, planned, scratch = MonitorSettings.model_validate(plan.settings), images_of(plan), site.scratch(plan)
        variable = site.cube.variable(settings.variable)
        left_out = frozenset(json.loads(shared.get(LEFT_OUT, b"[]")))
        z_places: dict[str, str] = json.loads(shared[PLACES])
        tags = {label: tags_of_image(image, variable, plan) for label, image in planned.items()}
        tables: dict[str, bytes] = {}
        left: dict[str, Left] = {}
        for done, work in enumerate(_tiles(shard), start=1):
            scorer = _scorer(work, plan, site, left_out=left_out)
            for image in work.images:
                wholes = [array_from_bytes(shared[image.label])] if image.label in shared else []
                places = Places(z=z_places.get(image.label, ""))
                place = monitor_tile(work, planned[image.label], variable, settings.name, places)
                change = scorer.change(image, wholes)
                part = work.part(image.label)
                tables[part] = change.fragments.table.to_bytes()
                tally = scorer.tally(change)
                z_tags = tags[image.label]["z"]
                left[part] = write_change(
                    change, tally, place.z.uri, work, image.label, places, z_tags, site.store, scratch
                )
            progress(done)
        return pack({**tables, LEFT: left_to_bytes(left)})

    def _cut(
        self, plan: Plan, shard: Shard, shared: dict[str, bytes], site: Site, progress: Callable[[int], None]
    ) -> bytes:
        settings, planned, scratch = MonitorSettings.model_validate(plan.settings), images_of(plan), site.scratch(plan)
        variable = site.cube.variable(settings.variable)
        left = left_of(shared)
        tags = {label: tags_of_image(image, variable, plan) for label, image in planned.items()}
        tables: dict[str, bytes] = {}
        for done, work in enumerate(_tiles(shard), start=1):
            for image in work.images:
                part = work.part(image.label)
                before = left[part]
                place = monitor_tile(work, planned[image.label], variable, settings.name, before.places)
                tables[part] = cut_tile(
                    work,
                    image.label,
                    place,
                    shared[part],
                    before,
                    tags[image.label]["change"],
                    site.store,
                    scratch,
                )
            progress(done)
        return pack(tables)


def _tiles(shard: Shard) -> Iterator[TileWork]:
    return (TileWork.model_validate(raw) for raw in shard.work["tiles"])


def _detection(plan: Plan) -> Detection:
    return Detection.of(plan.content["method"]["detection"])


def _check_of(plan: Plan, site: Site) -> Callable[[Tally, int], None]:
    """What refuses a plan in which no pixel was judged, before anything of it is published."""
    detection = plan.content["method"]["detection"]
    scale = site.cube.variable(plan.content["method"]["variable"]).scale
    return lambda tally, images: require_judged(tally, images, detection, scale)


def _scorer(
    work: TileWork, plan: Plan, site: Site, *, around: bool = True, left_out: frozenset[str] = frozenset()
) -> Scorer:
    settings = MonitorSettings.model_validate(plan.settings)
    variable = site.cube.variable(settings.variable)
    area, detection = shape(plan.notes["area"]), _detection(plan)
    return Scorer(work, site.cube, variable, area, detection, settings.resampling, around=around, left_out=left_out)


def _name(settings: MonitorSettings) -> str:
    return f"{settings.variable}/{settings.layout}/{settings.name}"


def _content(folder: str) -> str:
    """What an image's folder is called: the image and a digest of its records."""
    return folder.rpartition("/")[2]


def _done(method: dict[str, Any], site: Site) -> set[str]:
    """The images that both the index and the newest manifest have, as their folders are called. PRODUCT_DAMAGED.

    A month that has as many images in both is not read, so that the cost does not grow with the history.
    """
    indexed: dict[str, set[str]] = defaultdict(set)
    for record in site.published(RecordQuery(tags={"acd:monitor": method["id"]})):
        indexed[month_of(record.datetime)].add(record.tags[TAG_IMAGE])
    _, body = manifest_chain(site.store, method["aoi"], "monitor", method["id"]).newest()
    done: set[str] = set()
    for month in MonitorManifest.model_validate_json(body).months if body else ():
        images = indexed[month.month]
        if len(images) != month.images - month.partial:
            images &= {_content(product.folder) for product in images_of_month(month, site.store)}
        done |= images
    return done


def _published(plan: Plan, site: Site) -> MonitorManifest:
    method, missing = plan.content["method"], ErrorCode.MONITOR_UNKNOWN
    _, body = find_manifest(site.store, method["aoi"], "monitor", "", method["id"], missing)
    return MonitorManifest.model_validate_json(body)


def _baseline(settings: MonitorSettings, aoi: Aoi, site: Site) -> BaselineManifest:
    name = f"{settings.variable}/{settings.layout}/{settings.baseline_name}"
    _, body = find_manifest(site.store, aoi.name, "baseline", name, settings.baseline, ErrorCode.BASELINE_UNKNOWN)
    return BaselineManifest.model_validate_json(body)


def _method(settings: MonitorSettings, aoi: Aoi, baseline: BaselineManifest, variable: Variable) -> dict[str, Any]:
    """Everything but the dates that decides what comes out, and an id of it."""
    names = ("low", "high", "min_area", "min_count", "min_std", *AllStepSettings.model_fields)
    given = {name: value for name in names if (value := getattr(settings, name)) is not None}
    dformat = variable.dformat
    detection = detection_for(settings.profile, (dformat.min, dformat.max), variable.scale, given)
    method = {
        "aoi": aoi.name,
        "area": area_of(aoi),
        "baseline": baseline.content_id,
        "detection": detection.recorded(),
        "instance": settings.instance,
        "layout": settings.layout,
        "name": settings.name,
        "profile": settings.profile,
        "resampling": settings.resampling,
        "variable": settings.variable,
    }
    return {**method, "id": content_id_of("monitor", method)}


def _images(stacks: Stacks, aoi: Aoi, method: dict[str, Any]) -> list[ImageWork]:
    """The images of the stack. An image whose records change becomes another product."""
    grouped: dict[str, list[Record]] = {}
    for record in stacks.records:
        grouped.setdefault(stacks.label_of(record), []).append(record)
    images, replaced = [], stacks.replaced()
    for label, records in sorted(grouped.items()):
        ids = [record.id for record in records]
        inputs = [*ids, *(replaced[one] for one in ids if one in replaced)]
        digest = hashlib.sha256(json.dumps([method["id"], label, inputs]).encode()).hexdigest()[:12]
        images.append(
            ImageWork(
                label=label,
                datetime=max(record.datetime for record in records),
                start=start_of(records[0]),
                folder=f"products/{aoi.name}/monitor/{method['id']}/{label}-{digest}",
                records=ids,
                area=area_of(aoi),
                aoi=aoi.name,
                method=method["id"],
            )
        )
    return images


def _require_comparable(
    stacks: Stacks,
    pending: list[Record],
    settings: MonitorSettings,
    baseline: BaselineManifest,
    layout: Layout,
    site: Site,
) -> Composition:
    """What the new images are. They compare with each other and with the baseline, unless it is asked otherwise.

    TRACKS_MIXED, POLARISATIONS_MIXED, BASELINE_OF_ANOTHER_TRACK, RECORDS_OVERLAP, PAIRS_INTERLEAVED.
    """
    composition = composition_of(pending, mixed=settings.mixed)
    if settings.mixed:
        return composition
    what = f"the monitoring of {settings.variable}:{settings.instance} in {baseline.aoi}"
    whole = composition_of(stacks.records)
    require_comparable(whole, what)
    for of_baseline, of_images in ((baseline.track, whole.track), (baseline.polarisation, whole.polarisation)):
        if of_baseline and of_images and of_baseline != of_images:
            raise AcdError(
                ErrorCode.BASELINE_OF_ANOTHER_TRACK,
                f"{what} has images of {of_images} ({whole.images}), and the baseline {baseline.name} is of"
                f" {of_baseline}",
            )
    Overlaps(site.cube, settings.variable, settings.instance, layout).require_none(pending)
    if not whole.track:
        known = pairs_of_labels(baseline.images)
        require_one_series(pairs_of(stacks.of_any_length), f"{what} with its baseline {baseline.name}", known)
    return composition


def _other_lengths(composition: Composition, baseline: BaselineManifest) -> list[str]:
    """What to say of images whose pairs are longer or shorter than all of the baseline."""
    known = {(pair.end - pair.start).days for pair in pairs_of_labels(baseline.images)}
    others = {days: count for days, count in composition.pair_days.items() if days not in known}
    if not known or not others:
        return []
    lengths = ", ".join(f"{days} days: {count}" for days, count in sorted(others.items()))
    return [f"no pair of the baseline is as long as these images ({lengths}), so their coherence may differ for it"]


def _most_images(baseline: BaselineManifest) -> int:
    """As many images as half of the pixels of half of the tiles have; 0 for a baseline of an earlier version."""
    counts = sorted(tile.pixels.half_count for tile in baseline.tiles if tile.pixels and tile.pixels.half_count)
    return counts[(len(counts) - 1) // 2] if counts else 0


def _refuse_without_tiles(
    images: list[ImageWork], baseline: BaselineManifest, without: list[TileWithoutBaseline]
) -> None:
    """NOTHING_JUDGED: the images have data in no tile of the baseline."""
    named = ", ".join(image.label for image in images[:NAMED_AT_MOST])
    named += f" and {len(images) - NAMED_AT_MOST} more" if len(images) > NAMED_AT_MOST else ""
    again = "Run 'acdtask baseline local' again with this AOI and layout"
    if without:
        raise AcdError(
            ErrorCode.NOTHING_JUDGED,
            f"{named}: data only in {len(without)} tiles that were left out of the baseline",
            f"{again}: it does the tiles that it lacks.",
        )
    raise AcdError(
        ErrorCode.NOTHING_JUDGED,
        f"{named}: no data in the {len(baseline.tiles)} tiles of the baseline",
        f"{again} if the AOI has changed, or leave the records out with --leave-out.",
    )


def _why_nothing(images: list[ImageWork], start: datetime) -> str:
    if not images:
        return f"there is no image after {start.date()}"
    return f"all {len(images)} images after {start.date()} were monitored with these settings already"
