"""`mien call` between two network namespaces whose link loses and delays packets. Linux, as root.

    python benchmarks/call_over_loss.py A.person A.mp4 B.person B.mp4 -o DIR [--loss 0.05 --delay 0.1 --jitter 0.02]

Each end runs in a namespace of its own; between them this program passes every Ethernet frame on, as netem would: lost
with chance `loss`, else after `delay` seconds, plus or minus `jitter` (normally distributed, so frames overtake each
other). Writes a.json, b.json, a.mp4 and b.mp4 into DIR and prints a line for each end.
"""

from __future__ import annotations

import argparse
import heapq
import json
import os
import random
import selectors
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

ENDS = {"a": "10.77.0.1", "b": "10.77.0.2"}
ARP = b"\x08\x06"
# Frames that are passed on by hand need checksums that are there: no offload to a card (ETHTOOL_STXCSUM).
OFFLOAD = (
    "import fcntl,socket,struct,array;v=array.array('I',[0x17,0]);"
    "fcntl.ioctl(socket.socket(),0x8946,struct.pack('16sP','{0}'.encode(),v.buffer_info()[0]))"
)


def run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


def lay_link() -> None:
    """Two namespaces, each with one end of a pair of network devices; the other ends stay here."""
    remove_link()
    for end, address in ENDS.items():
        run("ip", "netns", "add", f"mien{end}")
        run("ip", "link", "add", f"here{end}", "type", "veth", "peer", "name", f"there{end}", "netns", f"mien{end}")
        run("ip", "link", "set", f"here{end}", "up")
        inside = ("ip", "-n", f"mien{end}")
        run(*inside, "addr", "add", f"{address}/24", "dev", f"there{end}")
        run(*inside, "link", "set", f"there{end}", "up")
        run(*inside, "link", "set", "lo", "up")
        run("ip", "netns", "exec", f"mien{end}", sys.executable, "-c", OFFLOAD.format(f"there{end}"))


def remove_link() -> None:
    for end in ENDS:
        subprocess.run(("ip", "netns", "del", f"mien{end}"), check=False, capture_output=True)


def pass_on(stop: threading.Event, loss: float, delay: float, jitter: float, counts: dict[str, list[int]]) -> None:
    """Carry frames between the two devices until `stop`."""
    sides = {}
    for end in ENDS:
        side = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.ntohs(3))
        side.bind((f"here{end}", 0))
        side.setblocking(False)
        sides[end] = side
    selector = selectors.DefaultSelector()
    for end, side in sides.items():
        selector.register(side, selectors.EVENT_READ, end)
    waiting: list[tuple[float, int, str, bytes]] = []
    count = 0
    while not stop.is_set():
        until = waiting[0][0] - time.monotonic() if waiting else 0.05
        for key, _ in selector.select(max(min(until, 0.05), 0)):
            data, origin = key.fileobj.recvfrom(65535)  # type: ignore[union-attr]
            if origin[2] == socket.PACKET_OUTGOING:
                continue
            counts[key.data][0] += 1
            if data[12:14] != ARP and random.random() < loss:
                counts[key.data][1] += 1
                continue
            count += 1
            other = "b" if key.data == "a" else "a"
            heapq.heappush(waiting, (time.monotonic() + max(random.gauss(delay, jitter), 0), count, other, data))
        while waiting and waiting[0][0] <= time.monotonic():
            _, _, end, data = heapq.heappop(waiting)
            sides[end].send(data)


def start(end: str, person: Path, clip: Path, folder: Path, meeting: tuple[str, ...]) -> subprocess.Popen[bytes]:
    command = (
        *(
            "ip",
            "netns",
            "exec",
            f"mien{end}",
            sys.executable,
            "-m",
            "mien",
            "call",
            "--person",
            str(person),
            "--accept",
        ),
        *("--input", str(clip), "--host", ENDS[end], "--output", str(folder / f"{end}.mp4")),
        *("--json", str(folder / f"{end}.json"), *meeting),
    )
    home = folder / f"home_{end}"  # so that each end has to send its person
    home.mkdir(exist_ok=True)
    environment = os.environ | {"MIEN_HOME": str(home), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stderr=subprocess.PIPE, env=environment)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("person_a", "clip_a", "person_b", "clip_b"):
        parser.add_argument(name, type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    for name, value in (("loss", 0.05), ("delay", 0.1), ("jitter", 0.02)):
        parser.add_argument(f"--{name}", type=float, default=value)
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    lay_link()
    stop, counts = threading.Event(), {end: [0, 0] for end in ENDS}
    link = threading.Thread(target=pass_on, args=(stop, given.loss, given.delay, given.jitter, counts))
    link.start()
    try:
        first = start("a", given.person_a, given.clip_a, given.output, ("--listen", "7861"))
        assert first.stderr is not None
        for line in first.stderr:  # it listens once it has learned to read its face
            if b"listening" in line:
                break
        second = start("b", given.person_b, given.clip_b, given.output, ("--connect", f"{ENDS['a']}:7861"))
        said = [process.communicate(timeout=300)[1] for process in (first, second)]
    finally:
        stop.set()
        link.join()
        remove_link()
    for end, text in zip(ENDS, said, strict=True):
        path = given.output / f"{end}.json"
        if path.is_file():
            print(end, json.dumps(json.loads(path.read_text())))
        else:
            print(end, text.decode(errors="replace")[-400:])
    print("frames passed on and lost:", {end: tuple(c) for end, c in counts.items()})


if __name__ == "__main__":
    main()
