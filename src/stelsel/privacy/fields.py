"""Field paths in plain words, for residents: `naam.geslachtsnaam` is "achternaam" or "surname". Pure.

The vocabulary is that of the persons of Haal Centraal BRP bevragen 2. Paths that are not in it get words by rule, so
that a resident always reads something: the last name in the path taken apart, with what it belongs to behind it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from stelsel.base.text import inert
from stelsel.privacy.decision import Words

_PHRASES: dict[str, tuple[str, str]] = {
    "aNummer": ("administratienummer", "administration number"),
    "adellijkeTitelPredicaat": ("adellijke titel", "title of nobility"),
    "adellijkeTitelPredicaat.soort": ("soort adellijke titel", "kind of title of nobility"),
    "adressering": ("naam en adres voor op een brief", "name and address for a letter"),
    "adressering.aanhef": ("aanhef voor in een brief", "salutation for a letter"),
    "adressering.aanschrijfwijze": ("naam voor op een brief", "name for a letter"),
    "adressering.aanschrijfwijze.aanspreekvorm": ("aanspreekvorm", "form of address"),
    "adressering.aanschrijfwijze.naam": ("naam voor op een brief", "name for a letter"),
    "adressering.adresregel1": ("eerste adresregel", "first line of the address"),
    "adressering.adresregel2": ("tweede adresregel", "second line of the address"),
    "adressering.adresregel3": ("derde adresregel", "third line of the address"),
    "adressering.gebruikInLopendeTekst": ("naam voor in een brieftekst", "name as written within a letter"),
    "adressering.land": ("land van het adres", "country of the address"),
    "bewijs": ("bewijs van een gebruik van uw gegevens", "proof of a use of your data"),
    "burgerservicenummer": ("burgerservicenummer", "citizen service number"),
    "datumEersteInschrijvingGBA": ("datum van eerste inschrijving", "date of first registration"),
    "datumIngangGeldigheid": ("datum waarop dit inging", "date from which this holds"),
    "datumInschrijvingInGemeente": ("sinds wanneer u in de gemeente woont", "since when you live in the municipality"),
    "europeesKiesrecht": ("kiesrecht voor het Europees Parlement", "right to vote for the European Parliament"),
    "europeesKiesrecht.aanduiding": ("of u voor Europa mag stemmen", "whether you may vote for Europe"),
    "europeesKiesrecht.einddatumUitsluiting": (
        "einddatum van uitsluiting van het Europees kiesrecht",
        "end of exclusion from the European vote",
    ),
    "gebruik": ("wie uw gegevens heeft gebruikt", "who used your data"),
    "geboorte": ("geboortedatum en geboorteplaats", "date and place of birth"),
    "geboorte.datum": ("geboortedatum", "date of birth"),
    "geboorte.land": ("geboorteland", "country of birth"),
    "geboorte.plaats": ("geboorteplaats", "place of birth"),
    "geboortedatum": ("geboortedatum", "date of birth"),
    "gemeenteVanInschrijving": ("gemeente", "municipality"),
    "geslacht": ("geslacht", "sex"),
    "geslachtsnaam": ("achternaam", "surname"),
    "gezag": ("wie het gezag over een kind heeft", "who has authority over a child"),
    "gezag.type": ("soort gezag", "kind of authority"),
    "gezag.minderjarige": ("kind dat onder gezag staat", "child under authority"),
    "gezag.ouder": ("ouder met gezag", "parent with authority"),
    "gezag.ouders": ("ouders met gezag", "parents with authority"),
    "gezag.derde": ("voogd", "guardian"),
    "gezag.derden": ("voogden", "guardians"),
    "huisletter": ("huisletter", "house letter"),
    "huisnummer": ("huisnummer", "house number"),
    "huisnummertoevoeging": ("toevoeging bij het huisnummer", "house number addition"),
    "immigratie": ("gegevens over uw komst naar Nederland", "data about your coming to the Netherlands"),
    "immigratie.datumVestigingInNederland": ("datum van vestiging in Nederland", "date of settling in the Netherlands"),
    "immigratie.indicatieVestigingVanuitBuitenland": ("of u uit het buitenland kwam", "whether you came from abroad"),
    "immigratie.landVanwaarIngeschreven": ("land waar u vandaan kwam", "country you came from"),
    "immigratie.vanuitVerblijfplaatsOnbekend": (
        "of onbekend is waar u vandaan kwam",
        "whether it is unknown where you came from",
    ),
    "index": ("nummer van de vastlegging", "number of the record"),
    "indicatieCurateleRegister": ("of u onder curatele staat", "whether you are under legal guardianship"),
    "indicatieGezagMinderjarige": ("wie het gezag heeft (aanduiding)", "who has authority (indication)"),
    "kinderen": ("gegevens over uw kinderen", "data about your children"),
    "leeftijd": ("leeftijd", "age"),
    "naam": ("naam", "name"),
    "naam.aanduidingNaamgebruik": ("welke achternaam u gebruikt", "which surname you use"),
    "naam.volledigeNaam": ("volledige naam", "full name"),
    "nationaliteiten": ("nationaliteiten", "nationalities"),
    "nationaliteiten.nationaliteit": ("nationaliteit", "nationality"),
    "nationaliteiten.redenOpname": ("reden van de nationaliteit", "reason for the nationality"),
    "nationaliteiten.datumIngangGeldigheid": ("ingangsdatum van de nationaliteit", "start of the nationality"),
    "ouders": ("gegevens over uw ouders", "data about your parents"),
    "ouders.datumIngangFamilierechtelijkeBetrekking": (
        "sinds wanneer iemand uw ouder is",
        "since when someone is your parent",
    ),
    "ouders.ouderAanduiding": ("eerste of tweede ouder", "first or second parent"),
    "overlijden": ("gegevens over het overlijden", "data about the death"),
    "overlijden.datum": ("datum van overlijden", "date of death"),
    "overlijden.land": ("land van overlijden", "country of death"),
    "overlijden.plaats": ("plaats van overlijden", "place of death"),
    "partners": ("gegevens over uw partner", "data about your partner"),
    "partners.aangaanHuwelijkPartnerschap": (
        "begin van het huwelijk of partnerschap",
        "start of the marriage or partnership",
    ),
    "partners.aangaanHuwelijkPartnerschap.datum": ("trouwdatum", "date of marriage"),
    "partners.aangaanHuwelijkPartnerschap.land": ("land van het huwelijk", "country of marriage"),
    "partners.aangaanHuwelijkPartnerschap.plaats": ("plaats van het huwelijk", "place of marriage"),
    "partners.ontbindingHuwelijkPartnerschap": (
        "einde van het huwelijk of partnerschap",
        "end of the marriage or partnership",
    ),
    "partners.ontbindingHuwelijkPartnerschap.datum": (
        "einddatum van het huwelijk",
        "date on which the marriage ended",
    ),
    "partners.ontbindingHuwelijkPartnerschap.land": (
        "land waar het huwelijk eindigde",
        "country where the marriage ended",
    ),
    "partners.ontbindingHuwelijkPartnerschap.plaats": (
        "plaats waar het huwelijk eindigde",
        "place where the marriage ended",
    ),
    "partners.soortVerbintenis": ("huwelijk of partnerschap", "marriage or partnership"),
    "postcode": ("postcode", "postal code"),
    "straat": ("straat", "street"),
    "uitsluitingKiesrecht": ("uitsluiting van het kiesrecht", "exclusion from voting"),
    "uitsluitingKiesrecht.einddatum": ("einddatum van uitsluiting van het kiesrecht", "end of exclusion from voting"),
    "uitsluitingKiesrecht.uitgeslotenVanKiesrecht": (
        "of u bent uitgesloten van stemmen",
        "whether you are excluded from voting",
    ),
    "verblijfplaats": ("adres", "address"),
    "verblijfplaats.adresseerbaarObjectIdentificatie": ("nummer van de woning", "number of the dwelling"),
    "verblijfplaats.datumIngangGeldigheid": ("ingangsdatum van het adres", "start of the address"),
    "verblijfplaats.datumVan": ("sinds wanneer u op het adres woont", "since when you live at the address"),
    "verblijfplaats.functieAdres": ("woonadres of briefadres", "home or postal address"),
    "verblijfplaats.nummeraanduidingIdentificatie": ("nummer van het adres", "number of the address"),
    "verblijfplaats.type": ("soort verblijfplaats", "kind of residence"),
    "verblijfplaats.verblijfadres": ("adres", "address"),
    "verblijfplaats.verblijfadres.aanduidingBijHuisnummer": ("aanduiding bij het huisnummer", "house number note"),
    "verblijfplaats.verblijfadres.korteStraatnaam": ("straat", "street"),
    "verblijfplaats.verblijfadres.land": ("land waar u woont", "country where you live"),
    "verblijfplaats.verblijfadres.locatiebeschrijving": ("beschrijving van de woonplek", "description of the place"),
    "verblijfplaats.verblijfadres.officieleStraatnaam": ("straat (officiële naam)", "street (official name)"),
    "verblijfplaats.verblijfadres.regel1": (
        "eerste regel van het adres in het buitenland",
        "first line of the address abroad",
    ),
    "verblijfplaats.verblijfadres.regel2": (
        "tweede regel van het adres in het buitenland",
        "second line of the address abroad",
    ),
    "verblijfplaats.verblijfadres.regel3": (
        "derde regel van het adres in het buitenland",
        "third line of the address abroad",
    ),
    "verblijfstitel": ("verblijfsvergunning", "residence permit"),
    "verblijfstitel.aanduiding": ("soort verblijfsvergunning", "kind of residence permit"),
    "verblijfstitel.datumEinde": ("einddatum van de verblijfsvergunning", "end of the residence permit"),
    "verblijfstitel.datumIngang": ("ingangsdatum van de verblijfsvergunning", "start of the residence permit"),
    "voorletters": ("voorletters", "initials"),
    "voornamen": ("voornamen", "first names"),
    "voorvoegsel": ("voorvoegsel van de achternaam", "surname prefix"),
    "woonplaats": ("woonplaats", "town"),
}

_OF: dict[str, tuple[str, str]] = {
    "gezag.derde": ("van de voogd", "of the guardian"),
    "gezag.derden": ("van de voogden", "of the guardians"),
    "gezag.minderjarige": ("van het kind onder gezag", "of the child under authority"),
    "gezag.ouder": ("van de ouder met gezag", "of the parent with authority"),
    "gezag.ouders": ("van de ouders met gezag", "of the parents with authority"),
    "kinderen": ("van uw kinderen", "of your children"),
    "ouders": ("van uw ouders", "of your parents"),
    "partners": ("van uw partner", "of your partner"),
}
"""Whose data it is, when it is someone else's: what follows in the path is about them."""

