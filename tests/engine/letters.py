"""A job that does next to nothing, with all the stages of a real one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from pydantic import BaseModel, Field

from acdtask.jobs.contract import (
    Content,
    Context,
    Draft,
    Estimate,
    Findings,
    Handouts,
    ImageFindings,
    Job,
    Nothing,
    Plan,
    Results,
    Round,
    Settings,
    Shard,
    Site,
    Work,
)

__all__ = ["LettersContext", "LettersJob", "LettersSettings", "OneLetter", "Written"]


class LettersSettings(Settings):
    letters: str = Field(default="abc", description="one shard each")
    images: int = Field(default=0, description="images that it says it has found")
    skip_first: bool = Field(default=False, description="do without the first round")


class OneLetter(Work):
    letter: str


class Written(BaseModel):
    text: str


LettersContext = Context[LettersSettings, Content]


class WriteLetter(Round[OneLetter, Nothing, Written]):
    """Each shard writes a letter a hundred times."""

    def run(self, work: OneLetter, handout: Nothing, context: LettersContext) -> Written:
        context.site.store.put(f"out/{self.name}/{work.letter}", work.letter.encode() * 100)
        return Written(text=work.letter)

    def gather(self, results: Results[OneLetter, Written], context: LettersContext) -> Handouts[Nothing]:
        text = "".join(written.text for _, written in results)
        context.site.store.put(f"out/{self.name}.all", text.encode())
        return Handouts()


class FirstRound(WriteLetter):
    name = "first"


class SecondRound(WriteLetter):
    name = "second"


class LettersJob(Job[LettersSettings, Content]):
    name = "letters"
    rounds = (FirstRound(), SecondRound())
    plans_only_what_is_missing = False
    settings = LettersSettings
    content = Content

    def plan(self, settings: LettersSettings, site: Site) -> Draft[Content, OneLetter]:
        shards: list[Shard[OneLetter]] = [Shard(units=2, work=OneLetter(letter=letter)) for letter in settings.letters]
        why = "" if shards else "there is no letter"
        rounds = ("second",) if settings.skip_first else None
        return Draft(content=Content(), shards=shards, estimate=Estimate(), nothing_to_do=why, rounds=rounds)

    def findings(self, plan: Plan[LettersSettings, Content], site: Site) -> Findings:
        start = datetime(2021, 1, 1, tzinfo=UTC)
        images = [
            ImageFindings(label=f"image-{day}", datetime=start + timedelta(days=day), patches=2, changed_area_m2=100.5)
            for day in range(plan.settings.images)
        ]
        files = {"all": site.store.address_of("out/second.all")}
        return Findings(figures={"letters": plan.shards}, images=images, files=files)
