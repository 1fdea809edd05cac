"""Routes of history, vault, keys, checks and profiles."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from fastapi import Form, Request
from fastapi.responses import Response

from he_infer.client.console.office import Office
from he_infer.client.console.rendering import Renderer, cut
from he_infer.client.profiles import Profile, find_config, read_profiles, remove_profile, save_profile
from he_infer.errors import HeInferError, UsageError
from he_infer.publication.parts import fingerprint

_VAULT_SECONDS = 3600
_DAY = 24 * 3600.0
_MOST_DAYS = 366.0


class OfficeRoutes:
    """Routes of history, vault, keys, checks and profiles.

    Args:
        office: the page's state.
        show: renders templates.
    """

    def __init__(self, office: Office, show: Renderer) -> None:
        self._office, self._show = office, show
        self.table = (
            ("GET", "/history", self.history), ("GET", "/history/table", self.history_table),
            ("GET", "/history.csv", self.history_csv), ("GET", "/history.json", self.history_json),
            ("POST", "/history/erase", self.history_erase), ("GET", "/vault", self.vault),
            ("POST", "/vault", self.vault_work), ("GET", "/keys", self.keys), ("POST", "/keys/new", self.keys_new),
            ("POST", "/keys/rotate", self.keys_rotate), ("POST", "/keys/register", self.keys_register),
            ("GET", "/checks", self.checks), ("GET", "/profiles", self.profiles),
            ("POST", "/profiles/save", self.profiles_save), ("POST", "/profiles/remove", self.profiles_remove),
            ("POST", "/profiles/use", self.profiles_use),
        )  # fmt: skip

    def history(self, request: Request) -> Response:
        """Past results."""
        history = self._office.history
        return self._show.page(
            request, "history.html", here="/history", total=len(history), shown=cut(history.search(), 1), words=""
        )

    def history_table(self, request: Request, words: str = "", page: int = 1) -> Response:
        """A portion of the past results that contain the words of the search."""
        found = self._office.history.search(words[:200])
        return self._show.page(request, "history_table.html", shown=cut(found, page))

    def history_csv(self) -> Response:
        """All past results as CSV."""
        return Response(self._office.history.to_csv(), media_type="text/csv; charset=utf-8")

    def history_json(self) -> Response:
        """All past results as JSON."""
        return Response(self._office.history.to_json(), media_type="application/json")

    def history_erase(self, request: Request) -> Response:
        """Delete all past results."""
        self._office.history.erase()
        return self._show.page(request, "history_table.html", shown=cut([], 1))

    def vault(self, request: Request) -> Response:
        """The vault's form."""
        return self._show.page(request, "vault.html", here="/vault", vault_key=self._office.settings.vault_key)

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
        return self._show.page(request, "vault_said.html", verb=verb, ok=done.returncode == 0, said=said)

    def keys(self, request: Request) -> Response:
        """Key file, model, checks."""
        office = self._office
        return self._show.page(
            request, "keys.html", here="/keys", key=str(office.settings.key), keys=office.client.keys,
            model=office.client.model, url=office.settings.url, said="", fingerprint=fingerprint,
        )  # fmt: skip

    def keys_new(
        self, request: Request, passphrase: str = Form(""), again: str = Form(""), path: str = Form("")
    ) -> Response:
        """Make a key file: the one that the page was started with if it is missing, or another one."""
        office = self._office
        if not path:
            office.make_keys(office.settings.key, passphrase, again)
            return Response(status_code=204, headers={"HX-Redirect": "/"})
        keys = office.make_keys(Path(path).expanduser(), passphrase, again)
        said = f"{path} holds the key set {keys.key_set}, which is registered and answered its test questions rightly."
        return self._show.page(request, "said.html", said=f"{said} To work with it, save a profile that names it.")

    def keys_rotate(self, request: Request, days: float = Form(7.0)) -> Response:
        """Replace the secret keys by fresh ones."""
        if not 0 <= days <= _MOST_DAYS:
            raise UsageError(f"The overlap is {days:g} days; expected 0 to {_MOST_DAYS:g}.")
        before = self._office.client.keys.key_set
        self._office.rotate_keys(days * _DAY)
        return self._key_card(request, f"Rotated: the server keeps the key set {before} for {days:g} days.")

    def keys_register(self, request: Request) -> Response:
        """Register what the server lacks of the key set, and ask test questions."""
        asked = self._office.client.register_keys()
        return self._key_card(request, f"Registered; {asked} test questions were answered rightly.")

    def checks(self, request: Request) -> Response:
        """The doctor's checks of machine, files, server and archive."""
        return self._show.page(request, "checks.html", checks=list(self._office.checks()))

    def profiles(self, request: Request) -> Response:
        """The profiles of the configuration file."""
        return self._show.page(request, "profiles.html", here="/profiles", **self._profile_values())

    def profiles_save(
        self,
        request: Request,
        name: str = Form(""),
        url: str = Form(""),
        bundle: str = Form(""),
        key: str = Form(""),
        token_file: str = Form(""),
        ca_file: str = Form(""),
        client_cert: str = Form(""),
    ) -> Response:
        """Add a profile, or replace the one of this name."""
        members = {
            "url": url, "bundle": bundle, "key": key, "token_file": token_file, "ca_file": ca_file,
            "client_cert": client_cert,
        }  # fmt: skip
        save_profile(find_config(), name.strip(), {member: value.strip() for member, value in members.items()})
        return self._show.page(request, "profile_list.html", **self._profile_values())

    def profiles_remove(self, request: Request, name: str = Form()) -> Response:
        """Remove a profile."""
        remove_profile(find_config(), name)
        return self._show.page(request, "profile_list.html", **self._profile_values())

    def profiles_use(self, name: str = Form()) -> Response:
        """Lock the page, and work with a profile from now on."""
        self._office.switch(Profile.load(name))
        return Response(status_code=204, headers={"HX-Redirect": "/"})

    def _key_card(self, request: Request, said: str) -> Response:
        office = self._office
        return self._show.page(
            request, "key_card.html", key=str(office.settings.key), keys=office.client.keys, url=office.settings.url,
            said=said, fingerprint=fingerprint,
        )  # fmt: skip

    def _profile_values(self) -> dict[str, Any]:
        path, trouble, found = find_config(), "", {}
        if path.exists():
            try:
                found = read_profiles(path)
            except HeInferError as error:
                trouble = " ".join(str(error).split())
        return {
            "config": str(path), "profiles": list(found.values()), "trouble": trouble,
            "present": self._office.settings.profile, "settings": self._office.settings,
        }  # fmt: skip
