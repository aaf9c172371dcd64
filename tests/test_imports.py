"""The house: imports point one way, no shared file names a method, every file says what it is, and start-up is light."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import accrete
from accrete.methods import base

ROOT = Path(accrete.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
MODULES = {path: ".".join(("accrete", *path.relative_to(ROOT).with_suffix("").parts)) for path in FILES}

FLOORS = (
    ("types", "errors", "config", "scoring", "files", "dates", "settings"),
    ("lm",),
    ("adapters", "gates", "losses", "optim", "data", "dreams", "facts", "retrieval", "fit"),
    ("meta_learning", "memory_retrofit", "beliefs"),
    ("methods", "recipe"),
    ("store", "reader", "believing", "taking_up", "learner"),
    ("evaluate", "doctor"),
    ("serve", "cli"),
    ("__main__",),
)
FLOOR_OF = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
# Rooms of one floor that may look into each other. Those of the ground floor are plain files.
NEIGHBOURS = {
    ("fit", "gates"),
    ("adapters", "optim"),
    ("learner", "store"),
    ("learner", "reader"),
    ("learner", "believing"),
    ("learner", "taking_up"),
    ("believing", "store"),
    ("taking_up", "store"),
    ("facts", "retrieval"),  # what the words of a text are
    *((a, b) for a in FLOORS[0] for b in FLOORS[0]),
}


def short(path):
    return str(path.relative_to(ROOT))


def room(module):
    """accrete.lm.model -> lm; the package itself has none."""
    return [*module.split("."), ""][1]


def imports(path, tree):
    """(line, module) of every import of accrete, those inside functions included."""
    names = set(MODULES.values())
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}:{node.lineno}: relative import"
            found = [
                f"{node.module}.{a.name}" if f"{node.module}.{a.name}" in names else node.module for a in node.names
            ]
            # `from accrete import methods` is the room; `from accrete import Learner` is the public name.
            found = [f"accrete.{a.name}" if m == "accrete" else m for m, a in zip(found, node.names, strict=True)]
        else:
            continue
        yield from ((node.lineno, module) for module in found if module.split(".")[0] == "accrete")


def violation(importer, imported):
    """Why room `importer` may not import from room `imported`; empty when it may."""
    if importer == imported or (importer, imported) in NEIGHBOURS:
        return ""
    if imported not in FLOOR_OF:
        return "which is a public name, not a room"
    if FLOOR_OF[imported] > FLOOR_OF[importer]:
        return "which is a floor above"
    return "which is another room of the same floor" if FLOOR_OF[imported] == FLOOR_OF[importer] else ""


def test_every_room_has_a_floor():
    rooms = {room(module) for module in MODULES.values()} - {"__init__"}
    assert rooms <= FLOOR_OF.keys()


def test_the_rule_itself_sees_what_it_should():
    assert violation("cli", "learner") == "" and violation("fit", "gates") == ""
    assert violation("lm", "methods") and violation("gates", "fit") and violation("adapters", "losses")
    tree = ast.parse("def f():\n    from accrete.store import journal\n    import accrete.cli.main")
    assert [module for _, module in imports(Path("x"), tree)] == ["accrete.store.journal", "accrete.cli.main"]


@pytest.mark.parametrize(
    "path", [path for path in FILES if path.parent != ROOT or path.name != "__init__.py"], ids=short
)
def test_imports_point_one_way(path):
    importer = room(MODULES[path])
    wrong = []
    for line, module in imports(path, ast.parse(path.read_text("utf-8"))):
        if reason := violation(importer, room(module)):
            wrong.append(f"{path.relative_to(ROOT)}:{line} imports {module}, {reason}")
    assert wrong == []


def test_no_shared_file_names_a_method():
    """Methods are found as modules; the default is named in their own package."""
    wrong = []
    for path in FILES:
        if room(MODULES[path]) == "methods":
            continue
        name = str(path.relative_to(ROOT))
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            if any(re.search(rf"\b{method}\b", line) for method in base.names()):
                wrong.append(f"{name}:{number}: {line.strip()}")
    assert wrong == []


def test_no_method_imports_another():
    methods = {f"accrete.methods.{name}" for name in base.names()}
    for path in (ROOT / "methods").glob("*.py"):
        found = {module for _, module in imports(path, ast.parse(path.read_text("utf-8")))}
        assert not found & methods, path


@pytest.mark.parametrize("path", FILES, ids=short)
def test_every_file_says_what_it_is_and_is_short(path):
    text = path.read_text("utf-8")
    assert not text or ast.get_docstring(ast.parse(text)), "no docstring"
    assert len(text.splitlines()) <= 400


def modules_loaded_by(code):
    """Top-level packages in sys.modules after `code` ran in a fresh interpreter."""
    report = "import sys; print(' '.join(sorted({name.split('.')[0] for name in sys.modules})), file=sys.stderr)"
    program = f"import atexit\natexit.register(lambda: exec({report!r}))\n{code}"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return set(result.stderr.splitlines()[-1].split())


HEAVY = {"torch", "transformers", "numpy", "pydantic", "rich", "yaml", "tokenizers"}


@pytest.mark.parametrize(
    "code",
    [
        "import accrete",
        "import accrete.cli.main",
        "import sys; sys.argv = ['accrete', '--help']; from accrete.cli.main import main; main()",
    ],
)
def test_start_up_loads_nothing_heavy(code):
    loaded = modules_loaded_by(code)
    assert "accrete" in loaded and not loaded & HEAVY


def test_every_public_name_is_there():
    for name in accrete.__all__:
        assert getattr(accrete, name).__name__ == name
    with pytest.raises(AttributeError, match="no_such_name"):
        accrete.no_such_name  # noqa: B018
