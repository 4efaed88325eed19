"""Writes build/sbom.cdx.json: the packages of requirements.lock as a CycloneDX bill of materials, with licences and
dependencies, which only installed packages know. The packages of Debian are the base image's."""

import subprocess
import sys
from pathlib import Path

import lock
from bootstrap import environment, find_uv

CYCLONEDX = "7.5.0"
VENV = Path("build/sbom")
SBOM = Path("build/sbom.cdx.json")


def main(arguments: list[str]) -> int:
    """Write it; `arguments` are more options of `cyclonedx-py environment`. Raises SystemExit with a sentence."""
    lock.main([])
    VENV.parent.mkdir(exist_ok=True)
    python = str(VENV / "bin/python")
    tool = ["tool", "run", "--quiet", "--from", f"cyclonedx-bom=={CYCLONEDX}", "cyclonedx-py", "environment"]
    options = ["--pyproject", "pyproject.toml", "--output-reproducible", "--output-file", str(SBOM)]
    for words in (
        ["venv", "--quiet", "--clear", "--python", sys.executable, str(VENV)],
        ["pip", "sync", "--quiet", "--require-hashes", "--python", python, str(lock.LOCK)],
        [*tool, *options, *arguments, python],
    ):
        if subprocess.run([find_uv(), *words], env={**environment(), "PYTHONWARNINGS": "ignore"}).returncode:
            sys.exit(f"{SBOM} cannot be written: see the error above.")
    print(SBOM)
    return 0
