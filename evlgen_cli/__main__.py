"""`python -m evlgen_cli`: the same program as `evlgen`."""

from evlgen_cli.main import main

if __name__ == "__main__":
    main()
