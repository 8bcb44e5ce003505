"""Steps of the resident: she sees each use of her data, and takes the proof home."""

from __future__ import annotations

import html
import json
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from stelsel.demo.cast import ACTORS, GEMEENTE, REGIE, REGISTER, UITKERING
from stelsel.demo.scenario.browser import Visitor
from stelsel.demo.scenario.play import Evidence, Story, expect
from stelsel.ledger.receipts import write
from stelsel.privacy.fields import in_words

_QUORUM = 2
_PATIENCE = 60.0
_MONTHS = ["januari", "februari", "maart", "april", "mei", "juni"]
_MONTHS += ["juli", "augustus", "september", "oktober", "november", "december"]


def sees_each_use(story: Story) -> Evidence:
    """She logs in at the portal and sees each use: who, when, which fields, why, which article, which agreement."""
    with Visitor() as visitor:
        page = log_in(story, visitor)
        answer = visitor.press("bewijs")
    text = html.unescape(page)
    told = {
        "who": GEMEENTE.name,
        "why": story.terms.purpose,
        "article": story.terms.legal_basis.article,
        "agreement": story.grant_hash.rpartition("$")[2][:12],
        "another consumer": UITKERING.name,
    }
    told |= {f"field {number}": words for number, words in enumerate(in_words(story.terms.fields, "nl"))}
    for what, words in told.items():
        expect(words in text, f"the page tells {what}: {words}", _excerpt(text))
    entry = next((part for part in text.split('<li class="use') if story.transaction_id in part), "")
    when = [moment for moment in _moments(story) if moment in entry]
    expect(when, f"this use is told with its moment, {_moments(story)}", " ".join(entry.split())[:1500])
    expect(story.resident.burgerservicenummer not in page, "without her number on the page")
    expect(answer.headers["content-type"].startswith("application/json"), "a receipt to download", answer.headers)
    story.receipt = answer.content
    return {"when": when[0]} | {name: told[name] for name in ("who", "why", "article")}


def proves_it_offline(story: Story) -> Evidence:
    """`stelsel verify` proves the receipt with no node and no network; one changed byte fails. Others witnessed it."""
    folder = story.country.folder
    receipt = folder / "bewijs.json"
    receipt.write_bytes(story.receipt)
    proven = _verify(receipt, folder / "trust-anchors.pem")
    expect(proven.returncode == 0, "the receipt holds", proven.stderr)
    altered = folder / "bewijs-veranderd.json"
    positions = [len(story.receipt) * part // 5 for part in range(1, 5)]
    for position in positions:
        changed = bytearray(story.receipt)
        changed[position] ^= 1
        altered.write_bytes(changed)
        expect(_verify(altered, folder / "trust-anchors.pem").returncode == 1, f"byte {position} changed: it fails")
    altered.unlink()
    names = _witnesses(story, json.loads(story.receipt))
    caught = {"changed bytes that were caught": len(positions)}
    return {"bytes": len(story.receipt), "holds": True} | caught | {"witnessed by": ", ".join(names)}


def _witnesses(story: Story, receipt: dict[str, Any]) -> list[str]:
    """Wait until other organisations cosigned the ledger with this record in it; then the receipt proves that too."""
    owner = next(actor for actor in ACTORS if f"/{actor.peer_id}\n" in receipt["checkpoint"])
    deadline = time.monotonic() + _PATIENCE
    while len(receipt.get("witnesses", ())) < _QUORUM:
        expect(time.monotonic() < deadline, f"{_QUORUM} organisations cosign the ledger of {owner.name}", receipt)
        time.sleep(0.2)
        receipt = story.country.control(owner).get(f"/receipts/{receipt['index']}")
    file = story.country.folder / "bewijs-met-getuigen.json"
    file.write_bytes(write(receipt))
    demanded = ("--witness-quorum", str(_QUORUM), "--json")
    proven = _verify(file, story.country.folder / "trust-anchors.pem", *demanded)
    expect(proven.returncode == 0, "the receipt holds with its witnesses", proven.stderr)
    return [str(witness["peer"]) for witness in json.loads(proven.stdout)["witnesses"]]


def log_in(story: Story, visitor: Visitor) -> str:
    """Log in at the resident portal by the demo's choice of an invented resident; gives the page that follows."""
    visitor.go(f"{story.country.web(REGIE)}/inloggen?terug=/mijn-gegevens")
    visitor.press(story.resident.name)
    return visitor.page.text if visitor.page is not None else ""


def _moments(story: Story) -> list[str]:
    """When each side recorded the story's exchange, in Dutch words and Dutch time: 23 november 2026, 14.05 uur."""
    told = []
    for actor in (GEMEENTE, REGISTER):
        (row, *_) = story.country.control(actor).post("/log", {"transaction_id": story.transaction_id})
        moment = datetime.fromtimestamp(row["time"] / 1000, tz=ZoneInfo("Europe/Amsterdam"))
        told.append(f"{moment.day} {_MONTHS[moment.month - 1]} {moment.year}, {moment:%H.%M} uur")
    return told


def _verify(receipt: Path, anchors: Path, *more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "stelsel", "verify", str(receipt), "--trust-anchors", str(anchors), *more]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def _excerpt(text: str) -> str:
    begin = text.find("<main")
    return " ".join(text[begin : begin + 1500].split())
