"""What went wrong, for people who did not build it: what it is, and what they can do now."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FaultWords:
    """Each pair is (Dutch, English)."""

    title: tuple[str, str]
    meaning: tuple[str, str]
    next_step: tuple[str, str]


_BY_KIND = {
    "login-refused": FaultWords(
        ("Het inloggen is niet gelukt", "Logging in did not work"),
        (
            "Misschien duurde het te lang, of u was al eerder klaar, of u begon in een andere browser.",
            "Perhaps it took too long, or it was finished before, or you began in another browser.",
        ),
        ("Begin opnieuw met inloggen.", "Start again to log in."),
    ),
}

_BY_STATUS = {
    400: FaultWords(
        ("Deze vraag begrijpen we niet", "We do not understand this request"),
        ("Er ontbreekt iets, of er staat iets in dat we niet kennen.", "Something is missing, or not known to us."),
        ("Ga terug en probeer het nog eens.", "Go back and try again."),
    ),
    401: FaultWords(
        ("U bent niet ingelogd", "You are not logged in"),
        ("Deze pagina is alleen voor wie is ingelogd.", "This page is for people who are logged in."),
        ("Log in en open de pagina opnieuw.", "Log in and open the page again."),
    ),
    403: FaultWords(
        ("Dit mag niet", "This is not allowed"),
        (
            "U hebt hiervoor geen toestemming, of het formulier kwam niet van onze eigen pagina.",
            "You are not allowed to do this, or the form did not come from our own page.",
        ),
        (
            "Open de pagina opnieuw. Blijft het zo, vraag dan uw organisatie om toegang.",
            "Open the page again. If it stays like this, ask your organisation for access.",
        ),
    ),
    404: FaultWords(
        ("Deze pagina bestaat niet", "This page does not exist"),
        (
            "Misschien is het adres niet goed overgenomen, of is de pagina weggehaald.",
            "Perhaps the address was copied wrongly, or the page was taken away.",
        ),
        ("Ga naar het begin en zoek daar verder.", "Go to the home page and look from there."),
    ),
    405: FaultWords(
        ("Zo kan dit niet", "This cannot be done in this way"),
        ("Dit adres kunt u niet op deze manier openen.", "This address cannot be opened in this way."),
        ("Ga naar het begin en gebruik daar de knoppen.", "Go to the home page and use the buttons there."),
    ),
    409: FaultWords(
        ("Dit kan nu niet", "This cannot be done now"),
        (
            "Het past niet bij wat er al is. Misschien was iemand u voor.",
            "It clashes with what is already there. Perhaps somebody was before you.",
        ),
        ("Bekijk de pagina opnieuw en beslis dan.", "Look at the page again, then decide."),
    ),
    413: FaultWords(
        ("Dit is te groot", "This is too large"),
        ("U stuurde meer dan wij aannemen.", "You sent more than we accept."),
        ("Stuur minder en probeer het opnieuw.", "Send less and try again."),
    ),
    422: FaultWords(
        ("Dit kunnen we niet verwerken", "We cannot process this"),
        ("Wat u invulde is leesbaar, maar klopt niet.", "What you filled in can be read, but is not in order."),
        ("Ga terug en pas het aan.", "Go back and change it."),
    ),
    429: FaultWords(
        ("Dit gaat te snel", "This is too fast"),
        ("Er kwamen te veel vragen achter elkaar.", "There were too many requests in a short time."),
        ("Wacht een paar minuten en probeer het dan opnieuw.", "Wait a few minutes, then try again."),
    ),
    502: FaultWords(
        ("Een andere organisatie gaf geen bruikbaar antwoord", "Another organisation gave no usable answer"),
        (
            "Wij doen het wel, maar wie we iets moesten vragen antwoordde niet goed.",
            "We are fine, but whom we had to ask did not answer well.",
        ),
        ("Probeer het over een paar minuten opnieuw.", "Try again in a few minutes."),
    ),
    503: FaultWords(
        ("Dit kan op dit moment niet", "This cannot be done at the moment"),
        ("Iets wat hiervoor nodig is, werkt nu niet.", "Something that this needs does not work now."),
        ("Probeer het over een paar minuten opnieuw.", "Try again in a few minutes."),
    ),
}

_OURS = FaultWords(
    ("Er ging bij ons iets mis", "Something went wrong on our side"),
    ("Dit ligt niet aan u. Wij hebben een fout gemaakt.", "This is not your doing. We made a mistake."),
    (
        "Probeer het later opnieuw. Gaat het weer mis, geef dan het nummer hieronder door.",
        "Try again later. If it goes wrong again, tell us the number below.",
    ),
)


def words_for(kind: str, status: int) -> FaultWords:
    """The words for a fault of this kind, answered with this HTTP status."""
    return _BY_KIND.get(kind) or _BY_STATUS.get(status, _OURS)
