"""Files from the web: fetched with resume, checked, and unpacked safely."""
