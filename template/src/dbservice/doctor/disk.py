"""Whether the folders that the service writes to can be written, and have room."""

import os
import shutil
import tempfile
from pathlib import Path

from .patient import Patient
from .report import Finding, failed, ok, skipped, warning

MIN_FREE = 200 * 1024 * 1024
"""Bytes that should be free on a disk."""


def database_file(patient: Patient) -> Finding:
    """Whether the file of SQLite can be written and has room."""
    if not patient.settings.is_file:
        return skipped("the disk of the server is not to be seen from here: look at its free space there")
    path = Path(patient.settings.db_name)
    return _disk(
        path.parent,
        "DB_NAME",
        f"{path}, {_size(path.stat().st_size)}" if path.exists() else f"{path}, not there yet",
    )


def temporary_folder() -> Finding:
    """Whether there is a folder for temporary files, and room in it."""
    try:
        folder = Path(tempfile.gettempdir())
    except OSError:
        return warning(
            "no folder for temporary files can be written",
            "In a container with a read-only root, mount one at /tmp.",
        )
    return _disk(folder, "TMPDIR", str(folder))


def _disk(folder: Path, variable: str, what: str) -> Finding:
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return failed(
            f"cannot write to the folder {folder}: {(error.strerror or str(error)).lower()}",
            f"Let {variable} name a folder that user {os.getuid()} may write, on a disk that is not read-only or full.",
        )
    if free < MIN_FREE:
        return warning(f"{what}; {_size(free)} free", f"Make room on the disk of {folder}.")
    return ok(f"{what}; {_size(free)} free")


def _size(count: int) -> str:
    for unit in ("B", "KB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count //= 1000
    return f"{count} GB"
