"""``fleet`` and ``python -m fleet``."""

from __future__ import annotations


def main() -> None:
    """Run the command line; end the process with its exit code."""
    from fleet.cli.main import run_command_line  # noqa: PLC0415 - nothing is imported before it is needed

    raise SystemExit(run_command_line())


if __name__ == "__main__":
    main()
