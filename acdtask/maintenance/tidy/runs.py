"""Tidying of runs: plans with their shards, tables and scratch; accounts of workflows; tokens and announcements."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.codec import document_in
from acdtask.jobs.contract import Site
from acdtask.jobs.registry import JOBS
from acdtask.maintenance.references import Names, names_in_json
from acdtask.maintenance.tidy.deletion import YOUNG, Broom, Tally
from acdtask.maintenance.tidy.retention import Retention
from acdtask.storage.listing import Entry
from acdtask.storage.seal import unseal

__all__ = ["Runs", "read_runs", "sweep_runs"]

PLAN = re.compile(rf"runs/(?P<job>{'|'.join(JOBS)})/(?P<plan>[0-9a-f]{{16}})/(?P<rest>.+)")
TOKEN = re.compile(r"runs/(?P<place>tokens/.+|verified/[0-9a-f]{16})/(?P<number>\d{8})(\.json)?")
ANNOUNCED = re.compile(r"runs/published/(?P<place>.+)/(?P<number>\d{8})\.json")
ACCOUNT = re.compile(r"runs/workflows/(?P<run>[^/]+)/.+")
UNUSABLE = re.compile(r"runs/ingest/unusable/[0-9a-f]{32}\.json")
KNOWN = re.compile(r"runs/ingest/known/[0-9a-f]{16}/[^/]+\.json")
OWN_TOKEN = re.compile(r"tokens/(\d{8})")
COMPLETE = re.compile(r"(?P<round>[^/]+)/gathered/[^/]+/000000-.+\.json")

ACCOUNTS = "accounts of workflows"
RUNS = "--keep-runs"

PlanKey = tuple[str, str]
"""A job and the id of its plan."""


@dataclass
class Folder:
    """Summary of a folder of runs. `whole_rounds` are rounds gathered with nothing left out."""

    tally: Tally = field(default_factory=Tally)
    token: int = 0
    whole_rounds: set[str] = field(default_factory=set)
    has_plan: bool = False

    def add(self, entry: Entry, rest: str = "") -> None:
        """Add an object; `rest` is its key relative to a plan's folder."""
        self.tally.add(entry)
        self.has_plan = self.has_plan or rest == "plan.json"
        if match := OWN_TOKEN.fullmatch(rest):
            self.token = max(self.token, int(match[1]))
        if match := COMPLETE.fullmatch(rest):
            self.whole_rounds.add(match["round"])

    def is_old(self, cutoff: datetime) -> bool:
        """Whether nothing in the folder is younger than the cutoff."""
        return self.tally.newest is not None and self.tally.newest <= cutoff

    def has_old(self, cutoff: datetime) -> bool:
        """Whether something in the folder is older than the cutoff."""
        return self.tally.oldest is not None and self.tally.oldest <= cutoff


@dataclass
class Runs:
    """Everything below `runs/`, by folder.

    Attributes:
        newest: the newest modification time; None if there are no objects.
        kept: the documents of the plans to keep.
    """

    plans: dict[PlanKey, Folder] = field(default_factory=dict)
    accounts: dict[str, Folder] = field(default_factory=dict)
    tokens: dict[str, list[tuple[int, Entry]]] = field(default_factory=lambda: defaultdict(list))
    announced: list[tuple[str, int, Entry]] = field(default_factory=list)
    unusable: list[Entry] = field(default_factory=list)
    known: list[Entry] = field(default_factory=list)
    unknown: list[Entry] = field(default_factory=list)
    newest: datetime | None = None
    kept: dict[PlanKey, dict[str, Any]] = field(default_factory=dict)

    def names(self, site: Site, cutoff: datetime) -> Names:
        """Files that kept plans write: folders of products, and files of older shards."""
        names = Names()
        for (job, plan_id), document in self.kept.items():
            content = document.get("content", {})
            names.add(names_in_json(json.dumps(content).encode(), site.store))
            if job == "report":
                names.add(_pictures_of(content))
            if job == "ingest" and self.plans[job, plan_id].has_old(cutoff):
                for entry in site.store.entries(f"runs/{job}/{plan_id}/write"):
                    if entry.key.endswith(".table"):
                        names.add(_names_in_table(site, entry.key))
        return names

    def planned_products(self) -> set[tuple[str, str]]:
        """Job and content id of the products of kept plans."""
        return {(job, plan.get("content_id", "")) for (job, _), plan in self.kept.items()}


def _names_in_table(site: Site, key: str) -> set[str]:
    """The keys named by a shard's table. TIDY_UNSURE."""
    try:
        document = document_in(site.store.get(key))
    except ValueError as error:
        raise AcdError(ErrorCode.TIDY_UNSURE, f"{site.store.address_of(key)} is damaged") from error
    return names_in_json(document, site.store, key)


def read_runs(site: Site) -> Runs:
    """List `runs/`. Memory grows with the number of plans, not with their objects."""
    runs = Runs()
    for entry in site.store.entries("runs"):
        runs.newest = max(runs.newest or entry.modified, entry.modified)
        _add_entry(entry, runs)
    return runs


def _pictures_of(content: dict[str, Any]) -> list[str]:
    """The folders of pictures that a report's plan writes."""
    report = f"products/{content.get('aoi')}/report/{content.get('report')}"
    folders = [folder for month in content.get("months", {}).values() for folder in month["dates"].values()]
    return [f"{report}/{folder}" for folder in (*folders, f"baseline-{content.get('ground')}")]


