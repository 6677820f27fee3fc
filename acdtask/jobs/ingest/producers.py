"""Producers of coherence images: their filename patterns and the meaning of their values.

`docs/how-to/get-images.md` has a section on each.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.ingest.alternatives import Alternatives

__all__ = ["PRODUCERS", "Producer", "ProducerName", "advice_for", "refuse_odd_names"]

ProducerName = Literal["hyp3", "hyp3-gamma", "hyp3-isce", "opera", "aria", "licsar", "snap", "dolphin", "isce2"]


@dataclass(frozen=True)
class Producer:
    """A producer of coherence images.

    Attributes:
        title: the name that its users know.
        pattern: the filename pattern.
        examples: filenames from its documentation or its users, each with its dates.
        source: where these filenames are documented.
        settings: other ingest settings implied by its format.
        dtype: the data type that these settings apply to; empty for any.
        kinds: the producers that a collective name stands for.
        coherence: regular expression for names of coherence images; one that the pattern does not match is an error.
    """

    title: str
    pattern: str
    examples: tuple[tuple[str, str, str], ...]
    source: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    dtype: str = ""
    kinds: tuple[ProducerName, ...] = ()
    coherence: str = ""


PRODUCERS: dict[ProducerName, Producer] = {
    "hyp3-gamma": Producer(
        title="ASF HyP3 InSAR (GAMMA)",
        pattern="S1*_{start:%Y%m%dT%H%M%S}_{end:%Y%m%dT%H%M%S}_{polarisation:2}*_INT*_corr.tif",
        examples=(
            (
                "S1AA_20161223T070700_20170116T070658_VVP024_INT80_G_ueF_74C2/"
                "S1AA_20161223T070700_20170116T070658_VVP024_INT80_G_ueF_74C2_corr.tif",
                "2016-12-23T07:07:00",
                "2017-01-16T07:06:58",
            ),
        ),
        source="https://hyp3-docs.asf.alaska.edu/guides/insar_product_guide/",
    ),
    "hyp3-isce": Producer(
        title="ASF HyP3 burst InSAR (ISCE2)",
        pattern="S1*_{start}_{end}_{polarisation:2}_INT*_corr.tif",
        examples=(
            ("S1_136231_IW2_20200604_20200616_VV_INT80_10C8_corr.tif", "2020-06-04", "2020-06-16"),
            (
                "S1_064-000000s1n00-136229s2n05-136229s3n04_IW_20200604_20200616_VV_INT80_AB12_corr.tif",
                "2020-06-04",
                "2020-06-16",
            ),
            (
                "S1A_064_E053_1_N27_3_E054_1_N27_8_20200604_20200616_VV_INT80_7EB5_corr.tif",
                "2020-06-04",
                "2020-06-16",
            ),
        ),
        source="https://hyp3-docs.asf.alaska.edu/guides/burst_insar_product_guide/",
    ),
    "opera": Producer(
        title="NASA OPERA DISP-S1, layers converted to GeoTIFF",
        pattern="OPERA_L3_DISP-S1_*_{frame}_{polarisation:2}_{start:%Y%m%dT%H%M%SZ}_{end:%Y%m%dT%H%M%SZ}_v*.tif",
        examples=(
            (
                "OPERA_L3_DISP-S1_IW_F11116_VV_20160705T140755Z_20160729T140756Z_v1.0_20250408T163512Z.tif",
                "2016-07-05T14:07:55",
                "2016-07-29T14:07:56",
            ),
        ),
        source="https://github.com/opera-adt/opera-utils/blob/main/src/opera_utils/constants.py",
    ),
    "aria": Producer(
        title="ARIA S1-GUNW, extracted with ARIA-tools",
        pattern="coherence/{end}_{start}.tif",
        examples=(("coherence/20180502_20180408.tif", "2018-04-08", "2018-05-02"),),
        source="https://github.com/aria-tools/ARIA-tools/blob/dev/tests/test.sh",
    ),
    "licsar": Producer(
        title="COMET LiCSAR",
        pattern="{start}_{end}.geo.cc.tif",
        examples=(("GEOC/20141024_20150128/20141024_20150128.geo.cc.tif", "2014-10-24", "2015-01-28"),),
        source="https://comet.nerc.ac.uk/comet-lics-portal-product-details/",
        settings={"source_nodata": 0.0, "source_minimum": 0.0, "source_maximum": 255.0},
        dtype="uint8",
    ),
    "snap": Producer(
        title="ESA SNAP, each coherence band exported under its name",
        pattern="*coh_*{polarisation:2}_{start:%d%b%Y}_{end:%d%b%Y}*.tif",
        examples=(
            ("coh_IW1_VV_04Jun2020_16Jun2020.tif", "2020-06-04", "2020-06-16"),
            ("coh_VH_06Jan2023_18Jan2023.tif", "2023-01-06", "2023-01-18"),
        ),
        source="https://github.com/TUDelftGeodesy/sarxarray/issues/84",
    ),
    "dolphin": Producer(
        title="dolphin",
        pattern="{start}_{end}*.cor.tif",
        examples=(("interferograms/20160705_20160729.int.cor.tif", "2016-07-05", "2016-07-29"),),
        source="https://github.com/isce-framework/dolphin",
    ),
    "isce2": Producer(
        title="ISCE2 topsStack, geocoded and converted to GeoTIFF",
        pattern="{start}_{end}/filt_fine.cor*.tif",
        examples=(
            ("merged/interferograms/20200104_20200116/filt_fine.cor.geo.tif", "2020-01-04", "2020-01-16"),
            ("merged/interferograms/20200104_20200116/filt_fine.cor.tif", "2020-01-04", "2020-01-16"),
        ),
        source="https://github.com/geodesymiami/rsmas_insar/issues/462",
    ),
}
_GAMMA, _ISCE = PRODUCERS["hyp3-gamma"], PRODUCERS["hyp3-isce"]
PRODUCERS["hyp3"] = Producer(
    title="ASF HyP3 InSAR (GAMMA or ISCE2)",
    pattern=f"{_GAMMA.pattern}|{_ISCE.pattern}",
    examples=(*_GAMMA.examples, *_ISCE.examples),
    source="https://hyp3-docs.asf.alaska.edu",
    kinds=("hyp3-gamma", "hyp3-isce"),
    coherence=r"_corr\.tiff?$",
)
if missing := set(get_args(ProducerName)) ^ PRODUCERS.keys():
    raise TypeError(f"{missing} are not in both lists of producers")


def advice_for(name: str) -> str | None:
    """Advice for a filename that the pattern does not match, if it looks like a producer's.

    >>> advice_for("20141024_20150128.geo.cc.tif")
    'The name looks like COMET LiCSAR: use --producer licsar.'
    """
    for key, producer in PRODUCERS.items():
        if producer.kinds:
            continue
        try:
            fits = Alternatives(producer.pattern).match(name) is not None
        except AcdError:  # the right form, but invalid dates
            fits = False
        if fits:
            return f"The name looks like {producer.title}: use --producer {key}."
    return None


def refuse_odd_names(producer: ProducerName | None, pattern: str, source: str, unmatched: Sequence[str]) -> None:
    """Refuse coherence images whose names match none of the producer's kinds. FILENAME_UNMATCHED.

    A pattern other than the producer's disables the check. `unmatched` are the files that do not match the pattern.
    """
    chosen = PRODUCERS[producer] if producer else None
    if chosen is None or not chosen.coherence or pattern != chosen.pattern:
        return
    mismatched = [key for key in unmatched if re.search(chosen.coherence, key, re.IGNORECASE)]
    if mismatched:
        kinds = " and ".join(PRODUCERS[kind].title for kind in chosen.kinds)
        raise AcdError(
            ErrorCode.FILENAME_UNMATCHED,
            f"{source} has {len(mismatched)} coherence images not named as by {kinds}; the first is {mismatched[0]}",
            f"Restore their original names, move them away, or use --producer {chosen.kinds[0]} or "
            f"{chosen.kinds[1]}, which skips files with other names.",
        )
