"""What bench/speed.py found, as a table and as a picture over stream time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

SYSTEMS = ("full", "full-cached", "rekv", "window", "carriers", "hybrid")


def show(result: dict[str, Any]) -> None:
    """The table."""
    print(
        f"{result['machine']}, load before {result['load_before']}; {result['geometry']} on {result['device']}, "
        f"{result['dtype']}, {result['threads']} threads, {result['cameras']} cameras"
    )
    print(
        f"limits: {result['matrix_gflops']:.0f} GFLOP/s matrix product, {result['read_gbs']:.1f} GB/s read; "
        f"a frame is {result['frame_gflop']:.1f} GFLOP\n"
        f"padding: no rows; the masked slots of a bank that is still empty are {result['padding_share']:.2%} of a frame"
    )
    times = sorted({int(frames) for first in result["ttft_ms"].values() for frames in first})
    print(f"\n{'':12}{'frames/s':>9}{'of peak':>9}{'words/s':>9}{'of read':>9}   first token after N frames, ms")
    print(f"{'':51}" + "".join(f"{frames:>9}" for frames in times) + "   MB after 1, 10, 60 min")
    for system in SYSTEMS:
        first = result["ttft_ms"][system]
        held = "".join(f"{size / 1e6:10.1f}" for size in result["bytes"][system].values())
        print(
            f"{system:12}{result['absorb_fps'][system]:9.2f}{result['gemm_share'][system]:9.2f}"
            f"{result['decode_tps'][system]:9.1f}{result['decode_share'][system]:9.2f}   "
            + "".join(f"{first[str(frames)]:9.1f}" if str(frames) in first else f"{'-':>9}" for frames in times)
            + f"   {held}"
        )
    long, short = list(result["ttft_ms"]["full"].items())[-1], list(result["ttft_ms"]["carriers"].items())[-1]
    print(f"\nfull after {long[0]} frames waits {long[1] / short[1]:.0f} times as long as carriers after {short[0]}")
    print(
        f"a frame after {result['late_frames']} frames costs {result['late_cost']:.3f} of one in minute 1 "
        f"({result['late_pairs']} pairs), bytes {result['late_bytes']:.3f}"
    )
    idle = result["idle_ms"]
    print(f"first token, idle: p50 {idle['p50']:.1f} ms, p95 {idle['p95']:.1f} ms")
    for system, loads in result["ttft_loaded_ms"].items():
        for load, got in loads.items():
            limit = 2 * idle["p95"] + got["absorb"]
            print(
                f"{system} at {load} % load: p50 {got['p50']:.1f} ms, p95 {got['p95']:.1f} ms "
                f"(twice idle and one batch: {limit:.1f}); {got['questions']} questions, "
                f"{got['absorbed']} frames absorbed, {got['dropped']} dropped"
            )
    native = result["weights"]["native"]
    for kind, got in result["weights"].items():
        print(
            f"weights {kind:8} {got['decode_tps']:8.1f} words/s ({got['decode_tps'] / native['decode_tps']:.2f} x), "
            f"{got['decode_share']:.2f} of read, first token {got['ttft_ms']:.1f} ms, {got['absorb_fps']:.2f} frames/s"
        )


def plot(result: dict[str, Any], picture: Path) -> None:
    """The first token and the bytes held, over stream time."""
    from matplotlib.figure import Figure  # imported here: nothing else needs it

    figure = Figure(figsize=(9, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for system in SYSTEMS:
        first, held = result["ttft_ms"][system], result["bytes"][system]
        how = {"marker": "o", "markersize": 3, "linestyle": "--" if system == "rekv" else "-"}  # over full-cached
        left.plot([int(frames) for frames in first], list(first.values()), label=system, **how)
        right.plot([int(minutes) for minutes in held], [size / 1e6 for size in held.values()], **how)
    left.set(xscale="log", yscale="log", xlabel="frames of the stream", ylabel="ask to first token, ms")
    right.set(xscale="log", yscale="log", xlabel="minutes at one frame a second", ylabel="held, MB")
    left.legend(fontsize=8)
    figure.suptitle(f"{result['geometry']}, {result['dtype']}, {result['machine']}", fontsize=9)
    figure.savefig(picture)
