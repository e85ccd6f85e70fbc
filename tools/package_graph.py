"""Draw which part of the package imports which, as docs/images/packages_*.svg are drawn.

    python tools/package_graph.py src/mien docs/images/packages_after.svg

A box is a file or a folder of the package's root, with its number of Python files. An arrow points from what imports to
what is imported. Red: arrows within a circle of imports. Needs grimp (of the extra `dev`) and graphviz's `dot`.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import grimp

STYLE = [
    "rankdir=TB; nodesep=0.15; ranksep=0.35; bgcolor=white;",
    'node [shape=box, style="filled,rounded", fillcolor="#eef2f7", color="#5b6b7f", fontname="sans-serif", fontsize=11];',
    'edge [color="#9aa7b5", arrowsize=0.6];',
]


def parts(package: Path) -> dict[str, int]:
    """Names of the root's files and folders, each with its number of Python files."""
    files = {p.stem: 1 for p in package.glob("*.py") if not p.stem.startswith("__")}
    folders = {p.name: len(list(p.rglob("*.py"))) for p in package.iterdir() if (p / "__init__.py").is_file()}
    return files | folders


def imports(package: Path) -> set[tuple[str, str]]:
    """(importer, imported) between different parts of the root."""
    sys.path.insert(0, str(package.resolve().parent))
    graph = grimp.build_graph(package.name, cache_dir=None)
    found = set()
    for module in graph.modules:
        for target in graph.find_modules_directly_imported_by(module):
            importer, imported = (name.split(".")[1] if "." in name else "" for name in (module, target))
            if importer and imported and importer != imported:
                found.add((importer, imported))
    return found


def reachable(start: str, edges: set[tuple[str, str]]) -> set[str]:
    """What `start` imports, directly or through others."""
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        now = waiting.pop()
        for a, b in edges:
            if a == now and b not in seen:
                seen.add(b)
                waiting.append(b)
    return seen


def reduced(edges: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """The edges without those that follow from others; what lies in one circle counts as one."""
    names = {name for edge in edges for name in edge}
    below = {name: reachable(name, edges) for name in names}
    same = {(a, b): a == b or (a in below[b] and b in below[a]) for a in names for b in names}

    def follows(a: str, b: str) -> bool:
        return any(c in below[a] and b in below[c] and not same[a, c] and not same[c, b] for c in names)

    return {(a, b) for a, b in edges if same[a, b] or not follows(a, b)}


def main(package: Path, output: Path) -> None:
    counts, edges = parts(package), {e for e in imports(package) if "__main__" not in e}
    below = {name: reachable(name, edges) for name in counts}
    lines = ["digraph packages {", *STYLE]
    for name, count in sorted(counts.items()):
        noun = f"{name}/\\n{count} file{'s' if count > 1 else ''}"
        label = noun if (package / name).is_dir() else name
        lines.append(f'"{name}" [label="{label}"];')
    for a, b in sorted(reduced(edges)):
        circle = a in below[b]
        lines.append(f'"{a}" -> "{b}"' + (' [color="#c62828", penwidth=1.6];' if circle else ";"))
    text = "\n".join([*lines, "}"])
    subprocess.run(["dot", "-Tsvg", "-o", str(output)], input=text.encode(), check=True)
    print(f"{output}: {len(counts)} parts, {len(edges)} imports between them")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
