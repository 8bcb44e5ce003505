"""A small country on one machine: a trust anchor, five peers, synthetic people, and the scenario they play."""
