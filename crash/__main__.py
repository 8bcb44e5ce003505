"""`python -m crash`."""

from __future__ import annotations

import sys

from crash.run import main

if __name__ == "__main__":
    sys.exit(main())
