"""``fleet`` and ``python -m fleet``."""

from __future__ import annotations

import gc

MANY = 10_000
"""New objects between two looks for garbage. With Python's 700 a start looks 400 times, in vain: what modules
make stays."""


def main() -> None:
    """Run the command line; end the process with its exit code."""
    gc.set_threshold(MANY)
    from fleet.cli.main import run_command_line  # noqa: PLC0415 - nothing is imported before it is needed

    try:
        code = run_command_line()
    finally:
        gc.freeze()  # the interpreter's own last look would find nothing to gain either
    raise SystemExit(code)


if __name__ == "__main__":
    main()
