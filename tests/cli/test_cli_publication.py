"""What an operator's program may say about a publication, before anything is signed."""

from __future__ import annotations

import pytest

from stelsel.agreements.proposals import PublicationProposal
from stelsel.base.errors import BadRequest
from stelsel.control.api import _proposal


@pytest.mark.parametrize("personal", ["false", "true", "", 0, 1, None, [], {}])
def test_whether_a_service_is_personal_is_true_or_false_and_nothing_that_counts_as_it(personal: object) -> None:
    with pytest.raises(BadRequest, match="personal must be true or false"):
        _proposal({"service": "parkeerplaatsen", "personal": personal})


@pytest.mark.parametrize("personal", [True, False])
def test_a_publication_says_what_was_said(personal: bool) -> None:
    proposal = _proposal({"service": "parkeerplaatsen", "personal": personal})
    assert isinstance(proposal, PublicationProposal)
    assert proposal.personal is personal


def test_a_service_is_not_personal_unless_it_is_said() -> None:
    proposal = _proposal({"service": "parkeerplaatsen"})
    assert isinstance(proposal, PublicationProposal)
    assert proposal.personal is False
