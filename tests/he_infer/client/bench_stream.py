"""Measures the overlap of the stages of `classify`: a whole run against each stage alone, in one process.

    python -m tests.he_infer.client.bench_stream [IMAGES]

Makes PNG files of 512 x 512, a network of the default size with random weights and a head 512 -> 64 -> x^2 -> 2,
publishes both in two parts, starts a server, and prints seconds. Not a test: no figure passes or fails.
"""

import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from PIL import Image

from he_infer import Client
from he_infer.ckks.packing import pack
from he_infer.client.connection.session import Session
from he_infer.client.images.reader import ImageReader
from he_infer.client.key_registration import register_keys
from he_infer.client.keys.key_file import KeyFile
from he_infer.client.model import ClientModel
from he_infer.client.run import IN_FLIGHT, choose_plan
from he_infer.client.verify.scores import open_scores
from he_infer.head.layers import Head, Linear, Polynomial
from he_infer.local_server import LocalServer
from he_infer.owner.publish import publish
from models.bundle import Bundle
from models.extractors.cnn import Cnn, CnnConfig
from models.extractors.export import export
from models.images.preprocessing import Preprocessing

SIDE, NETWORK_SIDE, WIDTH, WORDS = 512, 64, 512, "a passphrase for a benchmark"


def make_model(folder: Path) -> tuple[Path, Path]:
    """Make both parts of a model with random weights."""
    torch.manual_seed(1)
    rng = np.random.default_rng(1)
    first = Linear(rng.normal(0, 0.05, (64, WIDTH)), rng.normal(0, 0.1, 64))
    last = Linear(rng.normal(0, 0.1, (2, 64)), rng.normal(0, 0.1, 2))
    bundle = Bundle(
        name="bench",
        classes=("no finding", "finding"),
        preprocessing=Preprocessing.plain(NETWORK_SIDE, 1),
        extractor=export(
            Cnn(CnnConfig(in_channels=1, size=NETWORK_SIDE, width=WIDTH, bound=1.0)), channels=1, size=NETWORK_SIDE
        ),
        head=Head((first, Polynomial((0.0, 0.0, 1.0)), last)),
        input_bound=1.0,
    )
    published = publish(bundle.to_file(), Ed25519PrivateKey.generate())
    parts = folder / "bench.client.hebundle", folder / "bench.server.hebundle"
    published.client.save(parts[0])
    published.server.save(parts[1])
    return parts


def make_images(folder: Path, count: int) -> list[Path]:
    """Write grey PNG files of 512 x 512, smooth with noise like a scan."""
    rng = np.random.default_rng(2)
    folder.mkdir()
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    paths = [folder / f"{number:04d}.png" for number in range(count)]
    for path in paths:
        pixels = 120 + 80 * np.sin(9 * x + rng.uniform(0, 6)) * np.cos(7 * y) + rng.normal(0, 4, (SIDE, SIDE))
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(path)
    return paths


def main() -> None:
    """Print the stages alone, the whole, and the ratio of the whole to the slowest stage."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 300
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        part, served = make_model(folder)
        images = make_images(folder / "scans", count)
        model = ClientModel.load(part)
        with LocalServer([served], folder / "data") as server, Session(server.url, server.token) as session:
            offer = model.expect(session.models())
            keys = KeyFile.new(offer.plans, server_key=session.server_key, publisher=model.publisher)
            keys.save(folder / "k.key", WORDS)
            register_keys(session, keys)
            alone: dict[str, float] = {}
            with ImageReader() as reader, ThreadPoolExecutor(reader.processes) as pool:
                reader.read(images[0])
                began = time.perf_counter()
                frames = [read[0].pixels for read in pool.map(reader.read, images)]
                alone["reading"] = time.perf_counter() - began
            pixels = [frame for frame in frames if frame is not None]
            began = time.perf_counter()
            features = model.feature_model.features(pixels).astype(np.float64)
            alone["extraction"] = time.perf_counter() - began
            plan = choose_plan(offer.plans, count)
            secret = keys.secret_key(plan)
            blocks = [features[start : start + plan.batch] for start in range(0, count, plan.batch)]
            began = time.perf_counter()
            sent = [secret.encrypt(pack(plan, block), plan.input_scale) for block in blocks]
            alone["encryption"] = time.perf_counter() - began
            began = time.perf_counter()
            with ThreadPoolExecutor(IN_FLIGHT) as pool:
                answers = list(pool.map(lambda parts: session.classify(offer, plan, keys.key_set, parts), sent))
            alone["server"] = time.perf_counter() - began
            began = time.perf_counter()
            for answer, block in zip(answers, blocks, strict=True):
                open_scores(secret, plan, answer.parts, len(block))
            alone["decryption"] = time.perf_counter() - began
            with Client(
                server.url, model=part, key=folder / "k.key", passphrase=WORDS, token=server.token, even_if_unlike=True
            ) as client:
                client.classify(images[:4])  # decoders and connections are open, as in a second run
                run = client.start(images)
                results = list(run)
    slowest = max(alone, key=lambda stage: alone[stage])
    print(f"{count} PNG images of {SIDE} x {SIDE}, plan for {plan.batch} images a request; seconds alone:")
    print("  " + ", ".join(f"{stage} {seconds:.2f}" for stage, seconds in alone.items()))
    print(
        f"whole run {run.report.seconds:.2f} s, {sum(result.classified for result in results)} classified: "
        f"{run.report.seconds / alone[slowest]:.2f} times the slowest stage ({slowest}), "
        f"{run.report.seconds / sum(alone.values()):.2f} times their sum"
    )


if __name__ == "__main__":
    main()
