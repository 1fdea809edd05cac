"""The client's connection to an image archive: DICOM reports, DICOMweb, the storage SCP, the watcher and its journal.

It calls the public `Client` and knows nothing of ciphertexts, plans or keys. It needs the extra `pacs`.
"""
