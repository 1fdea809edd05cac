"""Routes of the page. Each calls the desk or the office and renders a template."""

import os
import subprocess
import sys
import time
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import FastAPI, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from fastapi.staticfiles import StaticFiles
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from numpy.typing import NDArray
from starlette.concurrency import run_in_threadpool

from he_infer.client.console import words
from he_infer.client.console.access import Access, Guard, read_cookie
from he_infer.client.console.desk import Desk, State
from he_infer.client.console.office import Office
from he_infer.client.console.pixels import measure_entropy, picture_bytes, read_values, to_png, to_shown
from he_infer.client.pacs.archive.dicomweb import Archive
from he_infer.client.pacs.reports.kinds import build_reports
from he_infer.client.pacs.reports.source import read_source
from he_infer.client.pacs.reports.structured import to_bytes
from he_infer.client.pacs.results import ReportMaker, state_result
from he_infer.client.results import summarise
from he_infer.errors import HeInferError, UsageError
from he_infer.terminal import explain

SHOWN = 300
_MOST_FILE_BYTES = 512 * 2**20
_VAULT_SECONDS = 3600
_HERE = Path(str(files("he_infer.client.console")))


class Console:
    """The web application and its parts.

    Args:
        office: the page's state, locked or open.
        access: access control.
    """

    def __init__(self, office: Office, access: Access) -> None:
        self._office, self._access = office, access
        self._pages = Environment(
            loader=FileSystemLoader(_HERE / "templates"), autoescape=True, undefined=StrictUndefined
        )
        self._pages.filters["moment"] = lambda seconds: time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
        self.app = self._build()

    def _build(self) -> FastAPI:
        app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
        app.mount("/static", StaticFiles(directory=_HERE / "static"))
        for method, path, route in (
            ("GET", "/login", self.login), ("GET", "/healthz", self.healthz), ("GET", "/", self.work),
            ("POST", "/unlock", self.unlock), ("POST", "/lock", self.lock), ("GET", "/desk", self.desk),
            ("POST", "/files", self.add_file), ("POST", "/send", self.send), ("POST", "/stop", self.stop),
            ("POST", "/clear", self.clear), ("GET", "/images/{identifier}", self.image),
            ("GET", "/images/{identifier}/values", self.values),
            ("GET", "/images/{identifier}/extractor.png", self.extractor_view),
            ("GET", "/images/{identifier}/report.{kind}.dcm", self.report),
            ("POST", "/images/{identifier}/store", self.store), ("GET", "/sent.png", self.sent),
            ("GET", "/history", self.history), ("GET", "/history/table", self.history_table),
            ("GET", "/history.csv", self.history_csv), ("GET", "/history.json", self.history_json),
            ("POST", "/history/erase", self.history_erase), ("GET", "/vault", self.vault),
            ("POST", "/vault", self.vault_work), ("GET", "/keys", self.keys), ("GET", "/checks", self.checks),
        ):  # fmt: skip
            app.add_api_route(path, route, methods=[method], response_model=None)
        app.add_exception_handler(Exception, self._defect)
        app.add_exception_handler(HeInferError, self._problem)
        app.add_middleware(Guard, access=self._access)
        return app

    # ---- entering -------------------------------------------------------------------------------------------------

    def login(self, request: Request, key: str = "") -> Response:
        """Exchange a login link for a session cookie."""
        cookie = self._access.enter(key) if key else None
        if cookie is None:
            return self._page(request, "login.html", status=403 if key else 200, spent=bool(key))
        answer = RedirectResponse("/", 303)
        answer.set_cookie(self._access.cookie_name, cookie, httponly=True, samesite="strict", path="/")
        return answer

    def healthz(self) -> Response:
        """Answer that the page runs."""
        return Response("ok", media_type="text/plain")

    def unlock(self, request: Request, passphrase: str = Form("")) -> Response:
        """Open the key file."""
        self._office.unlock(passphrase)
        return Response(status_code=204, headers={"HX-Redirect": "/"})

    def lock(self, request: Request) -> Response:
        """Close the key file, remove all images and end this session."""
        self._office.lock()
        self._access.leave(read_cookie(request.headers, self._access.cookie_name))
        return Response(status_code=204, headers={"HX-Redirect": "/login"})

    # ---- images ---------------------------------------------------------------------------------------------------

    def work(self, request: Request) -> Response:
        """The page with the list of images."""
        if self._office.locked:
            return self._page(request, "unlock.html", key=str(self._office.settings.key), problem="")
        return self._page(request, "work.html", here="/", **self._desk_values(self._office.desk))

    def desk(self, request: Request, seen: int = -1) -> Response:
        """The list of images, if it changed since `seen`."""
        if self._office.desk.version == seen:
            return Response(status_code=204)
        return self._page(request, "desk.html", **self._desk_values(self._office.desk))

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

    def send(self, request: Request) -> Response:
        """Start a run."""
        self._office.desk.send()
        return self.desk(request)

    def stop(self, request: Request) -> Response:
        """Stop the run after the current request."""
        self._office.desk.cancel()
        return self.desk(request)

    def clear(self, request: Request) -> Response:
        """Remove all images from the list."""
        self._office.desk.remove([item.id for item in self._office.desk.items])
        return self.desk(request)

    def image(self, request: Request, identifier: str) -> Response:
        """The page of one image with its result."""
        item = self._office.desk.item(identifier)
        sent = self._office.desk.sent
        receipt = item.result.receipt if item.result else None
        verdict = None if item.state is State.UNREADABLE else self._office.client.check(item.path)
        return self._page(
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

    # ---- history, vault, keys -------------------------------------------------------------------------------------

    def history(self, request: Request) -> Response:
        """Past results."""
        history = self._office.history
        return self._page(request, "history.html", here="/history", total=len(history), records=history.search())

    def history_table(self, request: Request, words: str = "") -> Response:
        """Past results that contain the words of the search."""
        return self._page(request, "history_table.html", records=self._office.history.search(words[:200]))

    def history_csv(self) -> Response:
        """All past results as CSV."""
        return Response(self._office.history.to_csv(), media_type="text/csv; charset=utf-8")

    def history_json(self) -> Response:
        """All past results as JSON."""
        return Response(self._office.history.to_json(), media_type="application/json")

    def history_erase(self, request: Request) -> Response:
        """Delete all past results."""
        self._office.history.erase()
        return self._page(request, "history_table.html", records=[])

    def vault(self, request: Request) -> Response:
        """The vault's form."""
        return self._page(request, "vault.html", here="/vault", vault_key=self._office.settings.vault_key)

    def vault_work(
        self,
        request: Request,
        verb: str = Form(),
        source: str = Form(),
        to: str = Form(""),
        key: str = Form(),
        passphrase: str = Form(),
    ) -> Response:
        """Run a command of the vault in a separate process, as in a terminal."""
        if self._office.locked:
            raise UsageError("The page is locked; unlock the key file first.")
        if verb not in ("protect", "restore", "verify"):
            raise UsageError("There is no such command of the vault.")
        if verb != "verify" and not to:
            raise UsageError(f"'{verb}' needs a folder to write to.")
        command = [sys.executable, "-m", "he_infer", verb, "--key", key]
        command += [] if verb == "verify" else ["--to", to]
        done = subprocess.run(  # noqa: S603 - our own program; paths stand after '--', so none is read as an option
            [*command, "--", source],
            capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, timeout=_VAULT_SECONDS,
            env={**os.environ, "HE_INFER_PASSPHRASE": passphrase, "NO_COLOR": "1", "COLUMNS": "100"},
        )  # fmt: skip
        said = (done.stdout + done.stderr).strip() or "Done."
        return self._page(request, "vault_said.html", verb=verb, ok=done.returncode == 0, said=said)

    def keys(self, request: Request) -> Response:
        """Key file, model, checks."""
        office = self._office
        return self._page(
            request, "keys.html", here="/keys", key=str(office.settings.key), keys=office.client.keys,
            model=office.client.model,
        )  # fmt: skip

    def checks(self, request: Request) -> Response:
        """Whether server and archive are ready for a run."""
        return self._page(request, "checks.html", checks=self._office.checks())

    # ---- shared ---------------------------------------------------------------------------------------------------

    def _page(self, request: Request, template: str, status: int = 200, **values: Any) -> HTMLResponse:
        state = request.scope.get("state", {})
        values = {"csrf": state.get("csrf", ""), "here": "", "problem": "", **values}
        return HTMLResponse(self._pages.get_template(template).render(values), status)

    def _desk_values(self, desk: Desk) -> dict[str, Any]:
        items = desk.items
        results = [item.result for item in items if item.result is not None]
        waiting = sum(item.state in (State.READY, State.REFUSED) for item in items)
        return {
            "version": desk.version, "items": items, "shown": items[:SHOWN], "job": desk.job, "ready": waiting,
            "studies": summarise(results),
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

    def _problem(self, request: Request, error: Exception) -> Response:
        """Show an error as one line: inside the page for a request by htmx, as plain text with status 400 otherwise."""
        line = explain(error) or "Internal error; see the terminal for details."
        headers = {"HX-Retarget": "#problem", "HX-Reswap": "textContent"}
        if "hx-request" in request.headers:
            return Response(line, media_type="text/plain; charset=utf-8", headers=headers)
        return Response(line, 400, media_type="text/plain; charset=utf-8")

    def _defect(self, request: Request, error: Exception) -> Response:
        line = explain(error)
        if line is None:
            return Response("Internal error; see the terminal for details.", 500, media_type="text/plain")
        return self._problem(request, error)


def _check_size(size: int, room: int) -> None:
    if size > room:
        raise UsageError(f"The file is larger than the {room / 1e6:.0f} MB that there is room for.")
