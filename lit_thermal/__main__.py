"""Entry point of `python -m lit_thermal` and of the script `lit-thermal`."""

import os
import sys

from lit_thermal.cli.dispatch import main

if __name__ == "__main__":
    # `-m` puts the working directory first on the path, where a file with the name of a library would replace it
    if sys.path[0] in ("", os.getcwd()) and not os.path.samefile(os.getcwd(), f"{os.path.dirname(__file__)}/.."):
        del sys.path[0]
    raise SystemExit(main())
