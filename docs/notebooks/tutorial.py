# ---
# jupyter:
#   jupytext:
#     formats: py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Classify images that the cloud never sees
#
# This notebook plays three roles on one machine: the **model owner** trains and publishes a model in two parts, the
# **cloud** serves the part with the head, the **hospital** classifies its images with the part without it. It needs
# `pip install '.[notebook]'` and nothing from the network.

# %%
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from he_infer import ArrayImage, Client, make_key_file
from he_infer.head.bundle_file import BundleFile
from he_infer.local_server import LocalServer
from he_infer.owner.publish import publish
from models import datasets
from models.training.train import Recipe, train

work = Path(tempfile.mkdtemp(prefix="he-infer-tutorial-"))
epochs = 10  # more passes give a better model

# %% [markdown]
# ## The images
#
# Patches of real CT, MR, ultrasound and radiograph images that come with the packages. The question is which kind of
# scanner made them. There are 17 patients; none of them is in both training and test.

# %%
data = datasets.load("modality")
for note in data.notes:
    print(note)
figure, axes = plt.subplots(1, 4, figsize=(8, 2.2))
for label, axis in enumerate(axes):
    axis.imshow(data.test.images[np.flatnonzero(data.test.labels == label)[0]], cmap="gray")
    axis.set_title(data.classes[label])
    axis.axis("off")

# %% [markdown]
# ## The owner trains and publishes
#
# Both parts are signed. The hospital's part holds the extractor and no head; the cloud's part holds the head alone.

# %%
bundle = train(data, recipe=Recipe(epochs=epochs, towers=1))
bundle.save(work / "model.hebundle")
published = publish(BundleFile.load(work / "model.hebundle"), Ed25519PrivateKey.generate(), batches=[16])
published.client.save(work / "model.client.hebundle")
published.server.save(work / "model.server.hebundle")
print(f"{published.plans[0].parameters}; scores were off by {published.trial_errors[0]:.1e} at most")

# %% [markdown]
# ## The cloud serves, the hospital makes keys
#
# Secret keys stay in the key file. The cloud gets evaluation keys, which decrypt nothing.

# %%
server = LocalServer([work / "model.server.hebundle"], work / "cloud").start()
part, key, words = work / "model.client.hebundle", work / "hospital.key", "a long passphrase"
made = make_key_file(key, words, server_url=server.url, model=part, token=server.token)
print(f"{made.registered_bytes / 1e6:.1f} MB of evaluation keys registered")

# %% [markdown]
# ## The hospital classifies
#
# `Client` takes files, folders, and arrays. What leaves this process is ciphertext.

# %%
count = 32
chosen = np.random.default_rng(0).permutation(len(data.test))[:count]
images = [ArrayImage(f"patch {index}", data.test.images[index]) for index in chosen]
sent = []
with Client(server.url, model=part, key=key, passphrase=words, token=server.token) as client:
    run = client.start(images, on_sent=lambda parts: sent.append(b"".join(parts)))
    results = list(run)
for result in results[:5]:
    print(result.path, result.label or result.refusal, result.probability)

# %% [markdown]
# ## The same in clear
#
# The owner has the whole model, so the labels can be compared.

# %%
clear = bundle.scores(bundle.features(data.test.images[chosen])).argmax(axis=1)
agree = np.mean([result.label == data.classes[label] for result, label in zip(results, clear, strict=True)])
right = np.mean(clear == data.test.labels[chosen])
print(f"{agree:.0%} of the labels are those computed in clear; {right:.0%} of those are right")
print(
    f"{run.report.requests} requests, {run.report.bytes_up / 1e3:.0f} KB up, {run.report.bytes_down / 1e3:.0f} KB down"
)

# %% [markdown]
# ## What the cloud saw
#
# The bytes of a request as a picture, and their histogram: noise.

# %%
noise = np.frombuffer(sent[0][1000 : 1000 + 128 * 128], dtype=np.uint8)
figure, (left, right_axis) = plt.subplots(1, 2, figsize=(7, 2.6))
left.imshow(noise.reshape(128, 128), cmap="gray")
left.axis("off")
right_axis.hist(noise, bins=64)
right_axis.set_xlabel("byte")

# %% [markdown]
# ## An image of another kind
#
# The guard compares features with those of the training images, before anything is encrypted. With nine patients its
# threshold is wide; noise is beyond it.

# %%
strange = np.random.default_rng(0).integers(0, 65536, (64, 64), dtype=np.uint16)
with Client(server.url, model=part, key=key, passphrase=words, token=server.token) as client:
    (refused,) = client.classify([ArrayImage("noise", strange)])
print(refused.label or refused.refusal)

# %%
server.stop()
