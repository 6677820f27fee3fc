"""Properties of the container image that can be read from its Containerfile, without building it."""

from __future__ import annotations

import ast
import fnmatch
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numcodecs
import pytest

from images import sbom, slim
from tests.package_index import UV, UV_TRUSTS_THE_SYSTEM, need_index_for_uv

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "images" / "Containerfile").read_text()
DIGEST = re.compile(r"@sha256:[0-9a-f]{64}$")


def instructions() -> list[tuple[str, str]]:
    """Instructions as (name, arguments), with continued lines joined."""
    lines = [line for line in TEXT.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [(name, rest.strip()) for name, _, rest in (line.partition(" ") for line in joined.splitlines())]


def final_stage() -> list[tuple[str, str]]:
    all_stages = instructions()
    last = max(number for number, (name, _) in enumerate(all_stages) if name == "FROM")
    return all_stages[last:]


def only(name: str) -> str:
    (arguments,) = [arguments for instruction, arguments in final_stage() if instruction == name]
    return arguments


def test_the_base_is_named_by_digest_and_can_be_replaced() -> None:
    assert instructions()[0][0] == "ARG"
    name, _, default = instructions()[0][1].partition("=")
    assert name == "BASE"
    assert DIGEST.search(default), default


def test_every_stage_starts_from_the_base_image_from_scratch_or_from_another_stage() -> None:
    known = {"${BASE}", "scratch"}
    for name, arguments in instructions():
        if name == "FROM":
            source, *alias = arguments.split(" AS ")
            assert source in known
            known.update(alias)
    assert ":latest" not in TEXT


def test_it_runs_as_a_numeric_user_and_group_that_is_not_root() -> None:
    assert only("USER") == "65532:65532"
    assert slim.USER.split(":")[2:4] == ["65532", "65532"]
    assert slim.GROUP.split(":")[2] == "65532"


def test_the_entry_point_needs_no_shell() -> None:
    assert json.loads(only("ENTRYPOINT")) == ["acdtask"]
    assert not [arguments for name, arguments in final_stage() if name in {"RUN", "CMD", "SHELL"}]


def test_home_is_the_only_writable_folder() -> None:
    settings = dict(word.split("=", 1) for word in shlex.split(only("ENV")))
    assert settings["HOME"] == "/tmp"  # noqa: S108  # an emptyDir of the pod
    assert settings["PYTHONDONTWRITEBYTECODE"] == "1"
    assert settings["PATH"].split(":")[0] == "/opt/acd/bin"


def test_a_pod_reads_no_project_file() -> None:
    settings = dict(word.split("=", 1) for word in shlex.split(only("ENV")))
    assert settings["ACD_PROJECT"] == "", "set and empty: only its workflow decides what a pod does"


@pytest.mark.parametrize(
    "label", ["title", "description", "licenses", "version", "revision", "source", "base.name"], ids=str
)
def test_a_label_says_what_the_image_is(label: str) -> None:
    labels = dict(word.split("=", 1) for word in shlex.split(only("LABEL")))
    value = labels[f"org.opencontainers.image.{label}"]
    assert value
    argument = re.fullmatch(r"\$\{([A-Z]+)\}", value)
    if argument:
        declared = [arguments.split("=")[0] for name, arguments in final_stage() if name == "ARG"]
        assert argument[1] in declared


def test_every_wheel_comes_from_the_lock_or_from_this_build() -> None:
    installs = [
        part for name, run in instructions() if name == "RUN" for part in run.split("&&") if " install " in part
    ]
    assert len(installs) == 2
    from_lock, from_build = installs
    assert {"--require-hashes", "--only-binary", ":all:"} <= set(from_lock.split())
    assert {"--no-index", "--no-deps"} <= set(from_build.split())


def test_copied_files_exist_and_are_in_the_build_context() -> None:
    ignored = (ROOT / ".containerignore").read_text().splitlines()
    allowed = {line[1:] for line in ignored if line.startswith("!")}
    assert "*" in ignored
    copied = {
        source
        for name, arguments in instructions()
        if name == "COPY" and "--from=" not in arguments
        for source in arguments.split()[:-1]
    }
    assert copied == allowed
    assert all((ROOT / source).exists() for source in copied)


def test_docker_has_the_same_build_context_as_other_builders() -> None:
    assert (ROOT / ".dockerignore").read_text() == (ROOT / ".containerignore").read_text()


def locked(name: str) -> set[str]:
    """Distributions locked in a file of requirements/."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    return set(re.findall(r"^([a-z0-9.-]+)==", text, re.MULTILINE))


def test_only_locked_distributions_are_removed() -> None:
    assert set(slim.BUILD_DEPENDENCIES) <= locked("run")


def test_dependencies_of_tests_are_not_in_the_image() -> None:
    assert locked("run") < locked("dev")
    assert {"geopandas", "matplotlib", "pytest", "hera"} <= locked("dev") - locked("run")


def imports_of(source: Path) -> set[str]:
    """Modules that a file imports, including imported names that may be submodules."""
    imported: set[str] = set()
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Import):
            imported.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            imported.add(node.module)
            imported.update(f"{node.module}.{alias.name}" for alias in node.names)
    return imported


OPTIONAL = {"geopandas", "pyogrio", "pystac_client", "requests", "xarray"}
"""Packages of extras, imported only where used. The image's build imports every module without them."""


def test_acdtask_imports_nothing_that_the_image_lacks() -> None:
    removed = [
        pattern.removesuffix(".*").replace("/", ".") for pattern in slim.UNUSED_IN_LIBRARIES if "**" not in pattern
    ]
    absent = {*slim.BUILD_DEPENDENCIES, *(locked("dev") - locked("run"))}
    modules = {name.replace("-", "_") for name in absent} - OPTIONAL
    missing = {
        (source.name, name)
        for source in sorted((ROOT / "acdtask").rglob("*.py"))
        for name in imports_of(source)
        if name.split(".")[0] in modules or any(fnmatch.fnmatch(name, f"{module}*") for module in removed)
    }
    assert not missing


def test_matching_files_are_removed_and_links_are_not_followed(tmp_path: Path) -> None:
    for name in ("a/tests/first.py", "a/kept.py", "b/tests/deep/two.py", "c/tests/four.py", "outside/three.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "a" / "b").mkdir()
    (tmp_path / "a" / "b" / "tests").symlink_to(tmp_path / "outside")
    slim.remove(tmp_path, ["**/tests", "absent/*"], ["c/**/tests"])
    remaining = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*"))
    assert remaining == ["a", "a/b", "a/kept.py", "b", "c", "c/tests", "c/tests/four.py", "outside", "outside/three.py"]


def test_compiled_files_contain_no_time_and_no_path_of_the_build(tmp_path: Path) -> None:
    source = tmp_path / "root" / "opt" / "module.py"
    source.parent.mkdir(parents=True)
    source.write_text("def answer():\n    return 42\n")
    compiled = []
    for moment in (1, 10**9):
        os.utime(source, (moment, moment))
        slim.compile_all(source.parent, below=tmp_path / "root")
        (path,) = source.parent.glob("__pycache__/*.pyc")
        compiled.append(path.read_bytes())
    assert compiled[0] == compiled[1]
    assert int.from_bytes(compiled[0][4:8], "little") == 0b01  # hash-based and unchecked (PEP 552)
    assert b"/opt/module.py" in compiled[0]
    assert bytes(tmp_path) not in compiled[0]


def test_a_file_that_does_not_compile_ends_the_build(tmp_path: Path) -> None:
    (tmp_path / "wrong.py").write_text("def (:\n")
    with pytest.raises(SystemExit, match="do not compile"):
        slim.compile_all(tmp_path)


def build(**settings: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name in {"PATH", "HOME"}}
    return subprocess.run(
        [ROOT / "images" / "build"], env=environment | settings, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"RELEASE": "1", "BASE": "python:3.11-slim"}, "a release needs a base with a digest"),
        ({"RELEASE": "1", "BASE": "python:3.11-slim@sha256:12"}, "a release needs a base with a digest"),
        ({"RELEASE": "1", "REVISION": "main"}, "a release needs a commit id"),
        ({"IMAGE": "acd:latest"}, "needs a tag other than latest"),
        ({"IMAGE": "registry:5000/acd"}, "needs a tag other than latest"),
        ({"BUILDER": "make"}, "must be buildah, podman or docker"),
        ({"PLATFORMS": "linux/riscv64"}, "must list linux/amd64 and linux/arm64"),
        ({"PLATFORMS": "linux/amd64,"}, "must list linux/amd64 and linux/arm64"),
    ],
)
def test_a_build_that_is_not_reproducible_is_refused(settings: dict[str, str], message: str) -> None:
    refused = build(**settings)
    assert refused.returncode == 2
    assert message in refused.stderr


