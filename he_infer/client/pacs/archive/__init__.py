"""An image archive over DICOMweb, with bounds on what it may answer; Orthanc's list of changes where there is one."""
