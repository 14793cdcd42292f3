"""Code that users send along: files in a folder from which this process imports.

May import: the standard library.
"""

from __future__ import annotations

import importlib
import io
import os
import sys
import zipfile
from pathlib import Path
from types import ModuleType

#: Archives are put on the import path as they are; their modules are found inside.
ARCHIVES = (".egg", ".zip", ".pyz")


class CodeFolder:
    """A folder for uploaded files; it is on the import path from the first file on, until `close`.

    Parameters
    ----------
    path : str
        The folder; it is made when the first file comes.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._entries: list[str] = []

    def add_file(self, name: str, content: bytes, load: bool = True) -> int:
        """Write a file; a Python module or archive is imported, or imported again, unless `load` is false.

        Parameters
        ----------
        name : str
            The name of the file, without folders.
        content : bytes
            What it holds.
        load : bool
            Whether to import it now.

        Returns
        -------
        int
            How many bytes were written.

        Raises
        ------
        ValueError
            If the name has folders in it.
        """
        if name != os.path.basename(name) or name in ("", ".", ".."):
            raise ValueError(f"an uploaded file needs a name without folders, not {name!r}")
        target = os.path.join(self._made(), name)
        # Whoever imports it meanwhile sees the old file or the new one.
        with open(target + ".part", "wb") as file:
            file.write(content)
        os.replace(target + ".part", target)
        if load:
            self._load(target)
        return len(content)

    def add_archive(self, folder: str, content: bytes, on_path: bool = False) -> None:
        """Unpack a zip archive whose names all begin with `folder`.

        Parameters
        ----------
        folder : str
            The name of the folder that it holds.
        content : bytes
            The archive.
        on_path : bool
            Whether modules inside of the folder can be imported by their bare names, too.

        Raises
        ------
        ValueError
            If a name leads out of the folder.
        """
        root = Path(self._made())
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for name in archive.namelist():
                parts = Path(name).parts
                if not parts or parts[0] != folder or ".." in parts:
                    raise ValueError(f"{name!r} in the archive leads out of its folder {folder!r}")
            archive.extractall(root)
        if on_path:
            self._insert(str(root / folder))
        importlib.invalidate_caches()

    def close(self) -> None:
        """Take the folder off the import path; what was imported stays."""
        for entry in self._entries:
            if entry in sys.path:
                sys.path.remove(entry)
        self._entries.clear()

    def _made(self) -> str:
        os.makedirs(self.path, exist_ok=True)
        self._insert(self.path)
        return self.path

    def _insert(self, entry: str) -> None:
        if entry not in self._entries:
            self._entries.append(entry)
            sys.path.insert(0, entry)

    def _load(self, target: str) -> None:
        stem, suffix = os.path.splitext(os.path.basename(target))
        if suffix == ".py":
            names = [stem]
        elif suffix in ARCHIVES:
            self._insert(target)
            names = top_modules(target)
        else:
            return
        importlib.invalidate_caches()
        for name in names:
            load_module(name, os.path.dirname(target))


def top_modules(archive: str) -> list[str]:
    """The modules and packages at the top of a zip archive that can be imported by name."""
    found = []
    with zipfile.ZipFile(archive) as contents:
        for name in contents.namelist():
            parts = name.split("/")
            if len(parts) == 1 and name.endswith(".py") and name != "__main__.py":
                found.append(name.removesuffix(".py"))
            elif len(parts) == 2 and parts[1] == "__init__.py":
                found.append(parts[0])
    return [name for name in found if name.isidentifier()]


def load_module(name: str, folder: str) -> ModuleType:
    """Import a module, anew if it is there already and lives in this folder or anywhere else."""
    cached = Path(folder) / "__pycache__"
    if cached.is_dir():
        # Two versions within the same second look alike to the import system.
        for compiled in cached.glob(f"{name}.*.pyc"):
            compiled.unlink(missing_ok=True)
    module = sys.modules.get(name)
    if module is None:
        return importlib.import_module(name)
    if getattr(module, "__spec__", None) is not None:
        return importlib.reload(module)
    del sys.modules[name]
    return importlib.import_module(name)