def test_a_machine_without_a_builder_gets_an_error(tmp_path: Path) -> None:
    for program in ("bash", "dirname", "sed", "head", "git"):
        (tmp_path / program).symlink_to(shutil.which(program) or pytest.fail(f"{program} is missing"))
    refused = build(PATH=str(tmp_path))
    assert refused.returncode == 2
    assert "none of buildah, podman and docker" in refused.stderr


@pytest.mark.parametrize("builder", ["buildah", "podman", "docker"])
def test_the_builder_gets_the_image_name_the_base_and_the_timestamp(builder: str, tmp_path: Path) -> None:
    program = tmp_path / builder
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    program.chmod(0o755)
    base = f"mirror.example/python@sha256:{'0' * 64}"
    done = build(
        BUILDER=str(program),
        BASE=base,
        IMAGE="registry.example/acd:1",
        SOURCE_DATE_EPOCH="1700000000",
        BUILD_FLAGS="--log-level error",
        BUILD_OPTIONS="--pull-never",
    )
    arguments = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr
    assert arguments[:2] == ["--log-level", "error"]
    assert arguments[-3:] == ["--pull-never", ".", "registry.example/acd:1"]
    assert {f"BASE={base}", "SOURCE_DATE_EPOCH=1700000000"} <= set(arguments)
    assert any(re.fullmatch(r"VERSION=\d+\.\d+\.\d+.*", argument) for argument in arguments)
    assert builder == "docker" or "--timestamp" in arguments


