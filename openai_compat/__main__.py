"""`python -m openai_compat`: the command line, by an import that the layers allow here alone."""

from openai_compat_adapters._cli.command import main

if __name__ == "__main__":
    main()
