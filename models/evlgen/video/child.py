"""The process that decodes: reads paths from its standard input, answers on its standard output, dies when told to.

It ignores Ctrl-C (the parent decides), and it dies with its parent even when that is killed: on Linux the kernel kills
it, elsewhere, and in idle times everywhere, it notices that its input pipe has closed.
Nothing but the protocol may reach the parent's terminal: what libraries print goes to standard error, a file.
"""

import os
import select
import signal
import threading
from dataclasses import replace
from pathlib import Path
from typing import IO

from evlgen.errors import EvlgenError, VideoError
from evlgen.system.child_processes import die_with_parent
from evlgen.video import backends, bounds, wire
from evlgen.video.clip import Answer, Backend, DecodeFailure
from evlgen.video.content_fingerprint import content_fingerprint_or_none
from evlgen.video.remote_videos import fetch


def main() -> None:
    """Serve until the input closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    commands, answers = _private_pipes()
    _die_with_parent(commands.fileno())
    try:
        settings = wire.receive(commands)
        try:
            backend = backends.load(settings.backend)
            _warm_up()
            bounds.goes_first()
            bounds.limit(settings.most_pixels, settings.most_memory_bytes)
        except EvlgenError as error:
            wire.send(answers, error)
            return
        except (ImportError, AttributeError, OSError) as error:
            wire.send(answers, EvlgenError(f"the decoder {settings.backend} cannot be loaded: {error}"))
            return
        wire.send(answers, None)
        while True:
            file: wire.Parts = wire.receive(commands)
            path = file.path
            if file.source is not None:
                path = file.local or path
                fetched = fetch(file.source, file.path, path, settings.most_fetched_bytes)
                wire.send(answers, fetched)
                if fetched.failure is not None:
                    continue
            # by itself: it is known even of what kills the decoder
            wire.send(answers, content_fingerprint_or_none(path))
            wire.send(answers, _called(file.path, _serve(backend, replace(file, path=path), settings)))
    except (EOFError, OSError):
        return


def _called(path: Path, answer: Answer) -> Answer:
    """The answer about a file that was fetched, under the path that stands for it."""
    if isinstance(answer, DecodeFailure):
        return replace(answer, path=path, message=answer.message.replace(str(answer.path), str(path)))
    return replace(answer, path=path)


def _serve(backend: Backend, file: wire.Parts, settings: wire.Settings) -> Answer:
    path = file.path
    try:
        bounds.check(path, settings.most_pixels)
        sampler = replace(settings.sampler, spans=file.spans) if file.spans else settings.sampler
        return backend(path, sampler, settings.size, settings.strict, settings.threads)
    except VideoError as error:
        return DecodeFailure(path, error.kind, str(error))
    except MemoryError:
        return DecodeFailure(path, "decode-error", f"{path}: not enough memory to decode it")
    except Exception as error:  # whatever a file provokes, it must fail alone
        text = " ".join(str(error).split()) or "no message"
        return DecodeFailure(path, "decode-error", f"{path}: {type(error).__name__}: {text}")


def _private_pipes() -> tuple[IO[bytes], IO[bytes]]:
    """The protocol's two pipes, moved away from the file numbers to which libraries print."""
    commands, answers = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    return os.fdopen(commands, "rb", buffering=0), os.fdopen(answers, "wb")


def _die_with_parent(pipe: int) -> None:
    die_with_parent()
    if hasattr(select, "poll"):
        threading.Thread(target=_watch, args=(pipe,), daemon=True).start()


def _watch(pipe: int) -> None:
    """End the process when the parent's end of the pipe has closed, even while a decoder is busy."""
    poll = select.poll()
    poll.register(pipe, 0)  # hang-up and error are always reported
    while not poll.poll():
        pass
    os._exit(0)


def _warm_up() -> None:
    """Load what every file needs, before the first deadline starts to count."""
    import av.logging
    import numpy  # noqa: F401
    import PIL.Image  # noqa: F401

    # FFmpeg's own printing, without a detour through Python: its threads must never wait for the interpreter.
    av.logging.restore_default_callback()
    av.logging.set_libav_level(av.logging.ERROR)


if __name__ == "__main__":
    main()
