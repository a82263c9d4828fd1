"""A digest of the code that makes results: results of other code are never taken for results of this code."""

import ast
import hashlib
from pathlib import Path

PACKAGE = Path(__file__).parent
# Every other module counts, so that a new one cannot be forgotten. No mistake in these can be in a kept run.
NOT_COVERED = (
    "__init__.py",
    "cli.py",  # reads the options, which are in the record of a run
    "errors.py",  # shows what failed
    "output/console.py",
    "output/figures.py",
    "output/plots.py",
    "output/sweep_tables.py",
    "output/tables.py",  # made anew from the kept runs every time
    "rating_model.py",  # uses a model that is finished
    "reproduce.py",  # repeats a finished run and compares
)


def code_digest() -> str:
    """Twelve hexadecimal digits over the code; comments, docstrings and layout do not count."""
    names = {file.relative_to(PACKAGE).as_posix() for file in PACKAGE.rglob("*.py")}
    digest = hashlib.sha256()
    for name in sorted(names.difference(NOT_COVERED)):
        tree = ast.parse((PACKAGE / name).read_text(encoding="utf-8"))
        digest.update(f"{name}\n{ast.dump(WithoutDocstrings().visit(tree))}\n".encode())
    return digest.hexdigest()[:12]


class WithoutDocstrings(ast.NodeTransformer):
    """Removes texts that stand alone, which do nothing."""

    def visit_Expr(self, node: ast.Expr) -> ast.Expr | None:
        return None if isinstance(node.value, ast.Constant) else node


# Computed when this module is imported, so it is that of the code in memory, whatever is edited while it runs.
CODE_VERSION = code_digest()
