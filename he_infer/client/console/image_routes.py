"""Routes of the images: list, upload, run, one image with its result and reports."""

import os
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import Request
from fastapi.responses import HTMLResponse, Response
from numpy.typing import NDArray
from starlette.concurrency import run_in_threadpool

from he_infer.client.console import words
from he_infer.client.console.desk import State
from he_infer.client.console.office import Office
from he_infer.client.console.pixels import measure_entropy, picture_bytes, read_values, to_png, to_shown
from he_infer.client.console.rendering import Renderer, cut
from he_infer.client.pacs.archive.dicomweb import Archive
from he_infer.client.pacs.reports.kinds import build_reports
from he_infer.client.pacs.reports.source import read_source
from he_infer.client.pacs.reports.structured import to_bytes
from he_infer.client.pacs.results import ReportMaker, state_result
from he_infer.client.results import summarise
from he_infer.errors import UsageError

_MOST_FILE_BYTES = 512 * 2**20


class ImageRoutes:
    """Routes of the images.

    Args:
        office: the page's state.
        show: renders templates.
    """

    def __init__(self, office: Office, show: Renderer) -> None:
        self._office, self._show = office, show
        self.table = (
            ("GET", "/", self.work), ("GET", "/desk", self.desk), ("POST", "/files", self.add_file),
            ("POST", "/send", self.send), ("POST", "/stop", self.stop), ("POST", "/clear", self.clear),
            ("GET", "/images/{identifier}", self.image), ("GET", "/images/{identifier}/values", self.values),
            ("GET", "/images/{identifier}/extractor.png", self.extractor_view),
            ("GET", "/images/{identifier}/report.{kind}.dcm", self.report),
            ("POST", "/images/{identifier}/store", self.store), ("GET", "/sent.png", self.sent),
        )  # fmt: skip

    def work(self, request: Request) -> Response:
        """The page with the list of images."""
        if self._office.locked:
            return self._unlocking(request)
        return self._show.page(request, "work.html", here="/", **self._desk_values("", 1))

    def desk(self, request: Request, seen: int = -1, page: int = 1, look: str = "") -> Response:
        """A portion of the list of images that contain the words `look`; nothing if its version is `seen`."""
        if self._office.desk.version == seen:
            return Response(status_code=204)
        return self._show.page(request, "desk.html", **self._desk_values(look[:200], page))

    async def add_file(self, request: Request, name: str) -> Response:
        """Add one file; the request's body holds its bytes."""
        desk = self._office.desk
        room = min(desk.room(), _MOST_FILE_BYTES)
        path, size = desk.new_file(name), 0
        try:
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                async for chunk in request.stream():
                    size += len(chunk)
                    _check_size(size, room)
                    file.write(chunk)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        await run_in_threadpool(desk.add, name, path)
        return Response(status_code=204)

    def send(self) -> Response:
        """Start a run."""
        self._office.desk.send()
        return _refresh()

    def stop(self) -> Response:
        """Stop the run after the current request."""
        self._office.desk.cancel()
        return _refresh()

    def clear(self) -> Response:
        """Remove all images from the list."""
        self._office.desk.remove([item.id for item in self._office.desk.items])
        return _refresh()

    def image(self, request: Request, identifier: str) -> Response:
        """The page of one image with its result."""
        item = self._office.desk.item(identifier)
        sent = self._office.desk.sent
        receipt = item.result.receipt if item.result else None
        verdict = None if item.state is State.UNREADABLE else self._office.client.check(item.path)
        return self._show.page(
            request, "image.html", here="", item=item, archive=self._office.settings.archive is not None,
            reading=words.read(item.result) if item.result else None, receipt=receipt.signed() if receipt else {},
            verdict=verdict.replace(str(item.path), item.name) if verdict else "",
            sent={"size": len(sent), "entropy": measure_entropy(sent)} if sent and item.state is State.DONE else None,
        )  # fmt: skip

    def values(self, identifier: str) -> Response:
        """Pixel values of an image before windowing."""
        item = self._office.desk.item(identifier)
        values = read_values(item.path, self._pixels(item.path))
        return Response(values.data, media_type="application/octet-stream", headers={"X-Image": values.header})

    def extractor_view(self, identifier: str) -> Response:
        """The image as the extractor sees it."""
        pixels = self._pixels(self._office.desk.item(identifier).path)
        seen = np.asarray(self._office.client.model.feature_model.preprocessing.apply([pixels]))
        return Response(to_png(to_shown(seen[0])), media_type="image/png")

    def report(self, identifier: str, kind: str) -> Response:
        """A report as a DICOM file."""
        (data,) = self._reports(identifier, (kind,))
        return Response(to_bytes(data), media_type="application/dicom")

    def store(self, identifier: str) -> Response:
        """Store a Structured Report in the archive."""
        archive = self._archive()
        archive.store(self._reports(identifier, ("sr",)))
        self._office.desk.note_report(identifier, archive.url)
        return HTMLResponse("Stored in the archive.")

    def sent(self) -> Response:
        """The first bytes that the server received, as a PNG."""
        return Response(picture_bytes(self._office.desk.sent), media_type="image/png")

    def _unlocking(self, request: Request) -> Response:
        settings = self._office.settings
        kinds = {wrapping.kind for wrapping in self._office.wrappings()}
        return self._show.page(
            request, "unlock.html", key=str(settings.key), url=settings.url, model=str(settings.model), kinds=kinds,
            profile=settings.profile, module=settings.token_module,
        )  # fmt: skip

    def _desk_values(self, look: str, page: int) -> dict[str, Any]:
        desk = self._office.desk
        version, items, job = desk.version, desk.items, desk.job
        results = [item.result for item in items if item.result is not None]
        waiting = sum(item.state in (State.READY, State.REFUSED) for item in items)
        return {
            "version": version, "total": len(items), "shown": cut(desk.find(look), page), "job": job, "ready": waiting,
            "studies": cut(summarise(results), 1),
        }  # fmt: skip

    def _reports(self, identifier: str, kinds: tuple[str, ...]) -> list[Any]:
        office, item = self._office, self._office.desk.item(identifier)
        if item.result is None or not item.result.classified or not set(kinds) <= {"sr", "pdf"}:
            raise UsageError("There is no result to report yet.")
        maker = ReportMaker.of(office.client.model, office.client.keys)
        source = read_source(item.path)
        statement = state_result(item.result, source, office.client.model)
        return build_reports(kinds, statement, source, maker.findings, maker.uids)

    def _pixels(self, path: Path) -> NDArray[np.float32]:
        image = self._office.client.read(path)
        if image.pixels is None:
            raise UsageError("This file holds no image that can be shown.")
        return image.pixels

    def _archive(self) -> Archive:
        if self._office.settings.archive is None:
            raise UsageError("The page was started without an archive; start it with --to-archive URL.")
        return self._office.settings.archive


def _refresh() -> Response:
    """An answer that lets the page fetch the list again, with its present search."""
    return Response(status_code=204, headers={"HX-Trigger": "refresh"})


def _check_size(size: int, room: int) -> None:
    if size > room:
        raise UsageError(f"The file is larger than the {room / 1e6:.0f} MB that there is room for.")
