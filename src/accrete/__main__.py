"""`python -m accrete`: the command line where no script is installed."""

from accrete.cli.main import main

if __name__ == "__main__":
    main()
