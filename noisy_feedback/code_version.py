"""A digest of the code that makes the numbers: results of other code are never taken for results of this code."""

import ast
import hashlib
from pathlib import Path

PACKAGE = Path(__file__).parent
# Every module of these folders and files, so that a new module cannot be forgotten.
FOLDERS = ("data", "feedback", "learning", "evaluation")
FILES = ("experiment.py", "prepare.py", "config.py", "rng.py", "output/comparisons.py")


def code_digest() -> str:
    """Twelve hexadecimal digits over the code; comments, docstrings and layout do not count."""
    files = [PACKAGE / name for name in FILES] + [file for name in FOLDERS for file in (PACKAGE / name).glob("*.py")]
    digest = hashlib.sha256()
    for file in sorted(files):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        digest.update(f"{file.relative_to(PACKAGE).as_posix()}\n{ast.dump(without_docstrings(tree))}\n".encode())
    return digest.hexdigest()[:12]


def without_docstrings(tree: ast.AST) -> ast.AST:
    """The tree without texts that stand alone, which do nothing."""
    for node in ast.walk(tree):
        for name in ("body", "orelse", "finalbody"):
            statements = getattr(node, name, None)
            if isinstance(statements, list):
                kept = [line for line in statements if not is_text(line)]
                setattr(node, name, kept)
    return tree


def is_text(statement: ast.AST) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


# Computed when this module is imported, so it is that of the code in memory, whatever is edited while it runs.
CODE_VERSION = code_digest()
