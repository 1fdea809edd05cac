"""The archive's side of the client: reports as DICOM objects, DICOMweb, the storage SCP, the watcher and its journal.

It calls the public `Client` and knows nothing of ciphertexts, plans or keys. Everything here needs the extra `pacs`.
"""
