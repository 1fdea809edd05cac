"""Classification sets: MedMNIST files, image folders, DICOM folders, and the modality set from pydicom."""
