"""A transcript as subtitles: SubRip, and WebVTT (https://www.w3.org/TR/webvtt1/)."""

from collections.abc import Iterable

from deployments.roles.speech_to_text import Segment


def srt(segments: Iterable[Segment]) -> str:
    spoken = [segment for segment in segments if segment.text]
    return "".join(
        f"{number}\n{_time(one.start, ',')} --> {_time(one.end, ',')}\n{_line(one.text)}\n\n"
        for number, one in enumerate(spoken, start=1)
    )


def vtt(segments: Iterable[Segment]) -> str:
    spoken = [segment for segment in segments if segment.text]
    return "WEBVTT\n\n" + "".join(f"{_time(one.start, '.')} --> {_time(one.end, '.')}\n{_line(one.text)}\n\n" for one in spoken)


def _time(seconds: float, separator: str) -> str:
    whole, ms = divmod(round(seconds * 1000), 1000)
    return f"{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02}{separator}{ms:03}"


def _line(text: str) -> str:
    """The text of a cue: one line, without the arrow that would start the times of another cue."""
    return " ".join(text.split()).replace("-->", "->")
