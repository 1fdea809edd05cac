"""The web application of the page: entering, locking, errors; `image_routes` and `office_routes` hold the rest."""

from fastapi import FastAPI, Form, Request
from fastapi.responses import RedirectResponse, Response
from fastapi.staticfiles import StaticFiles

from he_infer.client.console.access import Access, Guard, read_cookie
from he_infer.client.console.image_routes import ImageRoutes
from he_infer.client.console.office import Locked, Office
from he_infer.client.console.office_routes import OfficeRoutes
from he_infer.client.console.rendering import HERE, Renderer
from he_infer.errors import HeInferError
from he_infer.terminal import explain


class Console:
    """The web application and its parts.

    Args:
        office: the page's state, locked or open.
        access: access control.
    """

    def __init__(self, office: Office, access: Access) -> None:
        self._office, self._access = office, access
        self._show = Renderer()
        self.app = self._build()

    def _build(self) -> FastAPI:
        app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
        app.mount("/static", StaticFiles(directory=HERE / "static"))
        for method, path, route in (
            ("GET", "/login", self.login), ("GET", "/healthz", self.healthz), ("POST", "/unlock", self.unlock),
            ("POST", "/lock", self.lock), *ImageRoutes(self._office, self._show).table,
            *OfficeRoutes(self._office, self._show).table,
        ):  # fmt: skip
            app.add_api_route(path, route, methods=[method], response_model=None)
        app.add_exception_handler(Exception, self._defect)
        app.add_exception_handler(Locked, self._locked)
        app.add_exception_handler(HeInferError, self._problem)
        app.add_middleware(Guard, access=self._access)
        return app

    def login(self, request: Request, key: str = "") -> Response:
        """Exchange a login link for a session cookie."""
        cookie = self._access.enter(key) if key else None
        if cookie is None:
            return self._show.page(request, "login.html", status=403 if key else 200, spent=bool(key))
        answer = RedirectResponse("/", 303)
        answer.set_cookie(self._access.cookie_name, cookie, httponly=True, samesite="strict", path="/")
        return answer

    def healthz(self) -> Response:
        """Answer that the page runs."""
        return Response("ok", media_type="text/plain")

    def unlock(self, passphrase: str = Form(""), way: str = Form("passphrase")) -> Response:
        """Open the key file."""
        self._office.unlock(self._office.choose_unlock(way, passphrase))
        return Response(status_code=204, headers={"HX-Redirect": "/"})

    def lock(self, request: Request) -> Response:
        """Close the key file, remove all images and end this session."""
        self._office.lock()
        self._access.leave(read_cookie(request.headers, self._access.cookie_name))
        return Response(status_code=204, headers={"HX-Redirect": "/login"})

    def _locked(self, request: Request, error: Exception) -> Response:
        """Lead to the form that unlocks the page: a page opened by hand, and a part that htmx asked for."""
        if "hx-request" in request.headers:
            return Response(status_code=204, headers={"HX-Redirect": "/"})
        if request.method == "GET":
            return RedirectResponse("/", 303)
        return self._problem(request, error)

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
