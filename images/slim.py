"""Remove unused files from the image, and compile the rest, since the root file system is read-only.

    slim.py libraries ENVIRONMENT            slim the installed wheels
    slim.py package ENVIRONMENT ROOT         compile acdtask, installed below ROOT, and import all its modules
    slim.py system                           slim the base image: keep Python, remove shell and package manager

Only the standard library is available here. `package` fails if something that is needed for an import was removed; the
tests run all jobs in the image.
"""

from __future__ import annotations

import compileall
import py_compile
import shutil
import site
import struct
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path

BUILD_DEPENDENCIES = (
    "hatchling",
    "editables",
    "grpcio-tools",
    "mypy-protobuf",
    "pathspec",
    "pluggy",
    "setuptools",
    "tomlkit",
    "trove-classifiers",
    "types-protobuf",
)
"""Distributions that are needed only to build the wheel of acdtask."""

UNUSED_IN_LIBRARIES = (
    "**/tests",
    "**/*.pyi",
    "**/*.pyx",
    "**/*.pxd",
    "**/*.[ch]",
    "**/*.a",
    "**/*.f90",
    # acdtask and scikit-image use scipy.ndimage, sparse and spatial, which use _lib, constants, linalg and special.
    "scipy/cluster",
    "scipy/datasets",
    "scipy/differentiate",
    "scipy/fft",
    "scipy/fftpack",
    "scipy/integrate",
    "scipy/interpolate",
    "scipy/io",
    "scipy/misc",
    "scipy/odr",
    "scipy/optimize",
    "scipy/signal",
    "scipy/special/cython_special.*",
    "scipy/stats",
    # acdtask only writes PNG, without text, colour management, AVIF, WebP or windows.
    "PIL/_avif.*",
    "PIL/_imagingcms.*",
    "PIL/_imagingft.*",
    "PIL/_imagingtk.*",
    "PIL/_webp.*",
    "pillow.libs/libavif-*",
    "pillow.libs/libfreetype-*",
    "pillow.libs/libharfbuzz-*",
    "pillow.libs/liblcms2-*",
    "pillow.libs/libwebp*",
    "numpy/_core/_simd.*",
    "rasterio/_example.*",
    "rasterio/_fill.*",
    # rich imports pygments; only colouring source code would load a lexer.
    "pygments/lexers/[!_]*",
)
"""Patterns below site-packages."""

NEEDED_IN_LIBRARIES = ("skimage/**/*.pyi",)
"""Patterns of files that stay: scikit-image reads its stubs to know what to import."""

UNUSED_IN_SYSTEM = (
    "build",
    "etc/apt",
    "usr/games",
    "usr/include",
    "usr/lib/apt",
    "usr/lib/dpkg",
    "usr/lib/*/gconv",
    # Dependencies of apt and of account tools: GnuTLS and gcrypt (Python uses OpenSSL), systemd, SELinux policies.
    "usr/lib/*/libapt-p*",
    "usr/lib/*/libgcrypt.*",
    "usr/lib/*/libgnutls.*",
    "usr/lib/*/libhogweed.*",
    "usr/lib/*/libnettle.*",
    "usr/lib/*/libp11-kit.*",
    "usr/lib/*/libsemanage.*",
    "usr/lib/*/libsepol.*",
    "usr/lib/*/libsystemd.*",
    "usr/lib/*/libunistring.*",
    "usr/lib/*/libperl.*",
    "usr/lib/*/perl*",
    "usr/local/include",
    "usr/local/share/man",
    "usr/sbin/*",
    "usr/share/bash-completion",
    "usr/share/info",
    "usr/share/locale",
    "usr/share/man",
    "usr/share/perl*",
    "usr/share/python-wheels",
    "var/cache/*",
    "var/lib/apt",
    "var/log/*",
)
"""Patterns below the root. The package list (var/lib/dpkg) and licences (usr/share/doc) stay for scanners."""

UNUSED_IN_STANDARD_LIBRARY = (
    "config-*",
    "ensurepip",
    "idlelib",
    "lib2to3",
    "pydoc_data",
    "test",
    "tkinter",
    "turtledemo",
)

ELF_64_LITTLE_ENDIAN = b"\x7fELF\x02\x01"

USER = "acd:x:65532:65532:acd:/tmp:/nonexistent\n"
GROUP = "acd:x:65532:\n"


