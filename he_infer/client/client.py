"""The public client: one object that classifies image files through a server that sees none of them."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from he_infer.client.connection.session import Session
from he_infer.client.images.array import ArrayImage
from he_infer.client.images.find import find_images
from he_infer.client.images.reader import Frames, ImageReader, ReadImage
from he_infer.client.key_registration import prove_keys, register_keys
from he_infer.client.key_rotation import prune_keys, rotate_keys
from he_infer.client.keys.key_file import KeyFile
from he_infer.client.keys.wrappings.wrapping import Unlock
from he_infer.client.model import ClientModel
from he_infer.client.profiles import Profile
from he_infer.client.results import Result
from he_infer.client.run import IN_FLIGHT, Progress, Run, RunOptions, find_unlike
from he_infer.client.served_model import ServedModel
from he_infer.errors import UsageError

Images = str | Path | ArrayImage | Iterable[str | Path | ArrayImage]
"""Image files, folders of them, and images in memory; or one of these alone."""


class Client:
    """Classifies image files with one model of one server, under one key file.

    Images, features, scores and the secret key stay in this process and its decoders. A call returns a label and
    probabilities of at most three digits.

        with Client("https://cloud.example:8443", model="chest.client.hebundle", key="hospital.key",
                    passphrase=passphrase, token=token) as client:
            for result in client.iterate("scans/"):
                print(result.path, result.label, result.probability)

    Args:
        server_url: the server's address; plain http only to loopback, unless `insecure_http`.
        model: the client's part of a published model, or a whole bundle.
        key: the key file, from `he-infer keys new`.
        passphrase: opens the key file; for other ways to open it see `he_infer.client.keys.wrappings`.
        token: the bearer token that the server's operator gave (`hei_...`).
        ca_file: PEM file of the authority behind the server's certificate, where the system does not know it.
        client_cert: PEM file with a certificate and its key, for a server that asks for one.
        insecure_http: allow plain http to other hosts: anybody on the network path can read the token.
        accept_new_server_key: replace the pinned signing key by the one that the server states now.
        canaries: test questions for each image; None: at least one in the first request; 0: none.
        even_if_unlike: also classify images that the model's guard finds unlike its training images, with a remark;
            otherwise their result is a refusal with the reason.
        frames: frames to take from a multi-frame file: "middle", "all", or a frame number from 0.
        in_flight: number of requests sent at the same time.
        decoders: number of processes that decode image files.
        patience: seconds for which a request to a busy or restarting server is repeated.

    Raises:
        FormatError, KeyProblem, OSError: model or key file cannot be used.
        NotAuthentic: the model is not of the publisher, or the server not of the signing key, that the key file pins.
        UsageError, ServerError: the server does not offer the model, or cannot be reached.
    """

    def __init__(
        self,
        server_url: str,
        *,
        model: str | Path,
        key: str | Path,
        passphrase: str | Unlock,
        token: str,
        ca_file: str | Path | None = None,
        client_cert: str | Path | None = None,
        insecure_http: bool = False,
        accept_new_server_key: bool = False,
        canaries: float | None = None,
        frames: Frames = "middle",
        even_if_unlike: bool = False,
        in_flight: int = IN_FLIGHT,
        decoders: int = 2,
        patience: float = 30.0,
    ) -> None:
        self.model = ClientModel.load(Path(model))
        self._keys = KeyFile.load(Path(key), passphrase)
        self._keys.check_publisher(self.model.path, self.model.publisher)
        self._options = RunOptions(frames, canaries, in_flight, even_if_unlike)
        self.session = Session(
            server_url,
            token,
            ca_file=None if ca_file is None else Path(ca_file),
            client_cert=None if client_cert is None else Path(client_cert),
            server_key=None if accept_new_server_key else self._keys.server_key,
            insecure_http=insecure_http,
            patience=patience,
        )
        self._reader = ImageReader(decoders)
        self._served: ServedModel | None = None
        self._key_path = Path(key)
        self._accept = accept_new_server_key

    @classmethod
    def from_profile(cls, name: str, *, passphrase: str | Unlock, config: Path | None = None, **options: Any) -> Self:
        """Make a client from a profile of the configuration file; see `he_infer.client.profiles`.

        Args:
            name: the profile's name.
            passphrase: opens the profile's key file.
            config: configuration file; by default the platform's.
            options: further arguments of `Client`; they override the profile.

        Raises:
            UsageError: there is no such profile, or it lacks address, model, key or token file.
            Also everything that `Client` raises.
        """
        profile = Profile.load(name, config)
        if profile.url is None or profile.bundle is None or profile.key is None or profile.token_file is None:
            raise UsageError(f"The profile '{name}' needs url, bundle, key and token_file for a client.")
        if missing := profile.missing_files():
            raise UsageError(f"The profile '{name}' names a file that is not there: {missing[0][0]} = {missing[0][1]}.")
        token = profile.token_file.read_text(encoding="utf-8-sig").strip()
        certificates = {"ca_file": profile.ca_file, "client_cert": profile.client_cert}
        given = {"model": profile.bundle, "key": profile.key, "token": token, **certificates, **options}
        return cls(profile.url, passphrase=passphrase, **given)

    def classify(self, paths: Images, on_progress: Progress | None = None) -> list[Result]:
        """Classify files and folders. Gives one result for each image, in a stable order.

        A file that is named twice is classified once. One that does not exist is a result with the reason, as is every
        other that cannot be read.

        Args:
            paths: image files, folders of them, and images in memory, whose results come last.
            on_progress: called with the number of images done and their total.

        Raises:
            ImageError: no path exists, or there is no file.
            UsageError: something else than paths and `ArrayImage` is given.
            WrongAnswer, NotAuthentic, ServerError: see `Run`.
        """
        return list(self.start(paths, on_progress))

    def iterate(self, paths: Images, on_progress: Progress | None = None) -> Iterator[Result]:
        """Give the results one after another as they come. If it raises an error, discard all earlier results.

        Raises as `classify` does.
        """
        return iter(self.start(paths, on_progress))

    def start(
        self,
        paths: Images,
        on_progress: Progress | None = None,
        *,
        on_sent: Callable[[Sequence[bytes]], None] | None = None,
    ) -> Run:
        """Start a run over files and folders. Iterate over it once; its `report` holds costs and receipts.

        Args:
            paths: image files, folders of them, and images in memory, whose results come last.
            on_progress: called with the number of images done and their total.
            on_sent: called with the ciphertexts of each request, to show exactly what is sent from this machine.

        Raises as `classify` does.
        """
        given = _list_images(paths)
        arrays = [path for path in given if isinstance(path, ArrayImage)]
        named = [Path(path) for path in given if not isinstance(path, ArrayImage)]
        files = find_images(named) if named or not arrays else []
        return Run(
            self.session,
            self.model,
            self.served,
            self._keys.secret_key,
            self._keys.key_set,
            self._reader,
            [*files, *arrays],
            replace(self._options, on_sent=on_sent),
            on_progress,
        )

    def read(self, path: Path) -> ReadImage:
        """Decode the first frame that `classify` would take from a file, in a separate process. Nothing is sent."""
        return self._reader.read(path, self._options.frames)[0]

    def check(self, path: Path) -> str | None:
        """Reason why `classify` would refuse the first frame of a file; None if it would send it. Nothing is sent."""
        from models.errors import ModelsError

        image = self.read(path)
        if image.pixels is None:
            return image.refusal
        try:
            features = self.model.feature_model.features([image.pixels])[0].astype(np.float64)
        except ModelsError as error:
            return " ".join(str(error).split())
        return find_unlike(self.model, image, features)

    @property
    def keys(self) -> KeyFile:
        """The opened key file."""
        return self._keys

    @property
    def served(self) -> ServedModel:
        """The server's model, checked against the client's own.

        Raises:
            UsageError, NotAuthentic, ProtocolMismatch, ServerError: see `ClientModel.expect`.
        """
        if self._served is None:
            if self._accept:
                self._keys = self._keys.pinned(self.session.server_key, accept_new=True)
                self._keys.save(self._key_path, update=True)
                self._accept = False
            self._served = self.model.expect(self.session.models())
        return self._served

    def rotate_keys(self, overlap_seconds: float) -> None:
        """Replace the secret keys by fresh ones. A run that is under way goes on with the keys that it began with.

        Args:
            overlap_seconds: time for which the server keeps the present key set; see `rotate_keys`.

        Raises as `rotate_keys` and `prune_keys` do.
        """
        self._keys = rotate_keys(self.session, self._keys, self._key_path, overlap_seconds)
        self._keys = prune_keys(self.session, self._keys, self._key_path)

    def register_keys(self) -> int:
        """Register what the server lacks of the key set, and ask test questions; returns the number of questions.

        Raises as `register_keys` and `prove_keys` do.
        """
        register_keys(self.session, self._keys)
        return prove_keys(self.session, self._keys, self.model, self.served)

    def close(self) -> None:
        """Close connections and end the decoding processes."""
        self.session.close()
        self._reader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _list_images(given: Images) -> list[str | Path | ArrayImage]:
    """List what `Client.classify` was given.

    Raises:
        UsageError: it is neither a path nor an `ArrayImage`, nor an iterable of them.
    """
    if isinstance(given, str | bytes | os.PathLike | ArrayImage) or not isinstance(given, Iterable):
        listed: list[Any] = [given]
    else:
        listed = list(given)
    for one in listed:
        if not isinstance(one, str | os.PathLike | ArrayImage):
            raise UsageError(
                f"An image was given as {type(one).__name__}. Expected paths, or arrays as ArrayImage(name, pixels)."
            )
    return listed
