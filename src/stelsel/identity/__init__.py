"""Who somebody is: the OpenID Provider, its authenticators, and what a site needs to let people log in.

Core (no I/O, no clock): `requests` (is this request in order?), `assurance` (levels of eIDAS), `tokens` (what they
say), `problems` (what people are told), `throttle`. Shell: `store` (tables), `keys` (files with keys), `service` (the
provider), `redemption` (codes to tokens), `api` (routes), `relying_party` and `site` (the other side).
An authenticator (`passkey`, `demo_choice`) answers with an account, a level and evidence. A level comes from how
somebody was enrolled, never from the passkey itself. A burgerservicenummer is never a `sub`, never in an ID token and
never in a URL or a log; only a client registered for it gets it, from UserInfo. Everything follows the Dutch profile
OpenID Connect NL GOV (OIDC-NLGOV): code flow, PKCE, private_key_jwt, pairwise subjects, and never `amr`.
"""