_TRANSPARENT = ("naam", "verblijfplaats.verblijfadres", "nationaliteiten")
"""Parents that add nothing to the words: a surname is a surname."""

_TAILS: dict[str, tuple[str, str]] = {
    "code": (" (code)", " (code)"),
    "datum": ("", ""),
    "jaar": (" (jaar)", " (year)"),
    "langFormaat": ("", ""),
    "maand": (" (maand)", " (month)"),
    "omschrijving": ("", ""),
    "onbekend": (" (of die bekend is)", " (whether it is known)"),
    "type": (" (soort)", " (kind)"),
}
"""Last steps that only say in what form something is given."""

_ALIASES = {"verblijfplaatsBinnenland": "verblijfplaats", "adresseringBinnenland": "adressering"}
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


@lru_cache(maxsize=4096)
def words(path: str) -> Words:
    """The field path in plain words, in Dutch and English. Never empty; unknown paths get words by rule."""
    first, dot, rest = path.partition(".")
    if first in _ALIASES:
        return words(_ALIASES[first] + dot + rest)
    if path in _PHRASES:
        return Words(*_PHRASES[path])
    parent, dot, last = path.rpartition(".")
    if parent in _PHRASES and last in _TAILS:
        return _with_tail(parent, last)
    for whose, (nl, en) in _OF.items():
        if path.startswith(whose + "."):
            inner = words(path.removeprefix(whose + "."))
            return Words(f"{inner.nl} {nl}", f"{inner.en} {en}")
    for plain in _TRANSPARENT:
        inside = path.removeprefix(plain + ".")
        if inside != path and inside in _PHRASES:
            return Words(*_PHRASES[inside])
    if dot and last in _TAILS:
        return _with_tail(parent, last)
    apart = inert(" ".join(_HUMP.sub(" ", last).replace("_", " ").lower().split()), 100) or "?"
    if not dot:
        return Words(apart, apart)
    belongs = words(parent)
    return Words(f"{apart} ({belongs.nl})", f"{apart} ({belongs.en})")


def _with_tail(parent: str, last: str) -> Words:
    known = words(parent)
    return Words(known.nl + _TAILS[last][0], known.en + _TAILS[last][1])


def in_words(paths: Iterable[str], language: str = "nl") -> tuple[str, ...]:
    """The words of several paths in one language ("nl" or "en"), each once, in their order."""
    return tuple(dict.fromkeys(words(path).in_language(language) for path in paths))
