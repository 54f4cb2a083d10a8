"""What the README shows runs, and what it names exists."""

import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import pytest

from udenoise import config

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def test_first_code_block_runs(tmp_path, monkeypatch, capsys):
    language, code = re.search(r"^```(\w*)\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL).groups()
    assert language == "python"
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {"__name__": "readme"})
    said = capsys.readouterr().out
    assert "largest ΔF/F" in said and "denoised movie (150, 48, 48)" in said and "nan" not in said
    assert (tmp_path / "run" / "report.html").is_file()


def test_error_bars_on_anything(tmp_path, monkeypatch, capsys):
    """The second block, on the run that the first one leaves."""
    blocks = re.findall(r"^```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    monkeypatch.chdir(tmp_path)
    for code in blocks[:2]:
        exec(compile(code, "README.md", "exec"), {"__name__": "readme"})
    said = capsys.readouterr().out
    assert "amplitude" in said and "correlation" in said and "95 % corridor from" in said and "nan" not in said


def helped(*command: str) -> str:
    """--help as a user sees it."""
    line = [sys.executable, "-m", "udenoise", *command, "--help"]
    return subprocess.run(line, capture_output=True, text=True, check=True).stdout


def test_commands_exist():
    said = helped()
    named = {name for name in re.findall(r"`udenoise (\w+)", TEXT) if name != "COMMAND"}
    offered = set(re.findall(r"• (\w+)", said))
    assert named == offered


def test_flags_exist():
    text = re.sub(r"`python -m experiments[^`]*`", "", TEXT)
    shown = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", text)) - {"--help"}
    said = "".join(helped(*name.split()) for name in ("run", "denoise", "train", "simulate", "audit score"))
    assert [flag for flag in sorted(shown) if not re.search(rf"{flag}\b", said)] == []
    named = {field.name for group in vars(config).values() if dataclasses.is_dataclass(group)
             for field in dataclasses.fields(group)}  # fmt: skip
    assert {flag[2:].removeprefix("no-").replace("-", "_") for flag in shown} - named <= {
        "rois", "output", "overwrite", "init_from", "denoiser", "match", "missing_ends", "sd",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["LICENSE", ".ci/run", "tests/test_house.py", "udenoise/config"])
def test_files_exist(name):
    assert name in TEXT and (ROOT / name).exists()


def test_two_commands_are_one_line_each():
    lines = [line.strip() for line in TEXT.splitlines()]
    make = "python3 -m venv .venv && .venv/bin/pip install "
    assert f"{make}. && .venv/bin/udenoise demo" in lines
    assert f"{make}'.[test]' && .venv/bin/pytest" in lines


def test_lines_are_short_enough_to_read():
    assert [line for line in TEXT.splitlines() if len(line) > 120 and not line.startswith("|")] == []
