"""The paper's figures and systems, each run on real images: `he-experiments paper ITEM`."""
