"""Access to an image archive by DICOMweb with limits on its answers, and to the list of changes of an Orthanc."""
