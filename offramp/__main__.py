"""`python -m offramp`: the same as the console script `offramp`."""

import os
import sys

from offramp.cli import main
from offramp.cli.session import INTERRUPTED_EXIT_CODE

try:
    main()
except SystemExit as end:
    # Run with `-m`, CPython ends itself by SIGINT after an interruption that passed through `exec`
    # (a dataclass being defined, say), though it was handled: leave before it gets there.
    if end.code == INTERRUPTED_EXIT_CODE:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(INTERRUPTED_EXIT_CODE)
    raise
