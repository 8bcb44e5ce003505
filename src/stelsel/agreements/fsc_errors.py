"""Faults as FSC tells them: code, domain, status, header `Fsc-Error-Code` (FSC Core 4.1.7, 4.4.5, 4.7.2.2).

Codes that start with `STELSEL_` are ours, where the standard has no code for what went wrong.
"""

from __future__ import annotations

from typing import Any, ClassVar

from stelsel.base.errors import Fault


class FscFault(Fault):
    """A fault with an FSC error code. Members given as `extra` come along in the body."""

    code: ClassVar[str] = "STELSEL_INTERNAL_ERROR"
    domain: ClassVar[str] = "ERROR_DOMAIN_MANAGER"
    kind = "fsc"

    def body(self) -> dict[str, Any]:
        """The error object (`components/schemas/error` of the OpenAPI)."""
        return {"message": self.detail, "domain": self.domain, "code": self.code} | self.extra

    def headers(self) -> dict[str, str]:
        """The headers that go with it."""
        headers = {"Fsc-Error-Code": self.code}
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"  # FSC Core 4.7.2.2.1
        return headers

    def problem(self) -> dict[str, Any]:
        return super().problem() | {"code": self.code, "domain": self.domain}


class _Unprocessable(FscFault):
    status, title = 422, "The contract or its signature is not acceptable"


class IncorrectGroupId(_Unprocessable):
    code = "ERROR_CODE_INCORRECT_GROUP_ID"


class SubmittingPeerNotPartOfContract(_Unprocessable):
    code = "ERROR_CODE_SUBMITTING_PEER_NOT_PART_OF_CONTRACT"


class ReceivingPeerNotPartOfContract(_Unprocessable):
    code = "ERROR_CODE_RECEIVING_PEER_NOT_PART_OF_CONTRACT"


class SignatureContentHashMismatch(_Unprocessable):
    code = "ERROR_CODE_SIGNATURE_CONTRACT_CONTENT_HASH_MISMATCH"


class PeerIdSignatureMismatch(_Unprocessable):
    code = "ERROR_CODE_PEER_ID_SIGNATURE_MISMATCH"


class SignatureVerificationFailed(_Unprocessable):
    code = "ERROR_CODE_SIGNATURE_VERIFICATION_FAILED"


class GrantCombinationNotAllowed(_Unprocessable):
    code = "ERROR_CODE_GRANT_COMBINATION_NOT_ALLOWED"


class UrlPathContentHashMismatch(_Unprocessable):
    code = "ERROR_CODE_URL_PATH_CONTENT_HASH_MISMATCH"


class UnknownHashAlgorithm(_Unprocessable):
    code = "ERROR_CODE_UNKNOWN_HASH_ALGORITHM_HASH"


class UnknownSignatureAlgorithm(_Unprocessable):
    code = "ERROR_CODE_UNKNOWN_ALGORITHM_SIGNATURE"


class UnknownFscVersion(_Unprocessable):
    code = "ERROR_CODE_UNKNOWN_FSC_VERSION"


class IncorrectPublicKeyThumbprint(_Unprocessable):
    """In the OpenAPI's list of codes, though not in the table of 4.4.5.3."""

    code = "ERROR_CODE_INCORRECT_PUBLIC_KEY_THUMBPRINT"


class ContractNotAcceptable(_Unprocessable):
    """A rule of 4.2.1 for which the standard has no code of its own."""

    code = "STELSEL_CONTRACT_NOT_ACCEPTABLE"


class ObligationNotMet(_Unprocessable):
    """The gate refuses new contracts of this peer; `evidence` shows why."""

    code = "STELSEL_OBLIGATION_NOT_MET"


class PeerCertificateVerificationFailed(FscFault):
    status, title = 400, "The certificate does not say who the peer is"
    code = "ERROR_CODE_PEER_CERTIFICATE_VERIFICATION_FAILED"


class RequestNotReadable(FscFault):
    status, title = 400, "The request cannot be read"
    code = "STELSEL_REQUEST_NOT_READABLE"


class _Inway(FscFault):
    domain = "ERROR_DOMAIN_INWAY"


class TokenMissing(_Inway):
    status, title = 401, "There is no access token"
    code = "ERROR_CODE_ACCESS_TOKEN_MISSING"


class TokenInvalid(_Inway):
    status, title = 401, "The access token is not valid"
    code = "ERROR_CODE_ACCESS_TOKEN_INVALID"


class TokenExpired(_Inway):
    status, title = 401, "The access token has expired"
    code = "ERROR_CODE_ACCESS_TOKEN_EXPIRED"


class WrongGroup(_Inway):
    status, title = 403, "The access token is of another group"
    code = "ERROR_CODE_WRONG_GROUP_ID_IN_TOKEN"


class ServiceNotFound(_Inway):
    status, title = 404, "The service is not offered here"
    code = "ERROR_CODE_SERVICE_NOT_FOUND"


class ServiceUnreachable(_Inway):
    status, title = 502, "The service cannot be reached"
    code = "ERROR_CODE_SERVICE_UNREACHABLE"


class MethodUnsupported(FscFault):
    status, title = 405, "The outway does not carry this method"
    code = "ERROR_CODE_METHOD_UNSUPPORTED"
    domain = "ERROR_DOMAIN_OUTWAY"


class TokenRequestFault(Fault):
    """A token request that is refused, in the form of RFC 6749, section 5.2."""

    status, kind, title = 400, "token-request", "No access token is given"

    def __init__(self, error: str, detail: str) -> None:
        super().__init__(detail)
        self.error = error

    def body(self) -> dict[str, str]:
        """The error object of RFC 6749, section 5.2."""
        return {"error": self.error, "error_description": self.detail}
