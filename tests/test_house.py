"""The house rules that a program can check: floors, where each library lives, sizes, names, docstrings."""

import ast
import dataclasses
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import udenoise
from udenoise import config

ROOT = Path(__file__).parents[1]
PACKAGE = Path(udenoise.__file__).parent
FLOORS = (
    ("errors",),
    ("config", "arrays", "gaussian", "files", "progress", "sampling", "smoothing"),
    ("io", "metrics", "network"),
    ("noise", "likelihood", "regions", "report"),
    ("anatomy", "baselines", "photon_transfer", "simulate"),
    ("innovation", "recording"),
    ("scan",),
    ("denoiser", "posterior", "audit"),
    ("training", "roi_error", "watch"),
    ("roi_posterior", "draws"),
    ("inference", "surprise", "traces"),
    ("results", "flags"),
    ("runfolder",),
    ("blocks",),
    ("flagging",),
    ("extraction",),
    ("pipeline",),
    ("demonstration", "null"),
    ("stages",),
    ("cli",),
    ("__main__",),
)
"""Rooms (modules, or folders of modules) by floor: a room imports only rooms of lower floors."""
ALLOWED = {
    "tifffile": {"io/tiff.py", "io/tiff_metadata.py", "io/tiff_writer.py"},
    "h5py": {"io/hdf5.py"},
    "zarr": {"io/zarr_.py", "io/store.py", "report/sources.py"},
    "roifile": {"io/imagej.py"},
    "imagecodecs": {"report/pictures.py"},
    "flax": {"network.py", "baselines/unet.py"},
    "optax": {"training.py", "baselines/fitting.py"},
    "orbax": {"denoiser.py", "training.py"},
    "tyro": {"cli.py"},
}
"""The only files that know a library."""
PLAIN = ("io", "noise", "anatomy", "simulate", "metrics", "report", "config", "errors")
"""Rooms that need no jax."""


def files() -> list[Path]:
    """The package's modules."""
    return sorted(PACKAGE.rglob("*.py"))


def room(file: Path) -> str:
    """The first part of a module's path: `io` for io/tiff.py."""
    return file.relative_to(PACKAGE).with_suffix("").parts[0]


def label(file: Path) -> str:
    """io/tiff.py."""
    return file.relative_to(PACKAGE).as_posix()


@cache
def imported(file: Path) -> frozenset[str]:
    """Dotted names that a module imports, at its top or inside a function."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{label(file)}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(names)


def rooms_below(file: Path) -> set[str]:
    """Other rooms of the package that a module imports from."""
    return {n.split(".")[1] for n in imported(file) if n.startswith("udenoise.")} - {room(file)}


def test_every_room_has_one_floor():
    listed = [name for floor in FLOORS for name in floor]
    assert len(listed) == len(set(listed))
    assert set(listed) == {room(file) for file in files()} - {"__init__"}


@pytest.mark.parametrize("file", files(), ids=label)
def test_imports_go_down_only(file):
    height = {name: number for number, floor in enumerate(FLOORS) for name in floor}
    if room(file) == "__init__":
        assert rooms_below(file) == set()  # public names are imported when they are used
        return
    upward = [name for name in rooms_below(file) if height[name] >= height[room(file)]]
    assert upward == []


@pytest.mark.parametrize("library", ALLOWED)
def test_libraries_stay_in_their_files(library):
    users = {label(f) for f in files() if any(n.split(".")[0] == library for n in imported(f))}
    assert users <= ALLOWED[library]


def test_no_junk_rooms_and_no_long_modules():
    names = {file.stem for file in files()}
    assert names.isdisjoint({"utils", "util", "misc", "helpers", "common"})
    long = {label(f): n for f in files() if (n := len(f.read_text(encoding="utf-8").splitlines())) >= 400}
    assert long == {}


def undocumented(file: Path) -> list[str]:
    """Public modules, classes and functions without a docstring."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    found = [] if ast.get_docstring(tree) or file.name == "__init__.py" or not tree.body else ["module"]
    for node in tree.body:
        members = node.body if isinstance(node, ast.ClassDef) else []
        for item in (node, *members):
            if not isinstance(item, ast.ClassDef | ast.FunctionDef) or item.name.startswith("_"):
                continue
            inherited = item in members and (item.name == "__call__" or _is_flax(node))
            if not inherited and ast.get_docstring(item) is None:
                found.append(item.name)
    return found


