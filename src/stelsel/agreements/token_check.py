"""Checking access tokens at the inway (FSC Core 4.7.1.2): in the node's own process and in every worker the same."""

from __future__ import annotations

from collections.abc import Callable

from stelsel.agreements import tokens
from stelsel.agreements.agreement import Agreement
from stelsel.agreements.dialect import USUAL, Dialect
from stelsel.agreements.fsc_errors import TokenMissing
from stelsel.agreements.tokens import TokenClaims
from stelsel.base.certificates import Certificate, KeyPair, TrustAnchors
from stelsel.base.clock import Clock

_MOST_CHECKED = 20_000  # tokens whose signature is remembered as checked


class TokenCheck:
    """Checks tokens that this peer issued. Nothing here touches the database."""

    def __init__(
        self,
        *,
        keypair: KeyPair,
        group_id: str,
        inway_address: str | None,
        clock: Clock,
        agreement: Callable[[str], Agreement | None],
        lifetime: int,
        dialect: Dialect = USUAL,
        anchors: TrustAnchors | None = None,
    ) -> None:
        """`lifetime` in seconds: so long the certificate before the present one still stands for its tokens."""
        self._keypair = keypair
        self._present = keypair.certificate
        self._group_id = group_id
        self._inway_address = inway_address
        self._clock = clock
        self._agreement = agreement
        self._lifetime = lifetime
        self._dialect = dialect
        self._anchors = anchors
        self._checked: dict[str, TokenClaims] = {}
        self._earlier: list[tuple[Certificate, float]] = []
        keypair.on_renewal(self._renewed)

    @property
    def earlier(self) -> tuple[tuple[Certificate, float], ...]:
        """Earlier certificates that still stand for tokens, each with the time until when."""
        now = self._clock.now()
        return tuple((certificate, until) for certificate, until in self._earlier if now < until)

    def remember(self, certificate: Certificate, until: float) -> None:
        """Take tokens that were issued with this earlier certificate, until then."""
        self._earlier = [*self.earlier, (certificate, until)]

    def verify(self, compact: str, thumbprint: str) -> TokenClaims:
        """What a token says that came in over a connection with the certificate of `thumbprint` (4.7.1.2).

        Whether the agreement still holds is for the caller to ask. Raises `TokenMissing`, `TokenInvalid`,
        `TokenExpired` or `WrongGroup`.
        """
        compact = self._dialect.token_in(compact)
        if not compact:
            raise TokenMissing("the header Fsc-Authorization holds no access token")
        claims = self._checked.get(compact)
        if claims is None:
            claims = tokens.verify(compact, self._issuer(compact))
            agreement = self._agreement(claims.grant_hash)
            if agreement is not None:
                claims = claims.settled(agreement)
            if len(self._checked) >= _MOST_CHECKED:
                del self._checked[next(iter(self._checked))]
            self._checked[compact] = claims
        tokens.check(
            claims,
            thumbprint=thumbprint,
            group_id=self._group_id,
            provider=self._keypair.certificate.peer_id,
            audience=self._inway_address or "",
            now=self._clock.now(),
        )
        return claims

    def _issuer(self, compact: str) -> Certificate:
        """The certificate of ours to check a token with."""
        if self._earlier:
            named = tokens.issuer_thumbprint(compact)
            for certificate, _ in self.earlier:
                if certificate.thumbprint == named:
                    if self._anchors is not None:
                        self._anchors.check_revoked(certificate)
                    return certificate
        return self._keypair.certificate

    def _renewed(self) -> None:
        before, self._present = self._present, self._keypair.certificate
        if before.thumbprint != self._present.thumbprint:
            self.remember(before, self._clock.now() + self._lifetime)
