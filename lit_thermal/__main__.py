"""Entry point of `python -m lit_thermal` and of the script `lit-thermal`."""

from lit_thermal.cli.dispatch import main

if __name__ == "__main__":
    raise SystemExit(main())
