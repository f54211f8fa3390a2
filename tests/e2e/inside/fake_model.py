"""A fake model in a pod: the command `switchboard fake-model`, without the rest of the command."""

import argparse
import sys

from switchboard_cli.fake_model import command

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    command.add_parser(parser.add_subparsers())
    args = parser.parse_args(["fake-model", *sys.argv[1:]])
    sys.exit(args.run(args))
