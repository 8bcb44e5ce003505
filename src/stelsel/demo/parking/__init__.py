"""The municipality's small application: may this resident have a parking permit?

An official enters a burgerservicenummer; the application asks the register's service `personen` through the
municipality's own outway, for exactly `FIELDS`, and says in plain words whether the resident lives here. A refusal by
the machines is shown in plain words too. Beside it stands a service that is not about people, `GET
/parkeerplaatsen`, which the municipality offers to the group.
"""

FIELDS = (
    "naam.volledigeNaam",
    "adressering.adresregel1",
    "adressering.adresregel2",
    "gemeenteVanInschrijving.code",
)
"""What the application asks, and so what its agreement must hold."""

SEARCH_PARAMETERS = ("burgerservicenummer",)

FIELD_TOO_MANY = "geboorte.datum"
"""What the page's experiment asks beyond the agreement, to show that the machines refuse."""

SERVICE_NAME = "parkeerplaatsen"
API_VERSION = "1.0.0"
