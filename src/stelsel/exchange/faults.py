"""What can go wrong in the data plane, beyond what `agreements.fsc_errors` already names."""

from __future__ import annotations

from stelsel.agreements.fsc_errors import FscFault
from stelsel.base.errors import BadGateway, BadRequest, Fault, TooLarge, Unavailable

INWAY = "ERROR_DOMAIN_INWAY"
OUTWAY = "ERROR_DOMAIN_OUTWAY"


class HeadTooLarge(TooLarge):
    """The request line and headers together are too large (RFC 6585, section 5)."""

    status, kind, title = 431, "head-too-large", "The headers are larger than allowed"


class NotImplementedHere(BadRequest):
    """A transfer coding that we do not know (RFC 9112, section 6.1)."""

    status, kind, title = 501, "not-implemented", "This way of sending is not known here"


class VersionUnsupported(BadRequest):
    """Another protocol than HTTP/1.0 or HTTP/1.1."""

    status, kind, title = 505, "version-unsupported", "This version of HTTP is not spoken here"


class TooSlow(BadRequest):
    """The client did not send its request in time (RFC 9110, 15.5.9)."""

    status, kind, title = 408, "too-slow", "The request did not arrive in time"


class GatewayTimeout(BadGateway):
    """The party behind us did not answer in time."""

    status, kind, title = 504, "gateway-timeout", "The party behind us did not answer in time"


class Busy(Unavailable):
    """More is in flight than the settings allow."""

    kind, title = "busy", "There is too much to carry at the moment"


class UpstreamBroke(BadGateway):
    """The connection behind us ended before its answer did. `untouched`: not one byte of an answer had come."""

    def __init__(self, detail: str, *, untouched: bool = False, next_step: str = "") -> None:
        super().__init__(detail, next_step=next_step)
        self.untouched = untouched


class WrongPeer(BadGateway):
    """The inway at that address belongs to another peer than the one that gave the token."""

    kind, title = "wrong-peer", "The inway belongs to another organisation"


class OversuppliedAnswer(BadGateway):
    """The source answered more than was asked, or something that cannot be checked; it was held back."""

    kind, title = "answer-held-back", "The answer was held back"


class TransactionLogWriteError(FscFault):
    """FSC Logging 1.1.0, 3.3.1.3 and 3.4.1.3."""

    status, title = 500, "The transaction cannot be recorded, so it is not carried"
    code = "TRANSACTION_LOG_WRITE_ERROR"
    domain = INWAY


class OutwayLogWriteError(TransactionLogWriteError):
    """The same at the outway."""

    domain = OUTWAY


class MissingLogRecordId(FscFault):
    """FSC Logging 1.1.0, 3.3.1.3."""

    status, title = 400, "The transaction id is missing"
    code = "MISSING_LOG_RECORD_ID"
    domain = INWAY


class InvalidLogRecordId(FscFault):
    """FSC Logging 1.1.0, 3.3.1.3; a UUIDv7 by the profile of the group (Digikoppeling 3.4.3)."""

    status, title = 400, "The transaction id is not a UUIDv7"
    code = "INVALID_LOG_RECORD_ID"
    domain = INWAY


class InwayMethodUnsupported(FscFault):
    """CONNECT, at an inway."""

    status, title = 405, "The inway does not carry this method"
    code = "ERROR_CODE_METHOD_UNSUPPORTED"
    domain = INWAY


class UnknownGrantHash(FscFault):
    """The application named a grant that this peer does not have. The code is the one other implementations use."""

    status, title = 400, "The grant is not known here"
    code = "UNKNOWN_GRANT_HASH_IN_HEADER"
    domain = OUTWAY


class UnknownRoute(BadRequest):
    """The path names no alias and no provider's service."""

    kind, title = "unknown-route", "It is not clear which service is meant"


def reason_of(fault: Fault) -> str:
    """What the ledger records of a fault: its FSC code when it has one, else its kind."""
    return fault.code if isinstance(fault, FscFault) else fault.kind