def main(arguments: list[str]) -> None:
    """Run one of the three commands."""
    match arguments:
        case ["libraries", environment]:
            slim_libraries(Path(environment))
        case ["package", environment, root]:
            finish_package(Path(environment), Path(root))
        case ["system"]:
            slim_system(Path("/"))
        case _:
            sys.exit(__doc__)


def slim_libraries(environment: Path) -> None:
    """Remove unused distributions and files from a virtual environment, and compile the rest."""
    python = environment / "bin" / "python3"
    _run(sys.executable, "-m", "pip", "--python", python, "uninstall", "-q", "-y", *BUILD_DEPENDENCIES)
    (packages,) = environment.glob("lib/python3*/site-packages")
    remove(packages, UNUSED_IN_LIBRARIES, NEEDED_IN_LIBRARIES)
    strip_all(packages)
    compile_all(packages)
    _keep_python_alone(environment / "bin")


def finish_package(environment: Path, root: Path) -> None:
    """Compile acdtask, and import every module with the remaining libraries."""
    (packages,) = (root / environment.relative_to("/")).glob("lib/python3*/site-packages")
    compile_all(packages, below=root)
    names = sorted(_module_name(path.relative_to(packages)) for path in packages.glob("acdtask/**/*.py"))
    imports = "".join(f"import {name}\n" for name in names if not name.endswith("__main__"))
    _run(
        environment / "bin" / "python3",
        "-W",
        "error",
        "-c",
        f"import sys\nsys.path.insert(0, {str(packages)!r})\n{imports}",
    )


def slim_system(root: Path) -> None:
    """Keep only what Python needs to run, and add the user of the container."""
    standard = Path(sysconfig.get_path("stdlib"))
    remove(standard, UNUSED_IN_STANDARD_LIBRARY)
    for packages in (*site.getsitepackages(), "/usr/lib/python3/dist-packages"):
        remove(Path(packages), ["*"])
    compile_all(standard)
    for name, line in (("passwd", USER), ("group", GROUP)):
        with (root / "etc" / name).open("a") as accounts:
            accounts.write(line)
    remove(root, UNUSED_IN_SYSTEM)
    for programs in ("usr/bin", "usr/local/bin"):
        _keep_python_alone(root / programs)


def remove(folder: Path, patterns: Iterable[str], needed: Iterable[str] = ()) -> None:
    """Delete all matches below a folder that do not also match a needed pattern; symbolic links are not followed."""
    kept = {path for pattern in needed for path in folder.glob(pattern)}
    for pattern in patterns:
        for path in sorted(folder.glob(pattern), reverse=True):
            if path not in kept:
                _delete(path)


def strip_all(folder: Path) -> None:
    """Remove debug information from the shared libraries below a folder, since the base image has no `strip`."""
    for path in sorted(folder.rglob("*.so*")):
        if not path.is_symlink():
            path.write_bytes(stripped(path.read_bytes()))


def stripped(library: bytes) -> bytes:
    """Return a shared library without its section header table and without data after its last segment.

    Loaders only read segments; the section header table is optional (ELF-64 Object File Format 1.5, chapter 8).
    Anything but little-endian 64-bit ELF is returned unchanged.
    """
    if not library.startswith(ELF_64_LITTLE_ENDIAN):
        return library
    (first,) = struct.unpack_from("<Q", library, 32)
    size, count = struct.unpack_from("<HH", library, 54)
    end = first + size * count
    for header in range(first, end, size):
        offset, _, _, length = struct.unpack_from("<4Q", library, header + 8)
        end = max(end, offset + length)
    kept = bytearray(library[:end])
    struct.pack_into("<Q", kept, 40, 0)
    struct.pack_into("<HHH", kept, 58, 0, 0, 0)
    return bytes(kept)


def compile_all(folder: Path, below: Path = Path("/")) -> None:
    """Write .pyc files without timestamps, which Python uses without checking the source."""
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    if not compileall.compile_dir(
        folder, quiet=1, force=True, stripdir=str(below), prependdir="/", invalidation_mode=mode, maxlevels=99
    ):
        sys.exit(f"slim.py: some files in {folder} do not compile")


def _keep_python_alone(programs: Path) -> None:
    for path in sorted(programs.iterdir()):
        if path.name not in {"python", "python3", f"python3.{sys.version_info.minor}"}:
            _delete(path)


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _module_name(path: Path) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def _run(*command: str | Path) -> None:
    subprocess.run([str(word) for word in command], check=True)  # noqa: S603  # fixed arguments and paths of the build


if __name__ == "__main__":
    main(sys.argv[1:])
