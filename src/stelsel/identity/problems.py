"""What can stand in the way of a login, in the words of who logs in: Dutch first, English beside."""

from __future__ import annotations

from typing import Literal

Kind = Literal["resident", "official"]

Problem = Literal[
    "passkey-refused",
    "person-unknown",
    "wrong-kind",
    "level-too-low",
    "code-refused",
    "too-many-attempts",
    "challenge-over",
    "other-browser",
    "request-refused",
    "client-unknown",
    "redirect-unknown",
]

TEXTS: dict[Problem, tuple[str, str]] = {
    "passkey-refused": (
        "Deze toegangssleutel herkennen we niet. Probeer het nog eens, of vraag een nieuwe activeringscode aan.",
        "We do not recognise this passkey. Try again, or ask for a new activation code.",
    ),
    "person-unknown": ("Kies een persoon uit de lijst.", "Choose a person from the list."),
    "wrong-kind": (
        "Met deze inlog kunt u hier niet terecht: deze plek is voor een andere groep mensen.",
        "You cannot use this login here: this place is for another group of people.",
    ),
    "level-too-low": (
        "Voor deze dienst is een sterkere manier van inloggen nodig.",
        "This service needs a stronger way of logging in.",
    ),
    "code-refused": (
        "Deze code klopt niet, is al gebruikt of is verlopen. Controleer de code of vraag een nieuwe aan.",
        "This code is wrong, was used before or has expired. Check the code or ask for a new one.",
    ),
    "too-many-attempts": (
        "Dat waren te veel pogingen. Wacht een paar minuten en probeer het dan opnieuw.",
        "Those were too many attempts. Wait a few minutes, then try again.",
    ),
    "challenge-over": (
        "Het inloggen duurde te lang of was al afgerond. Ga terug naar de site en log opnieuw in.",
        "Logging in took too long or was finished before. Go back to the site and log in again.",
    ),
    "other-browser": (
        "Dit inloggen is in een andere browser begonnen, of uw browser weigert cookies. Begin opnieuw.",
        "This login was started in another browser, or your browser refuses cookies. Start again.",
    ),
    "request-refused": (
        "De site stuurde een verzoek dat niet klopt. Daar kunt u niets aan doen.",
        "The site sent a request that is not in order. There is nothing you can do about that.",
    ),
    "client-unknown": (
        "De site die u laat inloggen is hier niet bekend. Log daar niet in.",
        "The site that asks you to log in is not known here. Do not log in there.",
    ),
    "redirect-unknown": (
        "De site wil u terugsturen naar een adres dat hier niet bekend is. Daarom stoppen we.",
        "The site wants to send you back to an address that is not known here. That is why we stop.",
    ),
}
"""What went wrong, in the resident's words: Dutch first, English beside."""
