"""Sealed images as DICOM objects that any archive stores."""
