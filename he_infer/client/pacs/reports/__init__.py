"""Results as DICOM objects that a viewer shows: Structured Reports (TID 1500) and Encapsulated PDFs of one page."""
