"""Files and folders that are sent along. May import: fastdist, pytest."""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastdist import Client, UploadDirectory, UploadFile, get_worker
from fastdist.builtin_plugins import packed_folder
from fastdist.uploads import CodeFolder, top_modules


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[CodeFolder]:
    """A folder for uploads; what was imported from it is forgotten."""
    before = set(sys.modules)
    path = list(sys.path)
    folder = CodeFolder(str(tmp_path / "code"))
    yield folder
    folder.close()
    assert sys.path == path
    for name in set(sys.modules) - before:
        if name.startswith("uploaded_"):
            del sys.modules[name]


def test_a_module_can_be_imported_and_is_imported_anew_when_it_comes_again(folder: CodeFolder) -> None:
    assert folder.add_file("uploaded_one.py", b"value = 1\n") == 10
    import uploaded_one  # type: ignore[import-not-found]

    assert uploaded_one.value == 1
    folder.add_file("uploaded_one.py", b"value = 2\n")
    assert uploaded_one.value == 2


def test_without_load_nothing_is_imported(folder: CodeFolder) -> None:
    folder.add_file("uploaded_lazy.py", b"raise RuntimeError('imported')\n", load=False)
    assert "uploaded_lazy" not in sys.modules


def test_the_error_of_an_import_is_raised(folder: CodeFolder) -> None:
    with pytest.raises(RuntimeError, match="imported"):
        folder.add_file("uploaded_bad.py", b"raise RuntimeError('imported')\n")


def test_an_archive_gives_its_top_modules(folder: CodeFolder, tmp_path: Path) -> None:
    archive = tmp_path / "uploaded.zip"
    with zipfile.ZipFile(archive, "w") as contents:
        contents.writestr("uploaded_flat.py", "value = 'flat'")
        contents.writestr("uploaded_package/__init__.py", "value = 'package'")
        contents.writestr("uploaded_package/inner.py", "value = 'inner'")
        contents.writestr("__main__.py", "raise RuntimeError")
    assert top_modules(str(archive)) == ["uploaded_flat", "uploaded_package"]
    folder.add_file("uploaded.zip", archive.read_bytes())
    assert sys.modules["uploaded_flat"].value == "flat"
    assert sys.modules["uploaded_package"].value == "package"


def test_any_other_file_just_lies_there(folder: CodeFolder) -> None:
    folder.add_file("data.csv", b"a,b\n")
    assert (Path(folder.path) / "data.csv").read_bytes() == b"a,b\n"


@pytest.mark.parametrize("name", ["../up.py", "a/b.py", "", "..", "/etc/x"])
def test_a_name_with_folders_is_refused(folder: CodeFolder, name: str) -> None:
    with pytest.raises(ValueError, match="without folders"):
        folder.add_file(name, b"")


@pytest.mark.parametrize("name", ["../evil.py", "other/x.py", "lib/../../evil.py", "/lib/x.py"])
def test_an_archive_that_leads_out_of_its_folder_is_refused(
    folder: CodeFolder, tmp_path: Path, name: str
) -> None:
    archive = tmp_path / "evil.zip"
    with zipfile.ZipFile(archive, "w") as contents:
        contents.writestr(name, "")
    with pytest.raises(ValueError, match="leads out"):
        folder.add_archive("lib", archive.read_bytes())
    assert not (tmp_path / "evil.py").exists()


def test_a_packed_folder_leaves_out_what_it_should(tmp_path: Path) -> None:
    source = tmp_path / "uploaded_lib"
    for name in ("__init__.py", "tests/test_x.py", ".git/config", "sub/mod.py", "sub/mod.pyc", "sub/skipped.txt"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text("")
    packed = packed_folder(str(source), (".git", "tests"), (lambda path: path.endswith((".pyc", "skipped.txt")),))
    (tmp_path / "packed.zip").write_bytes(packed)
    with zipfile.ZipFile(tmp_path / "packed.zip") as contents:
        assert contents.namelist() == ["uploaded_lib/__init__.py", "uploaded_lib/sub/mod.py"]


def test_bad_arguments_of_upload_directory_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="mode= is one of"):
        UploadDirectory(tmp_path, mode="everywhere")
    with pytest.raises(NotADirectoryError, match="is no folder"):
        UploadDirectory(tmp_path / "missing")


# -- in a cluster -----------------------------------------------------------------------------------------------------


def test_a_file_reaches_the_scheduler_and_every_worker(client: Client, tmp_path: Path) -> None:
    def value() -> object:
        import uploaded_tools  # type: ignore[import-not-found]

        return uploaded_tools.value

    path = tmp_path / "uploaded_tools.py"
    path.write_text("value = 1\n")
    assert set(client.upload_file(path)) == set(client.scheduler_info()["workers"])
    assert client.run_on_scheduler(value) == 1
    assert set(client.run(value).values()) == {1}
    path.write_text("value = 22\n")
    client.upload_file(str(path))
    assert set(client.run(value).values()) == {22}
    sys.modules.pop("uploaded_tools", None)


def test_a_file_that_is_no_code_lies_in_the_local_directory(client: Client, tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("hello")

    def read() -> str:
        return (Path(get_worker().local_directory) / "words.txt").read_text()

    client.register_plugin(UploadFile(tmp_path / "words.txt"))
    assert client.submit(read, pure=False).result() == "hello"
    client.unregister_worker_plugin("upload_file")


def test_a_missing_file_is_named(client: Client) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.py"):
        client.upload_file("nowhere.py")


def test_a_folder_reaches_every_worker(client: Client, tmp_path: Path) -> None:
    def value() -> tuple[object, object]:
        import uploaded_bare  # type: ignore[import-not-found]
        import uploaded_folder.sub.mod  # type: ignore[import-not-found]

        return uploaded_folder.sub.mod.value, uploaded_bare.value

    source = tmp_path / "uploaded_folder"
    (source / "sub").mkdir(parents=True)
    for name in ("__init__.py", "sub/__init__.py"):
        (source / name).write_text("")
    (source / "sub" / "mod.py").write_text("value = 3")
    (source / "uploaded_bare.py").write_text("value = 4")
    client.register_plugin(UploadDirectory(source, update_path=True))
    assert set(client.run(value).values()) == {(3, 4)}
    client.unregister_scheduler_plugin("upload-directory-uploaded_folder")
