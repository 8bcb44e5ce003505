"""Forms that visitors post to this site: bounded, and only from a page that this browser was given."""

from __future__ import annotations

from urllib.parse import parse_qsl

from starlette.requests import Request

from stelsel.base.errors import BadRequest, Forbidden
from stelsel.base.web import read_body
from stelsel.identity.site import SiteLogin

_MAXIMUM_FORM = 32 * 1024  # bytes
_MAXIMUM_MEMBERS = 100
TOKEN = "form_token"  # noqa: S105 - the name of a field
"""Name of the hidden field that every form posts along."""


async def read_form(request: Request, login: SiteLogin) -> dict[str, str]:
    """The members of a posted form (`application/x-www-form-urlencoded`); the last of a name counts.

    Raises `Forbidden` when it did not come from a page of ours (CSRF), `BadRequest` or `TooLarge` when it is no form.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/x-www-form-urlencoded":
        raise BadRequest("send a form as application/x-www-form-urlencoded")
    encoded = (await read_body(request, _MAXIMUM_FORM)).decode("latin-1")
    try:
        members = dict(parse_qsl(encoded, keep_blank_values=True, max_num_fields=_MAXIMUM_MEMBERS, errors="strict"))
    except ValueError as error:
        raise BadRequest("the form cannot be read") from error
    if not login.form_is_ours(request, members.get(TOKEN, "")):
        raise Forbidden(
            "this form was not sent from a page that we gave to this browser",
            next_step="open the page again and press the button there",
            detail_nl="Dit formulier kwam niet van een pagina die wij aan deze browser gaven.",
        )
    return members
