"""`python -m xiaonet` is the command `xiaonet`."""

from xiaonet.cli.main import app

app(prog_name="xiaonet")
