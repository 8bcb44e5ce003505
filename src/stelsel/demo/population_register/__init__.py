"""The register's service `personen`: a real HTTP API, in the manner of Haal Centraal BRP bevragen 2.

`store`: the file people.sqlite, how it is built and searched. `question`: what a caller may ask, read strictly.
`answer`: a person as the fields asked for, and nothing else. `api`: the routes and the OpenAPI document.

The API does no access control: it listens on loopback, behind the register's inway. It tells that inway in a response
header whom each answer is about; the inway takes the header off and records it.
"""

SERVICE_NAME = "personen"
API_VERSION = "1.0.0"
SUBJECTS_HEADER = "Stelsel-Data-Subjects"
