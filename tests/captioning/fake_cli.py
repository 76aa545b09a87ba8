"""The real command line with the fakes put in, for tests that must send signals to a whole process."""

import fakes

from evlgen_cli.main import main

if __name__ == "__main__":
    fakes.install(setattr, fakes.FakeCaptioner())
    main()
