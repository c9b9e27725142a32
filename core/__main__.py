"""`python -m core` and the `core` command."""

import sys


def main() -> int:
    """Run the command line; what is interrupted while it is imported ends without a traceback."""
    try:
        from core.cli import main as run

        return run()
    except KeyboardInterrupt:
        print("core: interrupted.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
