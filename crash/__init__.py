"""Real processes under load, killed at random moments, again and again: does anything that was answered get lost?

* `run`: the trial from beginning to end, and the command `python -m crash`.
* `nursery`: starts processes in milliseconds and kills them with SIGKILL.
* `chain`: what is started: two nodes, a service, where asked a PostgreSQL server.
* `keeper`: starts again what ended by itself, and judges whether it might.
* `load`: clients that remember every answer; whoever fetches signed checkpoints.
* `check`: holds the journals against what was answered and signed.
"""
