"""`python -m xiaonet` is the command `xiaonet`."""

from xiaonet.cli import app

app(prog_name="xiaonet")
