"""Values as people read them: bytes, durations, FLOPs, and text that came from outside.

Decimal units, as disks and downloads are sold.
"""


def human_bytes(count: float) -> str:
    """1234567 -> "1.2 MB"."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def human_seconds(seconds: float) -> str:
    """3700 -> "1 h 01 min"; 75 -> "1 min 15 s"; 3.21 -> "3.2 s"."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def human_count(count: int) -> str:
    """134515008 -> "134.5 M"; below 100,000 all digits."""
    return f"{count / 1e6:.1f} M" if count >= 100_000 else str(count)


def human_flops(count: float) -> str:
    """1234567890 -> "1.23 GFLOP"."""
    for unit in ("FLOP", "kFLOP", "MFLOP", "GFLOP"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TFLOP" if count < 1000 else f"{count:.0f} TFLOP"
