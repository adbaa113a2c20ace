"""The posterior kernels and the join under the address and undefined-behaviour sanitizers, without Python."""

import os
import platform
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

HERE = Path(__file__).parent
KERNELS = HERE.parents[1] / "src" / "nearline" / "kernels"
COMPILER = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
SOURCES = ("entity.cpp", "scores.cpp")  # compiled once for each instruction set
IS_X86 = platform.machine() in {"x86_64", "AMD64"}
COMMON = ["-std=c++17", "-Wall", "-Wextra", "-Werror", "-fno-math-errno", "-fno-trapping-math"]
SANITIZE = [
    "-O1",
    "-g1",
    "-fsanitize=address,undefined",
    "-fno-sanitize-recover=all",
    "-fno-omit-frame-pointer",
    "-DNEARLINE_EXACT_BUFFERS",
]
INSTRUCTION_SETS = {"portable": []} | (
    {"v3": ["-march=x86-64-v3"], "v4": ["-march=x86-64-v4", "-mprefer-vector-width=512"]} if IS_X86 else {}
)

pytestmark = pytest.mark.skipif(COMPILER is None, reason="needs a C++ compiler")


def run(*command: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(  # noqa: S603 - our own sources, the system's compiler
        [str(part) for part in command],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
        env={**os.environ, "ASAN_OPTIONS": "detect_leaks=0"},
    )
    if check and done.returncode != 0:
        pytest.fail(f"{' '.join(map(str, command))}\n{done.stdout}\n{done.stderr}")
    return done


def compile_object(source: Path, target: Path, flags: list[str]) -> Path:
    assert COMPILER is not None
    run(COMPILER, *COMMON, *flags, f"-I{KERNELS}", "-c", source, "-o", target)
    return target


def build(folder: Path) -> Path:
    """The driver with every instruction set, with sanitizers."""
    jobs = [
        (HERE / "kernels_test.cpp", folder / "driver.o", [*SANITIZE, *(["-DNEARLINE_X86"] if IS_X86 else [])])
    ]
    for name, flags in INSTRUCTION_SETS.items():
        for source in SOURCES:
            target = folder / f"{source.removesuffix('.cpp')}_{name}.o"
            jobs.append((KERNELS / source, target, [*SANITIZE, f"-DNEARLINE_ISA={name}", *flags]))
    with ThreadPoolExecutor(2) as pool:
        objects = list(pool.map(lambda job: compile_object(*job), jobs))
    assert COMPILER is not None
    run(COMPILER, "-fsanitize=address,undefined", *objects, "-o", folder / "kernels_test")
    return folder / "kernels_test"


def test_random_ragged_problems_are_clean_and_agree_between_instruction_sets(tmp_path: Path) -> None:
    program = build(tmp_path)
    done = run(program, "300")
    assert done.stdout.endswith(" 300 cases\n")
    # And what there is to be seen is seen.
    faults = {"out-of-bounds": "heap-buffer-overflow", "undefined": "signed integer overflow"}
    for fault, words in faults.items():
        done = run(program, fault, check=False)
        assert done.returncode != 0
        assert words in done.stderr


def test_a_join_of_damaged_records_and_a_damaged_state_is_clean(tmp_path: Path) -> None:
    source, program = HERE / "join_test.cpp", tmp_path / "join_test"
    assert COMPILER is not None
    run(COMPILER, *COMMON, *SANITIZE, "-O0", f"-I{KERNELS}", source, "-o", program)
    said, said_again = run(program, "500").stdout, run(program, "1").stdout
    rows, dead, refused, hashed = map(int, re.findall(r"\d+", said))
    assert min(rows, dead, refused) > 10
    # Nobody outside the process knows which ids meet in one place of its tables.
    assert hashed != int(said_again.split()[-1])


@pytest.mark.skipif(not IS_X86 or shutil.which("nm") is None, reason="needs an x86-64 machine and nm")
@pytest.mark.parametrize("name", ["v3", "v4"])
@pytest.mark.parametrize("source", SOURCES)
def test_instruction_sets_share_no_code(source: str, name: str, tmp_path: Path) -> None:
    # The linker keeps one copy of a function that several objects hold: one compiled for AVX-512 must not be kept
    # for machines without it.
    flags = ["-O3", f"-DNEARLINE_ISA={name}", *INSTRUCTION_SETS[name]]
    symbols = run("nm", "-C", compile_object(KERNELS / source, tmp_path / "kernel.o", flags)).stdout
    weak = [
        line.split(maxsplit=2)[2]
        for line in symbols.splitlines()
        if line[16:].startswith((" W ", " V ", " u "))
    ]
    assert any(f"nearline::{name}::" in symbol for symbol in weak)
    shared = [
        symbol for symbol in weak if f"nearline::{name}::" not in symbol and "personality" not in symbol
    ]
    assert not shared
