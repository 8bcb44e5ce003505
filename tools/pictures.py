"""Take the pictures of the documentation in a real browser, from a country that runs for it."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from stelsel.demo.beginnings import first_uses, open_up
from stelsel.demo.cast import GEMEENTE, PARKING_TERMS, REGIE, REGISTER
from stelsel.demo.country import MUNICIPALITY, Country, Options, temporary_folder
from stelsel.demo.population_register.store import notable_people
from stelsel.demo.scenario import opendata

_FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync", "--no-first-run")


def main(folder: Path, *, narrow: bool) -> None:
    """Write the pictures into `folder`."""
    country = Country.prepare(Options(folder=temporary_folder() / "c"))
    try:
        country.start()
        country.settle()
        first_uses(country, PARKING_TERMS)
        open_up(country)
        resident = notable_people(country.folder / "people.sqlite", 1, MUNICIPALITY)[0]
        folder.mkdir(parents=True, exist_ok=True)
        with sync_playwright() as driver:
            chromium = shutil.which("chromium") or shutil.which("google-chrome")
            browser = driver.chromium.launch(executable_path=chromium, args=list(_FLAGS))
            page = browser.new_page(viewport={"width": 360 if narrow else 1280, "height": 900})
            _take(country, page, folder, resident.name)
            browser.close()
    finally:
        country.stop()
        shutil.rmtree(country.folder.parent, ignore_errors=True)


def _take(country: Country, page: Page, folder: Path, resident: str) -> None:
    def picture(name: str, *, whole: bool = True) -> None:
        page.screenshot(path=folder / f"{name}.png", full_page=whole)

    regie, register = country.web(REGIE), country.web(REGISTER)
    page.goto(regie)
    picture("begin")
    page.goto(f"{regie}/inloggen?terug=/mijn-gegevens")
    picture("inloggen")
    page.get_by_role("button", name=resident).first.click()
    page.wait_for_url("**/mijn-gegevens*")
    picture("mijn-gegevens-heel")
    picture("mijn-gegevens", whole=False)
    for path, name in (("/stelsel", "verplichte-afspraken"), ("/doelen", "doelen"), ("/doelen/zonder-papier", "doel")):
        page.goto(f"{regie}{path}")
        picture(name)
    page.goto(f"{register}/inloggen?terug=/afspraken")
    page.get_by_role("button", name="Medewerker van Bevolkingsregister").first.click()
    page.wait_for_url("**/afspraken*")
    picture("afspraken")
    page.locator("main a[href*='/afspraken/']").first.click()
    picture("afspraak")
    page.goto(f"{register}/open-data")
    picture("open-data")
    page.goto(f"{register}/open-data/{opendata.DATASET}")
    picture("dataset")
    page.goto(country.application(GEMEENTE))
    picture("parkeren")


if __name__ == "__main__":
    main(Path(sys.argv[1]), narrow="--narrow" in sys.argv)
