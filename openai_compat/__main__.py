"""`python -m openai_compat`: the command line. The import layers allow this import of the adapters here only."""

from openai_compat_adapters._cli.command import main

if __name__ == "__main__":
    main()