BOTH = "linux/amd64,linux/arm64"


@pytest.mark.parametrize("builder", ["buildah", "podman", "docker"])
def test_an_image_for_several_platforms_has_one_name(builder: str, tmp_path: Path) -> None:
    program = tmp_path / builder
    program.write_text('#!/bin/sh\necho "$0" "$@"\n')
    program.chmod(0o755)
    done = build(BUILDER=str(program), IMAGE="registry.example/acd:1", PLATFORMS=BOTH, BUILD_OPTIONS="--push")
    assert done.returncode == 0, done.stderr
    *before, call, image = [line.removeprefix(f"{program} ") for line in done.stdout.splitlines()]
    assert image == "registry.example/acd:1"
    assert f"--platform {BOTH}" in call
    assert call.endswith("--push .")
    if builder == "docker":
        assert call.startswith("buildx build --tag registry.example/acd:1 ")
        assert before == []
    else:
        assert f"--manifest {image}" in call
        assert "--tag" not in call
        assert before == [f"manifest exists {image}"], "and an old list is removed, silently"


@pytest.mark.install
@pytest.mark.parametrize("platform", ["x86_64-manylinux_2_28", "aarch64-manylinux_2_28"])
def test_the_lock_has_wheels_for_every_platform_of_the_image(platform: str, tmp_path: Path) -> None:
    environment = os.environ | UV_TRUSTS_THE_SYSTEM
    need_index_for_uv(tmp_path / "probe", environment)
    python = sbom.python_of_image()
    command = [UV, "pip", "install", "--dry-run", "--require-hashes", "--no-deps"]
    command += ["--only-binary", ":all:", "--python-platform", platform, "--python-version", python]
    command += ["--target", tmp_path / "target", "-r", ROOT / "requirements" / "run.txt"]
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, check=False, timeout=600, env=environment
    )
    assert done.returncode == 0, done.stderr
    chosen = set(re.findall(r"^ \+ ([a-z0-9.-]+)==", done.stderr, re.MULTILINE))
    entries = sbom.entries_of_image((ROOT / "requirements" / "run.txt").read_text(), python)
    assert chosen == set(re.findall(r"^([a-z0-9.-]+)==", entries, re.MULTILINE))


def test_the_digest_of_the_base_is_the_one_that_decision_0042_describes() -> None:
    """Look again whether a new digest is that of an index with amd64 and arm64, then change the decision."""
    text = (ROOT / "docs/decisions/0042-images-that-can-be-trusted.md").read_text()
    (digest,) = re.findall(r"sha256:[0-9a-f]{64}", instructions()[0][1])
    assert digest in text


def test_a_library_without_its_debug_information_works_as_before(tmp_path: Path) -> None:
    (source,) = Path(numcodecs.__file__).parent.glob("blosc.*.so")
    library = source.read_bytes()
    if not library.startswith(slim.ELF_64_LITTLE_ENDIAN):
        pytest.skip("the libraries of this system are not ELF")
    stripped = slim.stripped(library)
    assert len(stripped) < len(library)
    assert slim.stripped(stripped) == stripped
    (tmp_path / "stripped.so").write_bytes(stripped)
    script = (
        "import importlib.util, sys, numcodecs.blosc as before\n"
        "spec = importlib.util.spec_from_file_location('numcodecs.blosc', sys.argv[1])\n"
        "after = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(after)\n"
        "packed = after.compress(bytes(range(256)) * 99, b'zstd', 5)\n"
        "assert after is not before and after.decompress(packed) == bytes(range(256)) * 99\n"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "stripped.so")], check=True, timeout=60)
    assert slim.stripped(b"#!/bin/sh") == b"#!/bin/sh"
