"""The builder's pages on a real node: choosing, paging, charts, and filters that try something."""

from __future__ import annotations

import re
from html import unescape

import httpx
import pytest
from desk_site import DATASET, Reader
from portal_site import REGIE, REGISTER, Site

PAGE = f"/open-data/{DATASET}"


def _rows(page: httpx.Response) -> list[list[str]]:
    """The rows of the table of results."""
    table = page.text[page.text.index('id="rijen"') :]
    found = re.findall(r"<tr>(<td>.*?)</tr>", table, re.DOTALL)
    return [[unescape(re.sub(r"<[^>]+>", "", cell)) for cell in re.findall(r"<td.*?</td>", row)] for row in found]


def test_the_list_shows_what_there_is_with_its_licence(desk: Site) -> None:
    with Reader(desk, REGISTER) as reader, Reader(desk, REGISTER, "en") as english:
        page, other = reader.get("/open-data").text, english.get("/open-data").text
    assert f'href="{PAGE}"' in page
    assert "Inwoners &lt;b&gt;per gemeente&lt;/b&gt;" in page
    assert "CC0 1.0" in page
    assert "/data/catalog.ttl" in page
    assert "Residents by municipality" in other


def test_a_node_without_open_data_has_no_such_pages(desk: Site) -> None:
    with Reader(desk, REGIE) as reader:
        assert reader.get("/open-data").status_code == 404


@pytest.mark.parametrize("name", ["niets", "%3Cscript%3E", "..%2f..", "current", "a" * 300])
def test_an_unknown_dataset_is_not_found(desk: Site, name: str) -> None:
    with Reader(desk, REGISTER) as reader:
        page = reader.get(f"/open-data/{name}")
    assert page.status_code == 404
    assert "<script>" not in page.text


def test_a_choice_shows_those_rows_and_the_downloads_have_the_same_filters(desk: Site) -> None:
    with Reader(desk, REGISTER) as reader:
        page = reader.get(PAGE, params={"gemeente": "GM0001", "leeftijd": ""})
        rows = _rows(page)
        assert {row[0] for row in rows} == {"Plaats 1"}
        assert len(rows) == 6  # five ages and their total
        assert '<option value="GM0001" selected>Plaats 1</option>' in page.text
        csv = re.search(r'href="(/data/[^"]+\.csv[^"]*)"', page.text)
        assert csv is not None
        lines = reader.get(unescape(csv[1])).text.strip().splitlines()
    assert unescape(csv[1]) == f"/data/{DATASET}.csv?gemeente=GM0001"
    assert len(lines) == 1 + len(rows)


def test_the_pages_follow_each_other_without_gaps(desk: Site) -> None:
    seen: list[list[str]] = []
    with Reader(desk, REGISTER) as reader:
        page = reader.get(PAGE)
        while True:
            seen += _rows(page)
            following = re.search(r'href="([^"]+_next[^"]*)#rijen"', page.text)
            if following is None:
                break
            page = reader.get(unescape(following[1]))
            assert page.status_code == 200
        lines = reader.get(f"/data/{DATASET}.csv").text.strip().splitlines()[1:]
    assert len(seen) == len(lines)
    assert len({tuple(row) for row in seen}) == len(seen)


def test_the_chart_shows_the_choice_beside_its_figures(desk: Site) -> None:
    with Reader(desk, REGISTER) as reader:
        page = reader.get(PAGE, params={"gemeente": "GM0001"}).text
        total = reader.get(f"/data/{DATASET}.json?gemeente=GM0001&leeftijd=totaal").json()["data"][0]["aantal"]
    chart = page[page.index('class="plot"') : page.index("</svg>", page.index('class="plot"'))]
    figures = [int(text.replace(".", "")) for text in re.findall(r'class="value"[^>]*>([\d.]+)</text>', chart)]
    assert len(figures) == 5
    assert sum(figures) == total
    beside = page[page.index('<table class="plain">') :]
    assert re.findall(r'<td class="number">([\d.]+)</td>', beside)[:5] == [
        f"{figure:,}".replace(",", ".") for figure in figures
    ]


def test_what_is_left_out_is_hatched_and_said(desk: Site) -> None:
    with Reader(desk, REGISTER) as reader:
        page = reader.get(PAGE, params={"leeftijd": "65+"}).text
    assert 'class="left-out"' in page
    assert "Weggelaten om mensen te beschermen. Het kan ook nul zijn." in page


def test_one_cell_needs_no_chart(desk: Site) -> None:
    with Reader(desk, REGISTER) as reader:
        page = reader.get(PAGE, params={"gemeente": "GM0001", "leeftijd": "25-44"})
    assert len(_rows(page)) == 1
    assert 'class="plot"' not in page.text


def test_a_choice_that_has_no_rows_says_so(desk: Site) -> None:
    with Reader(desk, REGISTER) as reader:
        page = reader.get(PAGE, params={"gemeente": "GM9999"})
    assert page.status_code == 200
    assert "Met deze keuze zijn er geen rijen." in page.text


@pytest.mark.parametrize(
    "query",
    [
        "kolom=x",
        "gemeente[x]=1",
        "gemeente%5B=1",
        "aantal[gt]=veel",
        "_sort=niets",
        "_limit=0",
        "_limit=1",  # the page has its own
        "_next=%00",
        "_next=a&_next=b",
        "gemeente=" + "A" * 300,
        "gemeente=%00",
        "&".join(f"gemeente=GM{number}" for number in range(30)),
        "%3Cscript%3Ealert(1)%3C/script%3E=1",
        "gemeente%27%20OR%201=1--=1",
    ],
)
def test_hostile_filters_are_refused_on_a_page(desk: Site, query: str) -> None:
    with Reader(desk, REGISTER) as reader:
        page = reader.get(f"{PAGE}?{query}")
    assert page.status_code == 400
    assert "Deze vraag begrijpen we niet" in page.text
    assert "<script>alert" not in page.text


def test_hostile_values_find_nothing_and_come_back_encoded(desk: Site) -> None:
    with Reader(desk, REGISTER) as reader:
        page = reader.get(PAGE, params={"gemeente": "\"><script>alert(1)</script>' OR 1=1 --\u202e"})
    assert page.status_code == 200
    assert "<script>alert" not in page.text
    assert "\u202e" not in page.text
    assert "Met deze keuze zijn er geen rijen." in page.text


def test_the_page_explains_how_people_are_protected_with_the_figures_of_this_release(desk: Site) -> None:
    with Reader(desk, REGISTER) as reader:
        page = reader.get(PAGE).text
        about = reader.get(f"/data/{DATASET}").json()
    assert f"{about['rows']['suppressed']}" in page
    assert f"kleiner dan {about['method']['minimum_frequency']}" in page
    assert "Woo 5.1.1.e" in page
    assert about["sha256"] in page
    assert f'curl "{desk.web(REGISTER)}/data/{DATASET}.json?_limit=10"' in page