def _is_flax(node: ast.ClassDef) -> bool:
    return any("Module" in ast.unparse(base) for base in node.bases)


@pytest.mark.parametrize("file", files(), ids=label)
def test_public_names_have_docstrings(file):
    known = {"is_zarr"}  # its name says it all
    assert [name for name in undocumented(file) if name not in known] == []


def leaves(kind: type) -> list[str]:
    """Names of all settings, groups flattened, as they become flags."""
    names = []
    for field in dataclasses.fields(kind):
        inner = field.default_factory
        nested = inner is not dataclasses.MISSING and dataclasses.is_dataclass(inner)
        names += leaves(inner) if nested else [field.name]
    return names


def test_flags_are_unique_across_groups():
    for kind in (config.Config, config.SimulationConfig):
        names = leaves(kind)
        assert len(names) == len(set(names)) and len(names) > 25


def test_settings_are_frozen_and_documented():
    kinds = [k for k in vars(config).values() if dataclasses.is_dataclass(k)]
    assert len(kinds) == 20
    parts = [ast.parse(file.read_text(encoding="utf-8")).body for file in (PACKAGE / "config").glob("*.py")]
    source = ast.Module([node for part in parts for node in part], [])
    for kind in kinds:
        assert kind.__dataclass_params__.frozen
        body = next(n for n in source.body if isinstance(n, ast.ClassDef) and n.name == kind.__name__).body
        for setting, after in zip(body, [*body[1:], None], strict=True):
            if isinstance(setting, ast.AnnAssign) and "field(" not in ast.unparse(setting):
                assert isinstance(after, ast.Expr), f"{kind.__name__}.{ast.unparse(setting.target)} says nothing"


def modules_after(code: str) -> set[str]:
    """Top-level modules loaded by a piece of code in a fresh interpreter."""
    show = "import sys; print('\\n' + ' '.join({name.split('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", f"{code}\n{show}"], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


def test_import_does_nothing():
    assert modules_after("import udenoise").isdisjoint({"jax", "numpy", "scipy", "zarr", "tifffile", "flax"})


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["run"], ["run", "m.tif", "-o", "r", "--stepz"]])
def test_parsing_imports_no_numerics(arguments):
    code = f"from udenoise.cli import main\ntry:\n    main({arguments})\nexcept SystemExit:\n    pass"
    assert modules_after(code).isdisjoint({"jax", "scipy", "zarr", "tifffile", "flax", "optax"})


def test_plain_rooms_import_no_jax():
    code = "\n".join(f"import udenoise.{name}" for name in PLAIN)
    assert "jax" not in modules_after(code)


def test_public_names_exist():
    assert [name for name in udenoise.__all__ if not hasattr(udenoise, name)] == []
    with pytest.raises(AttributeError, match="no_such_name"):
        udenoise.no_such_name  # noqa: B018


def tracked() -> list[Path]:
    """Text files of the project, those that git does not know yet included."""
    done = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in done.stdout.splitlines() if (ROOT / name).is_file()]


def test_no_path_of_a_machine_and_no_session():
    places = re.compile("|".join([r"(?<![\w.])/" + name + "/" for name in ("work", "root", "home", "Users")]))
    found = []
    for file in tracked():
        try:
            text = file.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        found += [f"{file.relative_to(ROOT)}: {hit.group()}" for hit in places.finditer(text)]
    assert found == []


def test_no_large_files():
    assert [f.name for f in tracked() if f.stat().st_size > 500_000] == []
