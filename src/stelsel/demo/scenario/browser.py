"""A visitor without a screen: follows links, keeps cookies, fills in forms. Pages work without JavaScript."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Self
from urllib.parse import urljoin

import httpx


@dataclass
class Form:
    """A form on a page: where it goes, what it holds, and what its buttons send and say."""

    action: str
    method: str
    fields: dict[str, str] = field(default_factory=dict)
    buttons: list[tuple[str, str, str]] = field(default_factory=list)
    """(name, value, text) of each button."""


class Visitor:
    """One browser session."""

    def __init__(self) -> None:
        self._client = httpx.Client(
            follow_redirects=True,
            timeout=30,
            headers={"accept": "text/html"},
            trust_env=False,
            limits=httpx.Limits(max_keepalive_connections=0),  # nothing to close when the visitor walks away
        )
        self.page: httpx.Response | None = None
        self.forms: list[Form] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def go(self, url: str) -> str:
        """Open a page; gives its HTML."""
        return self._show(self._client.get(url))

    def press(self, text: str) -> httpx.Response:
        """Press the first button whose text contains `text`, with its form as it stands. Gives what came back."""
        for form in self.forms:
            for name, value, label in form.buttons:
                if text in label:
                    sent = form.fields | ({name: value} if name else {})
                    url = urljoin(str(self._current().url), form.action)
                    if form.method == "get":
                        answer = self._client.get(url, params=sent)
                    else:
                        answer = self._client.post(url, data=sent)
                    self._show(answer)
                    return answer
        raise LookupError(f"there is no button {text!r} on {self._current().url.path}")

    def _current(self) -> httpx.Response:
        if self.page is None:
            raise LookupError("no page was opened")
        return self.page

    def _show(self, answer: httpx.Response) -> str:
        self.page = answer
        if not answer.headers.get("content-type", "").startswith("text/html"):
            return ""
        reader = _Forms()
        reader.feed(answer.text)
        self.forms = reader.forms
        return answer.text


class _Forms(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self._open: Form | None = None
        self._button: tuple[str, str] | None = None
        self._text: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attributes}
        if tag == "form":
            self._open = Form(values.get("action", ""), values.get("method", "get").lower())
            self.forms.append(self._open)
        elif self._open is not None and tag == "input" and values.get("name"):
            if values.get("type") not in {"checkbox", "radio"} or "checked" in values:
                self._open.fields[values["name"]] = values.get("value", "")
        elif self._open is not None and tag == "button":
            self._button, self._text = (values.get("name", ""), values.get("value", "")), []

    def handle_data(self, data: str) -> None:
        if self._button is not None:
            self._text.append(data)

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._open = None
        elif tag == "button" and self._button is not None and self._open is not None:
            self._open.buttons.append((*self._button, " ".join("".join(self._text).split())))
            self._button = None
