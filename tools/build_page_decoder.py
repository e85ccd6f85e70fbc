"""Compile the page's decoder to WebAssembly: `python tools/build_page_decoder.py [OUT.wasm]` (`make page`).

The compiler is the clang in the package `ziglang`, in the version that pyproject.toml's extra `page` pins: the same sources
give the same bytes.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[1] / "src" / "mien"
PAGE = SOURCE / "apps" / "page"
BUILT = PAGE / "web" / "mien.wasm"
FLAGS = (
    *("--target=wasm32-freestanding", "-O3", "-std=gnu11", "-ffreestanding", "-nostdlib", "-Wno-psabi"),
    *("-msimd128", "-mbulk-memory", "-mnontrapping-fptoint", "-fno-math-errno", "-fno-trapping-math"),
    *("-fvisibility=default", "-Wl,--no-entry", "-Wl,--export-dynamic", "-Wl,--export=malloc", "-Wl,--strip-all"),
)


def build(output: Path) -> None:
    """Compile to `output`. Raises subprocess.CalledProcessError where the compiler finds fault."""
    folders = ("-isystem", "libc", "-I", "../../../nets/native")
    command = [sys.executable, "-m", "ziglang", "cc", *FLAGS, *folders, "-o", str(output.absolute()), "page.c"]
    subprocess.run(command, cwd=PAGE / "native", check=True)


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else BUILT
    build(target)
    print(f"{target}: {target.stat().st_size:,} bytes")
