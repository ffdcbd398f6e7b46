"""`python -m offramp`: the same as the console script `offramp`."""

from offramp.cli import main

main()
