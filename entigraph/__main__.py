"""python -m entigraph, and the console command."""

from entigraph.cli import main

if __name__ == "__main__":
    main()