def _add_entry(entry: Entry, runs: Runs) -> None:
    if match := PLAN.fullmatch(entry.key):
        folder = runs.plans.setdefault((match["job"], match["plan"]), Folder())
        folder.add(entry, match["rest"])
    elif match := ACCOUNT.fullmatch(entry.key):
        runs.accounts.setdefault(match["run"], Folder()).add(entry)
    elif match := TOKEN.fullmatch(entry.key):
        runs.tokens[match["place"]].append((int(match["number"]), entry))
    elif match := ANNOUNCED.fullmatch(entry.key):
        runs.announced.append((match["place"], int(match["number"]), entry))
    elif UNUSABLE.fullmatch(entry.key):
        runs.unusable.append(entry)
    elif KNOWN.fullmatch(entry.key):
        runs.known.append(entry)
    else:
        runs.unknown.append(entry)


def sweep_runs(site: Site, runs: Runs, retention: Retention, broom: Broom) -> None:
    """Remove old plans, accounts, announcements and tokens."""
    for job, plan_id in sorted(_old_plans(site, runs, retention, broom.cutoff)):
        _remove_folder(f"runs/{job}/{plan_id}", "plans", broom)
    for key in runs.kept:
        is_old = runs.plans[key].is_old(broom.cutoff)
        broom.keep_all("plans", f"newest finished ones ({RUNS})" if is_old else YOUNG, runs.plans[key].tally)
    for run, folder in sorted(runs.accounts.items()):
        if folder.is_old(broom.cutoff):
            _remove_folder(f"runs/workflows/{run}", ACCOUNTS, broom)
        else:
            broom.keep_all(ACCOUNTS, YOUNG, folder.tally)
    _sweep_announcements(runs, broom)
    _sweep_tokens(runs, broom)
    broom.keep("notes of unusable files", "reports show them", *runs.unusable)
    broom.keep("notes of ingested files", "later ingests compare with them", *runs.known)
    for entry in runs.unknown:
        broom.keep_unknown(entry)


def _old_plans(site: Site, runs: Runs, retention: Retention, cutoff: datetime) -> list[PlanKey]:
    """Choose the plans to remove, and store the others in `runs.kept`."""
    old_plans: list[PlanKey] = []
    finished: dict[tuple[str, str], int] = defaultdict(int)
    for key, folder in sorted(runs.plans.items(), key=lambda item: item[1].tally.newest or cutoff, reverse=True):
        plan = _document_of(site, key) if folder.has_plan else {}
        group = (_area_of(plan), key[0])
        is_finished = bool(plan) and plan["rounds"][-1] in folder.whole_rounds
        finished[group] += is_finished
        if not folder.is_old(cutoff) or (is_finished and finished[group] <= retention.keep_runs):
            runs.kept[key] = plan
        else:
            old_plans.append(key)
    return old_plans


def _document_of(site: Site, key: PlanKey) -> dict[str, Any]:
    """The plan's document; empty if another process removed it. TIDY_UNSURE."""
    path = f"runs/{key[0]}/{key[1]}/plan.json"
    body = site.store.find(path)
    if body is None:
        return {}
    plan: dict[str, Any] = json.loads(unseal(body, site.store.address_of(path), ErrorCode.TIDY_UNSURE))
    return plan


def _area_of(plan: dict[str, Any]) -> str:
    """The AOI of a plan: its name, else the path of its file; empty if it has none."""
    content = plan.get("content", {})
    for part in (content.get("method"), content.get("settings"), content, plan.get("settings")):
        area = part.get("aoi") if isinstance(part, dict) else None
        if isinstance(area, str) and area:
            return area
    return ""


def _remove_folder(prefix: str, kind: str, broom: Broom) -> None:
    """Remove a folder unless something in it is new. Its plan, which refers to the rest, goes first."""
    entries = sorted(broom.store.entries(prefix), key=lambda entry: (not entry.key.endswith("/plan.json"), entry.key))
    if any(entry.modified > broom.cutoff for entry in entries):
        broom.keep(kind, "in use again", *entries)
        return
    broom.remove(kind, entries[:1])
    broom.remove(kind, entries[1:])


def _sweep_announcements(runs: Runs, broom: Broom) -> None:
    """Remove old announcements once no plan with an older token is kept, which they keep from publishing."""
    oldest = _oldest_tokens(runs)
    for folder, number, entry in sorted(runs.announced, key=lambda item: item[2].key):
        if entry.modified > broom.cutoff:
            broom.keep("announcements", YOUNG, entry)
        elif any(token < number for group, token in oldest.items() if _belongs_to(folder, group)):
            broom.keep("announcements", "an older plan is kept", entry)
        else:
            broom.remove("announcements", [entry])


def _oldest_tokens(runs: Runs) -> dict[PlanKey, int]:
    """The lowest token per AOI and job among kept plans, each counted with its newest token."""
    oldest: dict[PlanKey, int] = {}
    for (job, plan_id), plan in runs.kept.items():
        group = (_area_of(plan), job)
        token = runs.plans[job, plan_id].token
        oldest[group] = min(oldest.get(group, token), token)
    return oldest


def _belongs_to(folder: str, group: PlanKey) -> bool:
    """Whether a folder belongs to an AOI and job; a plan without an AOI may belong to any."""
    name, job = group
    return folder.startswith(f"{name}/{job}/") if name else f"/{job}/" in f"/{folder}"


def _sweep_tokens(runs: Runs, broom: Broom) -> None:
    """Remove old tokens and verification numbers; the newest stays, since the next is counted from it."""
    for _, tokens in sorted(runs.tokens.items()):
        broom.remove_superseded("tokens", tokens, 1)
