"""What a program reports about its task while it runs, under ClearML's names."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clearflow.client import door, outbox
from clearflow.client.door import Line as SupervisorLine
from clearflow.client.later import Later
from clearflow.errors import Usage

if TYPE_CHECKING:
    import mimetypes

    from clearflow.client import packing, plots
    from clearflow.words import drawing
else:
    mimetypes = Later("mimetypes")
    packing = Later("clearflow.client.packing")
    plots = Later("clearflow.client.plots")
    drawing = Later("clearflow.words.drawing")


_HISTORY = 5  # pictures of one series that are kept


class Logger:
    """Reports to one task. All of it is sent in the background, and nothing waits for the server.

    What is reported is on the server within two seconds, and shown in the Prefect UI among the
    artifacts of the run. A process that is killed loses its last 0.3 seconds.
    """

    def __init__(self, task: str, own: bool) -> None:
        self._box = outbox.outbox(task, own)
        self._own = own

    @classmethod
    def current_logger(cls) -> Logger | None:
        """That of the task that this program is; None when it is none."""
        from clearflow.client.task import Task

        task = Task.current_task()
        return None if task is None else task.get_logger()

    def flush(self, wait: bool = False) -> bool:
        """Send at once what was reported; whether that was possible.

        `wait` is taken as ClearML has it: what was sent is with the task's supervisor, which keeps
        it until the server has it.
        """
        return outbox.flush()

    # -- numbers ------------------------------------------------------------------------------

    def report_scalar(self, title: str, series: str, value: float, iteration: int) -> None:
        """A point of the curve `series`, in the plot `title`. At one iteration the last counts."""
        self._box.point(title, series, int(iteration), float(value))

    def report_single_value(self, name: str, value: float) -> None:
        """A number that the task has one of, such as its final score."""
        self._box.item(kind="values", name=name, value=_number(value))

    # -- text ---------------------------------------------------------------------------------

    def report_text(self, msg: str, level: int = 20, print_console: bool = True, *_: Any) -> None:
        """A line of the task's console; without `print_console` it is not printed here."""
        if print_console or not self._own:
            print(msg, flush=True)
            return
        there = door.door()
        if isinstance(there, SupervisorLine):
            there.tell("say", text=str(msg), level=int(level))

    # -- tables and pictures ------------------------------------------------------------------

    def report_table(
        self,
        title: str,
        series: str,
        iteration: int | None = None,
        table_plot: Any = None,
        csv: str | Path | None = None,
        **unused: Any,
    ) -> None:
        """A data frame, a list of rows below one of names, dictionaries, or a file of CSV.

        The latest one of a series is kept, with its first 1,000 rows.
        """
        if table_plot is None and csv is None:
            raise Usage("report_table needs a table_plot, or the path of a csv")
        rows = plots.table(table_plot) if csv is None else plots.csv_table(csv)
        self._send("table", title, series, iteration, rows=rows)

    def report_image(
        self,
        title: str,
        series: str,
        iteration: int | None = None,
        local_path: str | Path | None = None,
        image: Any = None,
        max_image_history: int | None = None,
        delete_after_upload: bool = False,
        **unused: Any,
    ) -> None:
        """A picture: a file, a PIL image, or an array of pixels; of a series the last five stay."""
        if (local_path is None) == (image is None):
            raise Usage("report_image needs either a local_path or an image")
        url = plots.image(image) if local_path is None else plots.file(local_path)
        if local_path is not None and delete_after_upload:
            Path(local_path).unlink()
        self._picture(title, series, iteration, url, max_image_history or _HISTORY)

    def report_media(
        self,
        title: str,
        series: str,
        iteration: int | None = None,
        local_path: str | Path | None = None,
        stream: Any = None,
        file_extension: str | None = None,
        **unused: Any,
    ) -> None:
        """A file of sound, film or anything else: images are shown, others kept as artifacts.

        More than 16 MB are not kept.
        """
        if (local_path is None) == (stream is None):
            raise Usage("report_media needs either a local_path or a stream")
        content = stream.read() if local_path is None else Path(local_path).read_bytes()
        content = content.encode() if isinstance(content, str) else content
        end = file_extension or (Path(local_path).suffix if local_path is not None else "")
        end = end if not end or end.startswith(".") else f".{end}"
        kind = mimetypes.guess_type(f"x{end}")[0] or ""
        if kind.startswith("image/"):
            self._picture(title, series, iteration, plots.uri(kind, content), _HISTORY)
            return
        name = f"{title}/{series}"
        packed = packing.Packed("media", f"{series}{end}", content, f"iteration {iteration or 0}")
        self._box.item(**packed.item(name, None))

    def report_matplotlib_figure(
        self,
        title: str,
        series: str,
        figure: Any,
        iteration: int | None = None,
        report_image: bool = False,
        report_interactive: bool = True,
    ) -> None:
        """A figure of matplotlib, as a picture; `pyplot` stands for its current one."""
        self._picture(title, series, iteration, plots.matplotlib(figure), _HISTORY)

    def report_plotly(
        self, title: str, series: str, figure: Any, iteration: int | None = None
    ) -> None:
        """A figure of plotly with lines, dots, bars or a heat map, as a picture.

        Raises Usage for others.
        """
        self._picture(title, series, iteration, plots.plotly(title, figure))

    def report_histogram(
        self,
        title: str,
        series: str,
        values: Any,
        iteration: int | None = None,
        labels: Sequence[str] | None = None,
        xlabels: Sequence[str] | None = None,
        xaxis: str | None = None,
        yaxis: str | None = None,
        **unused: Any,
    ) -> None:
        """Bars as high as `values`; of two dimensions: groups of bars, named by `labels`."""
        rows = plots.rows_of_numbers(values)
        names = plots.strings(labels) or [series] * len(rows)
        axes = drawing.Axes(xaxis or "", yaxis or "", plots.strings(xlabels))
        groups = [(names[i] if i < len(names) else "", row) for i, row in enumerate(rows)]
        self._drawn(title, series, iteration, drawing.bars(title, groups, axes))

    report_vector = report_histogram

    def report_line_plot(
        self,
        title: str,
        series: Sequence[Any],
        xaxis: str,
        yaxis: str,
        mode: str = "lines",
        iteration: int | None = None,
        reverse_xaxis: bool = False,
        **unused: Any,
    ) -> None:
        """Lines with names and data (pairs of x and y), as objects or dictionaries."""
        axes = drawing.Axes(xaxis, yaxis, reversed=reverse_xaxis)
        picture = drawing.lines(title, plots.infos(series, mode), axes)
        self._drawn(title, "", iteration, picture)

    def report_scatter2d(
        self,
        title: str,
        series: str,
        scatter: Any,
        iteration: int | None = None,
        xaxis: str | None = None,
        yaxis: str | None = None,
        mode: str = "lines",
        **unused: Any,
    ) -> None:
        """Pairs of x and y; `mode` is lines, markers, or lines+markers."""
        axes = drawing.Axes(xaxis or "", yaxis or "")
        picture = drawing.lines(title, [plots.cloud(series, scatter, mode)], axes)
        self._drawn(title, series, iteration, picture)

    def report_confusion_matrix(
        self,
        title: str,
        series: str,
        matrix: Any,
        iteration: int | None = None,
        xaxis: str | None = None,
        yaxis: str | None = None,
        xlabels: Sequence[str] | None = None,
        ylabels: Sequence[str] | None = None,
        yaxis_reversed: bool = False,
        **unused: Any,
    ) -> None:
        """A matrix of numbers, darker for more; its first row is on top unless reversed."""
        rows, names = plots.rows_of_numbers(matrix), plots.strings(ylabels)
        if yaxis_reversed:
            rows, names = rows[::-1], names[::-1]
        axes = drawing.Axes(xaxis or "", yaxis or "", plots.strings(xlabels))
        self._drawn(title, series, iteration, drawing.matrix(title, rows, axes, names))

    report_matrix = report_confusion_matrix

    def _drawn(self, title: str, series: str, iteration: int | None, picture: str) -> None:
        self._picture(title, series, iteration, plots.svg(picture))

    def _picture(
        self, title: str, series: str, iteration: int | None, url: str, history: int = 1
    ) -> None:
        self._send("picture", title, series, iteration, url=url, history=history)

    def _send(self, kind: str, title: str, series: str, iteration: int | None, **what: Any) -> None:
        names: Mapping[str, Any] = {"title": title, "series": series}
        self._box.item(kind=kind, **names, iteration=int(iteration or 0), **what)


def _number(value: float) -> float | str:
    """As JSON has it, which knows no NaN and no infinities."""
    number = float(value)
    return number if math.isfinite(number) else str(number)
