"""`python -m tandem`: the command `tandem`."""

from pipeline.cli.tandem import main

if __name__ == "__main__":
    main()
