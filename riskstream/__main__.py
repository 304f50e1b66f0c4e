"""The command `riskstream`, also as `python -m riskstream`."""

from __future__ import annotations

import sys
from pathlib import Path

from riskstream.shadows import shadowed


def main() -> None:
    """Run the command line; exit code 2 where another package stands in the way of riskstream's own."""
    obstacle = shadowed(Path(__file__).resolve().parents[1])
    if obstacle is not None:
        sys.stderr.write(f"riskstream: {obstacle}\n")
        sys.exit(2)
    from stream.cli.app import main as run

    run()


if __name__ == "__main__":
    main()
