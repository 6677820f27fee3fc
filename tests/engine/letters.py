"""A job that does next to nothing, with all the stages of a real one."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from pydantic import Field

from acdtask.jobs.contract import (
    Draft,
    Estimate,
    Findings,
    FoundImage,
    Handouts,
    Job,
    Plan,
    RoundResult,
    Settings,
    Shard,
    Site,
)

__all__ = ["LettersJob", "LettersSettings"]


class LettersSettings(Settings):
    letters: str = Field(default="abc", description="one shard each")
    images: int = Field(default=0, description="images that it says it has found")


class LettersJob(Job[LettersSettings]):
    """Each shard writes a letter a hundred times."""

    name = "letters"
    rounds = ("first", "second")
    plans_only_what_is_missing = False
    settings = LettersSettings

    def plan(self, settings: LettersSettings, site: Site) -> Draft:
        shards = [Shard(units=2, work={"letter": letter}) for letter in settings.letters]
        why = "" if shards else "there is no letter"
        return Draft(content=settings.science(), shards=shards, estimate=Estimate(), nothing_to_do=why)

    def run(
        self, plan: Plan, round_name: str, shard: Shard, handout: bytes, site: Site, progress: Callable[[int], None]
    ) -> bytes:
        letter: str = shard.work["letter"]
        site.store.put(f"out/{round_name}/{letter}", letter.encode() * 100)
        return letter.encode()

    def gather(self, plan: Plan, round_name: str, result: RoundResult, site: Site) -> Handouts:
        site.store.put(f"out/{round_name}.all", b"".join(table for _, table in result.tables))
        return Handouts()

    def findings(self, plan: Plan, site: Site) -> Findings:
        count = plan.settings["images"]
        start = datetime(2021, 1, 1, tzinfo=UTC)
        images = [
            FoundImage(label=f"image-{day}", datetime=start + timedelta(days=day), patches=2, changed_area_m2=100.5)
            for day in range(count)
        ]
        files = {"all": site.store.address_of("out/second.all")}
        return Findings(figures={"letters": plan.shards}, images=images, files=files)
