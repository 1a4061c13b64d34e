"""Variants of images beside bare Pillow, and the memory of many at a time.

``python -m tests.tools.benchmarks.images``. Times are CPU seconds of a process of its own for each
line, whose peak memory is counted from what it needs before its first image. Runs on Linux.
"""

from __future__ import annotations

import argparse
import io
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from PIL import Image, ImageOps

from flask_dualmedia.variants.budget import PixelBudget
from flask_dualmedia.variants.images import render
from flask_dualmedia.variants.presets import default_presets
from flask_dualmedia.variants.recipes import recipes_of, variant_urls

SOURCES = {
    "jpeg-12": ("JPEG", 4000, 3000),
    "jpeg-24": ("JPEG", 6000, 4000),
    "png-24": ("PNG", 6000, 4000),
    "webp-24": ("WEBP", 6000, 4000),
}
"""Format, width and height of what is rendered."""

WIDTHS = (320, 640, 1280)
TOGETHER = 8

_RECIPES = recipes_of(default_presets()["product-images"].values())
RECIPES = [_RECIPES[path] for path in ("thumb.webp", "card.webp", "large.webp")]


def make(name: str, path: Path) -> None:
    """Write something like a photo: soft shapes, and a little noise."""
    form, width, height = SOURCES[name]
    shapes = []
    for deviation in (60, 70, 80):
        small = Image.effect_noise((width // 100, height // 100), deviation)
        shapes.append(small.resize((width, height), Image.Resampling.BICUBIC))
    noise = Image.effect_noise((width, height), 20).convert("RGB")
    photo = Image.blend(Image.merge("RGB", shapes), noise, 0.15)
    photo.save(path, form, quality=88)


def ours(content: bytes) -> None:
    render(io.BytesIO(content), RECIPES)


def naive(content: bytes) -> None:
    """Each width from a full decoding, as most code does it."""
    for width in WIDTHS:
        image = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
        height = round(image.height * width / image.width)
        small = image.resize((width, height), Image.Resampling.LANCZOS)
        small.convert("RGB").save(io.BytesIO(), "WEBP", quality=80)


def together(content: bytes) -> None:
    """Many at a time, within the budget of a process."""
    budget = PixelBudget()

    def work() -> None:
        render(io.BytesIO(content), RECIPES, budget=budget, timeout=300)

    threads = [threading.Thread(target=work) for _ in range(TOGETHER)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


ACTIONS: dict[str, Callable[[bytes], None]] = {
    "ours": ours,
    "naive": naive,
    "together": together,
}


def measure(action: str, path: Path, runs: int) -> None:
    """Print the CPU time of one run in milliseconds, and the growth of memory in MiB."""
    content = path.read_bytes()
    ours(_tiny())
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak
    before = _memory("VmRSS")
    times = []
    for _ in range(runs):
        start = time.process_time()
        ACTIONS[action](content)
        times.append(time.process_time() - start)
    print(statistics.median(times) * 1000, _memory("VmHWM") - before)


def measured(action: str, path: Path, runs: int) -> tuple[float, float]:
    """What :func:`measure` prints in a process of its own."""
    command = [sys.executable, "-m", __spec__.name, "--action", action]
    command += ["--file", str(path), "--runs", str(runs)]
    answer = subprocess.run(command, check=True, capture_output=True, text=True)
    milliseconds, memory = map(float, answer.stdout.split())
    return milliseconds, memory


def measure_urls() -> None:
    """Print the time that the URLs of a page with 200 images take."""
    presets = []
    for preset in default_presets()["product-images"].values():
        presets.append(type(preset)(preset.name, preset.width, formats=("avif", "webp", "jpeg")))
    recipes = list(recipes_of(presets).values())
    times = []
    for _ in range(50):
        start = time.perf_counter()
        for number in range(200):
            base = f"/media/product-images/0198c0de-0000-7000-8000-{number:012}/variants/"
            variant_urls(base, "0123456789abcdef" * 4, recipes)
        times.append(time.perf_counter() - start)
    print(f"{200 * len(recipes)} URLs: {statistics.median(times) * 1000:.2f} ms")


def _tiny() -> bytes:
    target = io.BytesIO()
    Image.new("RGB", (8, 8)).save(target, "PNG")
    return target.getvalue()


def _memory(name: str) -> float:
    """A figure of this process in MiB, by its name in the kernel."""
    status = Path("/proc/self/status").read_text()
    return int(re.findall(rf"{name}:\s+(\d+) kB", status)[0]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--action", choices=ACTIONS, help="measure this, in this process")
    parser.add_argument("--file", type=Path, help="the image for it")
    arguments = parser.parse_args()
    if arguments.action:
        measure(arguments.action, arguments.file, arguments.runs)
        return

    measure_urls()
    with tempfile.TemporaryDirectory() as directory:
        for name in SOURCES:
            path = Path(directory, name)
            make(name, path)
            cost, memory = measured("ours", path, arguments.runs)
            naive_cost, naive_memory = measured("naive", path, arguments.runs)
            print(
                f"{name}: {path.stat().st_size / 2**20:.1f} MiB to {WIDTHS}: "
                f"{cost:.0f} ms and {memory:.0f} MiB, "
                f"naive {naive_cost:.0f} ms and {naive_memory:.0f} MiB: "
                f"{cost / naive_cost:.2f} of its time",
                flush=True,
            )
            _, memory = measured("together", path, 1)
            print(f"{name}: {TOGETHER} at a time: {memory:.0f} MiB", flush=True)


if __name__ == "__main__":
    main()
