"""The builder's pages, for everyone: which open data there are, how people in them are protected, and a way to look."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from stelsel.base.errors import BadRequest
from stelsel.opendata.query import MAXIMUM_LIMIT, Page
from stelsel.opendata.release import Release
from stelsel.opendata.schema import COUNT, Dimension
from stelsel.portal.charts import Bar, bars
from stelsel.portal.contract_views import Pair
from stelsel.portal.dataset_views import (
    Choice,
    address,
    axis_of,
    choices,
    dataset_view,
    is_left_out,
    label_of,
    row_view,
    tops,
)
from stelsel.portal.pages import language_of

if TYPE_CHECKING:
    from stelsel.opendata.service import OpenData
    from stelsel.portal.service import Portal
    from stelsel.portal.words import Language

_ROWS = 25
_MOST_BARS = 12
_MOST_PARAMETERS = 20
_LANGUAGE = "taal"


def routes(portal: Portal) -> list[BaseRoute]:
    """The builder's pages. Only a node that publishes open data has them."""
    if portal.opendata is None:
        return []
    pages = _Builder(portal, portal.opendata)
    return [Route("/open-data", pages.listing), Route("/open-data/{dataset}", pages.one)]


@dataclass(frozen=True, slots=True)
class ChartView:
    """A chart with the figures it shows."""

    picture: Markup
    title: Pair
    axis: Pair
    bars: tuple[Bar, ...]
    more: bool
    """Whether there are more than are drawn."""

    @property
    def left_out(self) -> bool:
        """Whether one of the bars is left out to protect people."""
        return any(bar.value is None for bar in self.bars)


class _Builder:
    def __init__(self, portal: Portal, opendata: OpenData) -> None:
        self._portal, self._opendata = portal, opendata

    async def listing(self, request: Request) -> Response:
        releases = await asyncio.to_thread(self._opendata.datasets)
        return await self._portal.page(
            request,
            "datasets.html",
            title=("Open data", "Open data"),
            datasets=[row_view(release) for release in releases],
            publisher=self._opendata.publisher,
        )

    async def one(self, request: Request) -> Response:
        filters, after = _asked(request)
        name = request.path_params["dataset"]
        release, page, chart_page, axis = await asyncio.to_thread(self._look_up, name, filters, after)
        chosen, language = dict(filters), language_of(request)
        lists = choices(release, chosen)
        where = f"/data/{release.dataset}"
        api = f"{self._opendata.base_url}{where}"
        here = f"/open-data/{release.dataset}"
        return await self._portal.page(
            request,
            "dataset.html",
            title=(release.schema.title.nl, release.schema.title.en),
            dataset=dataset_view(release, page.columns),
            publisher=self._opendata.publisher,
            lists=lists,
            heads=_heads(release, page),
            rows=[dict(zip(page.columns, row, strict=True)) for row in page.rows],
            filtered=bool(chosen),
            chart=_chart(release, chart_page, axis, lists, language) if axis is not None else None,
            first_page=address(here, filters) if after else "",
            next_page=address(here, [*filters, ("_next", page.next)]) if page.next else "",
            csv=address(f"{where}.csv", filters),
            json=address(f"{where}.json", filters),
            parquet=f"{where}.parquet",
            example=address(f"{api}.json", [*filters, ("_limit", "10")]),
        )

    def _look_up(
        self, name: str, filters: list[tuple[str, str]], after: str
    ) -> tuple[Release, Page, Page, Dimension | None]:
        """(release, page of rows, rows of the chart, dimension along the chart). Runs in a thread."""
        asked = [*filters, ("_limit", str(_ROWS))]
        page = self._opendata.rows(name, [*asked, ("_next", after)] if after else asked)
        chosen = dict(filters)
        axis = axis_of(page.release, chosen)
        if axis is None:
            return page.release, page, page, None
        fixed = [(one.name, chosen.get(one.name) or one.total) for one in page.release.dimensions if one is not axis]
        drawn = [*fixed, (f"{axis.name}[not]", axis.total), ("_limit", str(MAXIMUM_LIMIT))]
        if axis.kind == "code":
            drawn.append(("_sort", f"-{COUNT}"))
        return page.release, page, self._opendata.rows(name, drawn), axis


def _asked(request: Request) -> tuple[list[tuple[str, str]], str]:
    """(filters, where to go on) out of the address. A list left open sends an empty value: that is no filter.

    Raises `BadRequest`.
    """
    parameters = [(name, value) for name, value in request.query_params.multi_items() if name != _LANGUAGE]
    if len(parameters) > _MOST_PARAMETERS:
        raise BadRequest(f"at most {_MOST_PARAMETERS} choices can be made")
    after = [value for name, value in parameters if name == "_next"]
    if len(after) > 1:
        raise BadRequest("_next is given twice")
    filters = [(name, value) for name, value in parameters if value and name != "_next"]
    return filters, after[0] if after else ""


def _heads(release: Release, page: Page) -> list[tuple[str, Pair]]:
    """The columns that the table shows, with their titles. Names stand in place of codes where there are any."""
    heads: list[tuple[str, Pair]] = []
    for dimension in release.dimensions:
        named = f"{dimension.name}_naam"
        heads.append((named if named in page.columns else dimension.name, (dimension.title.nl, dimension.title.en)))
    return heads


def _chart(
    release: Release, page: Page, axis: Dimension, lists: tuple[Choice, ...], language: Language
) -> ChartView | None:
    every: list[dict[str, Any]] = [dict(zip(page.columns, row, strict=True)) for row in page.rows]
    rows = tops(release, axis, every)
    if not rows:
        return None
    drawn = tuple(Bar(label_of(row, axis), None if is_left_out(row) else int(row[COUNT])) for row in rows[:_MOST_BARS])
    fixed = [
        next((option.label for option in one.options if option.chosen or (not one.chosen and option.total)), "")
        for one in lists
        if one.name != axis.name
    ]
    about = ", ".join(text for text in fixed if text)
    title = (
        f"{release.schema.title.nl}: {about}" if about else release.schema.title.nl,
        f"{release.schema.title.en}: {about}" if about else release.schema.title.en,
    )
    picture = bars(drawn, name="keuze", title=title, language=language)
    return ChartView(picture, title, (axis.title.nl, axis.title.en), drawn, len(rows) > _MOST_BARS)
